"""The tensor contract with the models: a generation to a Triton request, a Triton response to text."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from adapter.errors import BrokenAnswer, Cancelled

_BACKGROUND = 2
"""Priority level of the ocr model's queue; 1 is everybody else's."""
_FINISH_REASONS = {"": None} | {reason: reason for reason in ("stop", "length", "tool_calls", "repetition")}
_SAID = ("text_output", "finish_reason", "logprobs", "reasoning_content", "tool_calls")
"""What a choice may say; without any of it, a response is about no choice."""
_COUNTED = ("input", "output", "cached", "reasoning")


@dataclass(frozen=True, slots=True)
class Chat:
    """JSON `{"messages": [...]}` and how to answer, as in the engine's `Chat`; the model turns it into a prompt."""

    json: bytes


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One generation. `prompt` is raw text, token ids, or a chat; `sampling_parameters` is JSON in vLLM's names.

    `images` are encoded images, in the order of the prompt's `<image>`s; `image_parameters` is JSON, how to read them:
    `{"mode": "gundam"}` or `{"base_size": 1024, "image_size": 640, "crop_mode": true}`.
    """

    id: str
    model: str
    prompt: str | list[int] | Chat
    sampling_parameters: bytes
    num_choices: int
    stream: bool
    """Whether the client reads it as it comes, and so waits for its first response only so long."""
    images: Sequence[bytes] = ()
    image_parameters: bytes | None = None
    is_background: bool = False
    """Whether requests that somebody waits for may go first."""
    suffix: str | None = None
    """What follows the gap that a raw text precedes and the answer fills."""
    continuous_usage: bool = False
    """Whether each response has the usage so far, and not the last one alone; there are several then in any case."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Something else than a generation: the tokens of a prompt, the text of tokens, or a prompt's embedding."""

    id: str
    model: str
    task: Literal["tokenize", "detokenize", "embed"]
    prompt: str | list[int] | Chat
    add_special_tokens: bool | None = None
    """With a text to tokenize; None: as the model has it."""


@dataclass(frozen=True, slots=True)
class Embedding:
    values: bytes
    """float32, little-endian."""
    num_input_tokens: int

    @property
    def size(self) -> int:
        return len(self.values) // 4


@dataclass(slots=True)
class TopLogprob:
    token: str
    bytes: list[int]
    logprob: float


@dataclass(slots=True)
class TokenLogprob:
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[TopLogprob]


@dataclass(slots=True)
class PromptToken:
    """One of a prompt's tokens; the first has no log probabilities, for nothing precedes it.

    There may be very many: it holds nothing that the garbage collector would look through.
    """

    token: str
    bytes: bytes
    logprob: float | None
    top_logprobs: dict[str, float] | None
    """Of the likeliest in its place, and of itself; where some are written alike, of the likeliest."""


@dataclass(slots=True)
class CallDelta:
    """What a response adds to one of a choice's calls: first its function's name, then its arguments' JSON."""

    index: int
    name: str | None
    arguments: str


@dataclass(slots=True)
class Delta:
    """What a response adds to one choice; `finish_reason` only on the choice's last."""

    choice_index: int
    text: str
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    calls: Sequence[CallDelta] = ()
    stop_string: str | None = None
    """Which one ended the choice, where one did."""
    prompt_tokens: list[PromptToken] | None = None
    """Some of them, where their log probabilities are asked for: nothing else then, and before the generation's first
    text."""


@dataclass(slots=True)
class Usage:
    num_input_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    num_reasoning_tokens: int = 0
    """Of the output."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.num_input_tokens + other.num_input_tokens,
            self.num_output_tokens + other.num_output_tokens,
            self.num_cached_tokens + other.num_cached_tokens,
            self.num_reasoning_tokens + other.num_reasoning_tokens,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.num_input_tokens - other.num_input_tokens,
            self.num_output_tokens - other.num_output_tokens,
            self.num_cached_tokens - other.num_cached_tokens,
            self.num_reasoning_tokens - other.num_reasoning_tokens,
        )


@dataclass(slots=True)
class Generated:
    """One response of a model; `usage`, so far, on the generation's last, and on the others where it is asked for."""

    deltas: list[Delta]
    usage: Usage | None = None


