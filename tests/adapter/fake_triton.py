"""A gRPC server that speaks Triton's protocol and does what a test tells it."""

import asyncio
import json
import struct
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

DESCRIPTION: dict[str, Any] = {
    "version": "0.1.0",
    "checkpoint": "demo/tiny",
    "architecture": "LlamaForCausalLM",
    "device": "cpu",
    "dtype": "bfloat16",
    "quantization": None,
    "max_context": 2048,
    "max_sequences": 64,
    "num_parameters": 1_000_000,
    "gpus": [],
}
USAGE = (5, 3, 2)


class Gate:
    """Lets a reply wait for the test, which runs in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.reached = threading.Event()

    async def passed(self) -> None:
        self.reached.set()
        await self._event.wait()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)


@dataclass
class Seen:
    """A request as it came over the wire."""

    model: str
    id: str
    inputs: dict[str, Any]
    shapes: dict[str, list[int]]
    metadata: dict[str, str]
    priority: int = 0
    answered: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def sampling(self) -> dict[str, Any]:
        return json.loads(self.inputs["sampling_parameters"])

    @property
    def chat(self) -> dict[str, Any]:
        chat: dict[str, Any] = json.loads(self.inputs["chat"])
        return chat

    @property
    def image(self) -> bytes:
        (image,) = self.inputs["image"]
        assert isinstance(image, bytes)
        return image


Reply = Callable[[Seen, Any], AsyncIterator[messages.ModelStreamInferResponse]]


class FakeTriton(GRPCInferenceServiceServicer):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.host, self.port = "127.0.0.1", 0
        self.reset()

    def reset(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.next_arrival = asyncio.Event()
        self.seen: list[Seen] = []
        self.index = {"coder": "READY", "ocr": "READY"}
        self.ready = True
        self.control_error: tuple[grpc.StatusCode, str] | None = None
        self.num_describes = 0
        self.describe: Reply = describe
        self.run_task: Reply = run_task
        self.feed: Reply = refuse_feed
        self.reply: Reply
        self.says("Hello", " world")

    async def start(self) -> None:
        self._server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{self.host}:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def says(self, *texts: str, finish: str = "stop", usage: tuple[int, int, int] | None = USAGE) -> None:
        """One response per text, the finish and the token counts on the last.

        A prompt's log probabilities, if they are asked for, are those of one token.
        """

        async def reply(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
            if "prompt_logprobs" in seen.sampling:
                token = {"token": "?", "token_id": 0, "bytes": [63], "logprob": None, "top": []}
                yield answer("", prompt_logprobs=[[token]])
            *first, last = texts
            for text in first:
                yield answer(text)
            yield answer(last, finish=finish, usage=usage)

        self.reply = reply

    def replies(self, *responses: messages.ModelStreamInferResponse) -> None:
        async def reply(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
            for response in responses:
                yield response

        self.reply = reply

    def fails(self, code: grpc.StatusCode, text: str, after: Sequence[str] = ()) -> None:
        async def reply(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
            for said in after:
                yield answer(said)
            await context.abort(code, text)

        self.reply = reply

    def hangs(self, *texts: str) -> Gate:
        """Say `texts`, then nothing until the gate is opened, then end."""
        gate = Gate(self.loop)

        async def reply(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
            for text in texts:
                yield answer(text)
            await gate.passed()
            yield answer("", finish="stop", usage=USAGE)

        self.reply = reply
        return gate

    async def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            seen = see(request, context)
            # The call's end, which a cancel brings before the reply's: a handler that waits to send hears of neither.
            context.add_done_callback(lambda _, seen=seen: seen.answered or seen.cancelled.set())
            if "describe" in seen.inputs:
                self.num_describes += 1
                reply = self.describe
            elif "feed" in seen.inputs and "feed_number" not in seen.inputs:
                reply = self.feed
            else:
                self.seen.append(seen)
                self.arrived.release()
                self.next_arrival.set()
                self.next_arrival = asyncio.Event()
                reply = self.run_task if "task" in seen.inputs else self.reply
            async for response in reply(seen, context):
                yield response
            seen.answered = True

    async def ServerLive(self, request: Any, context: Any) -> Any:
        await self._control(context)
        return messages.ServerLiveResponse(live=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self._control(context)
        return messages.ModelReadyResponse(ready=self.ready and self.index.get(request.name) == "READY")

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        await self._control(context)
        models = [{"name": name, "version": "1", "state": state} for name, state in self.index.items()]
        return messages.RepositoryIndexResponse(models=models)

    async def _control(self, context: Any) -> None:
        if self.control_error is not None:
            await context.abort(*self.control_error)


async def describe(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
    yield answer(json.dumps(DESCRIPTION))


async def refuse_feed(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
    """As Triton does for a model that has no such input."""
    yield messages.ModelStreamInferResponse(error_message=f"unexpected inference input 'feed' for model '{seen.model}'")


async def run_task(seen: Seen, context: Any) -> AsyncIterator[messages.ModelStreamInferResponse]:
    """Of a model whose tokens are bytes."""
    text = seen.inputs.get("text_input") or seen.inputs.get("chat", "")
    tokens = seen.inputs.get("input_ids") or list(text.encode())
    match seen.inputs["task"]:
        case "tokenize":
            spelt = [chr(token) for token in tokens]
            yield answer(json.dumps({"tokens": tokens, "token_strs": spelt, "max_context": 2048}))
        case "detokenize":
            yield answer(bytes(token % 256 for token in tokens).decode(errors="replace"))
        case "embed":
            yield embedding([len(tokens), -0.5, 0.1], len(tokens))


def embedding(values: Sequence[float], num_tokens: int) -> messages.ModelStreamInferResponse:
    said = answer("", finish="stop", usage=(num_tokens, 0, 0))
    said.infer_response.outputs.add(name="embedding")
    said.infer_response.raw_output_contents.append(struct.pack(f"<{len(values)}f", *values))
    return said


def answer(
    *texts: str,
    finish: str | Sequence[str] | None = None,
    index: Sequence[int] | None = None,
    logprobs: Sequence[list[dict[str, Any]]] | None = None,
    usage: tuple[int, int, int] | None = None,
    reasoning: str | None = None,
    calls: Sequence[dict[str, Any]] | None = None,
    num_reasoning_tokens: int | None = None,
    stop_string: str | None = None,
    prompt_logprobs: Sequence[list[dict[str, Any]] | None] | None = None,
    num_fed: int | None = None,
) -> messages.ModelStreamInferResponse:
    """One response; the tensors' order is not the contract's, on purpose."""
    tensors: dict[str, bytes] = {}
    if usage is not None:
        for kind, count in zip(("cached", "output", "input"), reversed(usage), strict=True):
            tensors[f"num_{kind}_tokens"] = struct.pack("<I", count)
    if finish is not None:
        tensors["finish_reason"] = strings([finish] if isinstance(finish, str) else finish)
    tensors["text_output"] = strings(texts)
    if index is not None:
        tensors["choice_index"] = struct.pack(f"<{len(index)}I", *index)
    if logprobs is not None:
        tensors["logprobs"] = strings([json.dumps(entries) for entries in logprobs])
    if prompt_logprobs is not None:
        tensors["prompt_logprobs"] = strings([json.dumps(entries) if entries else "" for entries in prompt_logprobs])
    if reasoning is not None:
        tensors["reasoning_content"] = strings([reasoning])
    if calls is not None:
        tensors["tool_calls"] = strings([json.dumps(calls)])
    if num_reasoning_tokens is not None:
        tensors["num_reasoning_tokens"] = struct.pack("<I", num_reasoning_tokens)
    if stop_string is not None:
        tensors["stop_string"] = strings([stop_string])
    if num_fed is not None:
        tensors["num_fed"] = struct.pack("<I", num_fed)
    return raw_answer(tensors)


def fed(
    *pieces: tuple[int, str],
    thoughts: Sequence[str] | None = None,
    usages: Sequence[tuple[int, ...]] | None = None,
) -> messages.ModelStreamInferResponse:
    """A feed's response."""
    numbers = struct.pack(f"<{len(pieces)}I", *(number for number, _ in pieces))
    tensors = {"text_output": strings([text for _, text in pieces]), "feed_number": numbers}
    if thoughts is not None:
        tensors["reasoning_content"] = strings(thoughts)
    if usages is not None:
        for kind, counts in zip(("input", "output", "cached", "reasoning"), zip(*usages, strict=True), strict=False):
            tensors[f"num_{kind}_tokens"] = struct.pack(f"<{len(counts)}I", *counts)
    return raw_answer(tensors)