def encode(request: InferRequest) -> ModelInferRequest:
    message = ModelInferRequest(model_name=request.model, id=request.id)
    if request.is_background:
        message.parameters["priority"].uint64_param = _BACKGROUND
    _add_prompt(message, request.prompt)
    if request.suffix is not None:
        _add(message, "suffix", "BYTES", _bytes(request.suffix.encode()))
    if not isinstance(request.prompt, Chat):
        _add(message, "exclude_input_in_output", "BOOL", b"\x01")
    if request.images:
        _add(message, "image", "BYTES", b"".join(map(_bytes, request.images)), len(request.images))
    if request.image_parameters is not None:
        _add(message, "image_parameters", "BYTES", _bytes(request.image_parameters))
    _add(message, "stream", "BOOL", bytes([request.stream or request.continuous_usage]))
    if request.continuous_usage:
        _add(message, "continuous_usage", "BOOL", b"\x01")
    _add(message, "sampling_parameters", "BYTES", _bytes(request.sampling_parameters))
    return message


def encode_feed(model: str, name: str) -> ModelInferRequest:
    """Opens a feed."""
    message = ModelInferRequest(model_name=model)
    _add(message, "feed", "BYTES", _bytes(name.encode()))
    return message


def put_on_feed(message: ModelInferRequest, name: str, number: int) -> None:
    """Let what a generation says come on a feed."""
    _add(message, "feed", "BYTES", _bytes(name.encode()))
    _add(message, "feed_number", "UINT32", number.to_bytes(4, "little"))


def encode_describe(model: str) -> ModelInferRequest:
    """Asks a model what it is; the answer is JSON in `text_output`."""
    message = ModelInferRequest(model_name=model)
    _add(message, "describe", "BOOL", b"\x01")
    return message


def encode_task(request: TaskRequest) -> ModelInferRequest:
    message = ModelInferRequest(model_name=request.model, id=request.id)
    _add(message, "task", "BYTES", _bytes(request.task.encode()))
    _add_prompt(message, request.prompt)
    if request.add_special_tokens is not None:
        _add(message, "add_special_tokens", "BOOL", bytes([request.add_special_tokens]))
    return message


def decode_embedding(response: ModelInferResponse) -> Embedding:
    """Raises as `decode` does."""
    usage = decode(response).usage
    for output, content in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == "embedding" and usage is not None and content and len(content) % 4 == 0:
            return Embedding(content, usage.num_input_tokens)
    raise BrokenAnswer("a response breaks the tensor contract: it has no embedding")


def decode(response: ModelInferResponse) -> Generated:
    """Raises `BrokenAnswer` for what breaks the contract, `Cancelled` for a choice that the model gave up."""
    outputs, contents = response.outputs, response.raw_output_contents
    try:
        if len(outputs) == 1 and outputs[0].name == "text_output":  # most responses are this
            (only,) = _strings(contents[0])
            return Generated([Delta(0, only)])
        tensors: dict[str, bytes] = {output.name: contents[i] for i, output in enumerate(outputs)}
        return Generated(_deltas(tensors), _usage(tensors))
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise BrokenAnswer(f"a response breaks the tensor contract: {error!r}") from error


def decode_fed(response: ModelInferResponse) -> list[tuple[int, Generated]]:
    """What a feed's response says, each with the number of the generation that it is of.

    Raises:
        BrokenAnswer: it breaks the contract.
    """
    try:
        tensors = {output.name: response.raw_output_contents[i] for i, output in enumerate(response.outputs)}
        numbers, texts = _integers(tensors["feed_number"]), _strings(tensors["text_output"])
        fed = [(number, Generated([Delta(0, text)])) for number, text in zip(numbers, texts, strict=True)]
        if "reasoning_content" in tensors:
            for (_, generated), thought in zip(fed, _strings(tensors["reasoning_content"]), strict=True):
                generated.deltas[0].reasoning = thought
        if "num_output_tokens" in tensors:
            none = bytes(len(tensors["feed_number"]))
            columns = [_integers(tensors.get(f"num_{kind}_tokens", none)) for kind in _COUNTED]
            for (_, generated), counts in zip(fed, zip(*columns, strict=True), strict=True):
                if any(counts):  # else it asked for none
                    generated.usage = Usage(*counts)
        return fed
    except (ValueError, LookupError, struct.error) as error:
        raise BrokenAnswer(f"a feed breaks the tensor contract: {error!r}") from error


def num_fed(response: ModelInferResponse) -> int:
    """How many pieces came on a feed, where this is the generation's first response of its own."""
    for output, content in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == "num_fed":
            return int.from_bytes(content, "little")
    return 0


def _add(message: ModelInferRequest, name: str, datatype: str, content: bytes, num_elements: int = 1) -> None:
    message.inputs.add(name=name, datatype=datatype, shape=(1, num_elements))
    message.raw_input_contents.append(content)