def raw_answer(tensors: dict[str, bytes]) -> messages.ModelStreamInferResponse:
    response = messages.ModelStreamInferResponse()
    for name, content in tensors.items():
        response.infer_response.outputs.add(name=name)
        response.infer_response.raw_output_contents.append(content)
    return response


def strings(values: Sequence[str]) -> bytes:
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def byte_strings(raw: bytes) -> list[bytes]:
    """The elements of a BYTES tensor."""
    elements = []
    while raw:
        (length,) = struct.unpack("<I", raw[:4])
        assert length <= len(raw) - 4
        elements.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return elements


def see(request: Any, context: Any) -> Seen:
    inputs: dict[str, Any] = {}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.name == "image":
            inputs[tensor.name] = byte_strings(raw)
        elif tensor.datatype == "BYTES":
            (content,) = byte_strings(raw)
            inputs[tensor.name] = content.decode()
        elif tensor.datatype == "BOOL":
            inputs[tensor.name] = bool(struct.unpack("<?", raw)[0])
        elif tensor.datatype == "UINT32":
            (inputs[tensor.name],) = struct.unpack("<I", raw)
        else:
            assert tensor.datatype == "INT32"
            inputs[tensor.name] = list(struct.unpack(f"<{len(raw) // 4}i", raw))
    shapes = {tensor.name: list(tensor.shape) for tensor in request.inputs}
    priority = request.parameters["priority"].uint64_param if "priority" in request.parameters else 0
    return Seen(request.model_name, request.id, inputs, shapes, dict(context.invocation_metadata()), priority)