def _add_prompt(message: ModelInferRequest, prompt: str | list[int] | Chat) -> None:
    if isinstance(prompt, Chat):
        _add(message, "chat", "BYTES", _bytes(prompt.json))
    elif isinstance(prompt, str):
        _add(message, "text_input", "BYTES", _bytes(prompt.encode()))
    else:
        _add(message, "input_ids", "INT32", struct.pack(f"<{len(prompt)}i", *prompt), len(prompt))


def _bytes(value: bytes) -> bytes:
    return len(value).to_bytes(4, "little") + value


def _strings(raw: bytes) -> list[str]:
    """The elements of a BYTES tensor, each `<length: uint32, little-endian><bytes>`."""
    if int.from_bytes(raw[:4], "little") == len(raw) - 4:
        return [raw[4:].decode()]
    strings = []
    start = 0
    while start < len(raw):
        end = start + 4 + int.from_bytes(raw[start : start + 4], "little")
        if end > len(raw):
            raise ValueError("a BYTES tensor is cut off")
        strings.append(raw[start + 4 : end].decode())
        start = end
    return strings


def _integers(raw: bytes) -> tuple[int, ...]:
    """The elements of a UINT32 tensor."""
    return struct.unpack(f"<{len(raw) // 4}I", raw)


def _deltas(tensors: dict[str, bytes]) -> list[Delta]:
    text = tensors.get("text_output")
    indices: tuple[int, ...] = (0,)
    if "choice_index" in tensors:
        indices = _integers(tensors["choice_index"])
    elif tensors.keys().isdisjoint(_SAID):
        return []
    deltas = [Delta(index, "") for index in indices]
    if text is not None:
        for delta, delta_text in zip(deltas, _strings(text), strict=True):
            delta.text = delta_text
    if "finish_reason" in tensors:
        for delta, reason in zip(deltas, _strings(tensors["finish_reason"]), strict=True):
            if reason == "cancelled":
                raise Cancelled("The model gave the request up before it was done.")
            delta.finish_reason = _FINISH_REASONS[reason]
    if "stop_string" in tensors:
        for delta, stop in zip(deltas, _strings(tensors["stop_string"]), strict=True):
            delta.stop_string = stop or None
    if "logprobs" in tensors:
        for delta, entries in zip(deltas, _strings(tensors["logprobs"]), strict=True):
            delta.logprobs = _logprobs(entries) if entries else []
    if "prompt_logprobs" in tensors:
        for delta, entries in zip(deltas, _strings(tensors["prompt_logprobs"]), strict=True):
            delta.prompt_tokens = _prompt_tokens(entries) if entries else None
    if "reasoning_content" in tensors:
        for delta, thought in zip(deltas, _strings(tensors["reasoning_content"]), strict=True):
            delta.reasoning = thought
    if "tool_calls" in tensors:
        for delta, calls in zip(deltas, _strings(tensors["tool_calls"]), strict=True):
            delta.calls = _calls(calls) if calls else ()
    return deltas


def _calls(pieces: str) -> list[CallDelta]:
    return [CallDelta(piece["index"], piece.get("name"), piece["arguments"]) for piece in orjson.loads(pieces)]


def _logprobs(entries: str) -> list[TokenLogprob]:
    return [
        TokenLogprob(
            entry["token"],
            entry["bytes"],
            entry["logprob"],
            [TopLogprob(top["token"], top["bytes"], top["logprob"]) for top in entry["top"]],
        )
        for entry in orjson.loads(entries)
    ]


def _prompt_tokens(entries: str) -> list[PromptToken]:
    return [
        PromptToken(entry["token"], bytes(entry["bytes"]), entry["logprob"], _top(entry))
        for entry in orjson.loads(entries)
    ]


def _top(entry: dict[str, Any]) -> dict[str, float] | None:
    if entry["logprob"] is None:
        return None
    top: dict[str, float] = {}
    for alternative in (*entry["top"], entry):
        top.setdefault(alternative["token"], alternative["logprob"])
    return top


def _usage(tensors: dict[str, bytes]) -> Usage | None:
    if "num_output_tokens" not in tensors:
        return None
    # vLLM's backend has no tensors for the last two, ours one for the last only where it is not 0.
    counts = (tensors.get(f"num_{kind}_tokens", bytes(4)) for kind in _COUNTED)
    return Usage(*(struct.unpack("<I", raw)[0] for raw in counts))
