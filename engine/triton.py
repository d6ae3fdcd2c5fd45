"""The engine as a Triton Python-backend model: the only module that knows Triton.

Its tensors are a superset of those of Triton's vLLM backend.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from engine.checkpoint import load_checkpoint
from engine.config import read_config
from engine.detokenizer import TokenBytes
from engine.errors import EngineError, EngineStopped, InvalidRequest, LoadError
from engine.feed import Fed, Feed, Feeds
from engine.gpus import gpus_of
from engine.image_prompt import ImagePromptEncoder
from engine.images import EncodedImage, ImageMode, cut_views, lay_out, parse_mode
from engine.loop import Engine
from engine.machine import num_cores
from engine.prompt import PromptEncoder
from engine.request import Prompt, Request, TokenLogprob
from engine.response import NO_COUNTS, ChoicePiece, Counts, calls_json, logprobs_json, only_words
from engine.sampling_params import parse_sampling_params
from engine.sender import Sender, Stream
from engine.tasks import detokenize, read_task, tokenize
from engine.triton_inputs import Inputs

logger = logging.getLogger(__name__)

_MAX_DECODING = 4
"""Images decoded at once, for their memory: up to 8 bytes a pixel."""
_SWITCHED = ("finish_reason", "logprobs", "num_input_tokens", "num_output_tokens")
"""Outputs that clients of vLLM's backend switch on by a `return_…` input; here they are on unless it is false."""


class EngineModel:
    """A model in Triton: parses requests, hands them to the engine, and lets the sender answer."""

    def __init__(self) -> None:
        self._feeds = Feeds()

    def initialize(self, args: dict[str, str]) -> None:
        """Load the checkpoint and start the threads.

        Raises:
            TritonModelException: one sentence for the operator.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        engine_json = Path(args["model_repository"]) / args["model_version"] / "engine.json"
        try:
            self._config = read_config(engine_json, args["model_name"])
            self._checkpoint = load_checkpoint(self._config)
            self._engine = Engine(self._checkpoint, self._config)
            self._prepare()
        except LoadError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._token_bytes = self._engine.token_bytes
        self._sender = Sender(self._engine, self._feeds)
        self._start(args)
        logger.info("loaded %s", json.dumps(self._describe()))

    def execute(self, requests: list[Any]) -> None:
        """Take in a batch; it returns once the engine has room for each, and the answers follow by themselves.

        While it waits, Triton's queue fills, and turns requests away by its own policy.
        """
        for stream in self._open_all(requests):
            if stream:
                self._sender.add(stream)
                self._engine.submit(stream.request)

    def finalize(self) -> None:
        """End both threads; whatever is unfinished gets an error first."""
        self._engine.stop()
        self._sender.stop()

    def _start(self, args: dict[str, str]) -> None:
        """Start the threads, when everything is loaded."""
        self._counters = PromptCounters({"model": args["model_name"], "version": args["model_version"]})
        self._engine.start()
        self._sender.start()
        gc.collect()
        gc.freeze()  # what is loaded stays: to look through it for garbage would hold up all streams
        gc.set_threshold(10_000)  # by default that is so often that it shows in profiles

    def _prepare(self) -> None:
        """Make what this kind of model needs besides the engine.

        Raises:
            LoadError: the checkpoint is of another kind.
        """
        raise NotImplementedError

    def _prompt(self, inputs: Inputs) -> tuple[Prompt, str | None]:
        """The prompt, and its text where it came as `text_input`."""
        raise NotImplementedError

    def _open_all(self, requests: list[Any]) -> Iterable[Stream | None]:
        return map(self._open, requests)

    def _describe(self) -> dict[str, Any]:
        """What is loaded, where it runs, and how busy it is."""
        checkpoint = self._checkpoint
        return {
            "version": version("deepseek-on-triton"),
            "checkpoint": checkpoint.name,
            "architecture": checkpoint.architecture,
            "device": checkpoint.device.type,
            "dtype": str(checkpoint.dtype).removeprefix("torch."),
            "quantization": self._config.quantization,
            "max_context": self._engine.max_context,
            "max_sequences": self._config.max_sequences,
            "num_parameters": checkpoint.num_parameters,
            "num_requests": self._sender.num_live,
            "num_feeds": len(self._feeds),
            "num_fed": self._feeds.num_sent,
            "num_sequences": self._engine.num_sequences,
            "num_cache_blocks": self._engine.num_cache_blocks,
            "num_free_cache_blocks": self._engine.num_free_cache_blocks,
            "gpus": [asdict(gpu) for gpu in gpus_of(checkpoint.device)],
        }

    def _answer(self, inputs: Inputs) -> str | None:
        """What is answered at once; None where the engine is needed."""
        return json.dumps(self._describe()) if inputs.flag("describe", default=False) else None

    def _open(self, request: Any) -> Stream | None:
        """Parse a request; one that is answered already gives None."""
        inputs = Inputs(request)
        response_sender = request.get_response_sender()
        reply = TritonReply(response_sender, self._token_bytes, self._counters)
        try:
            if inputs.has("feed") and not inputs.has("feed_number"):
                self._open_feed(inputs, response_sender)
                return None
            answer = self._answer(inputs)
            if answer is None:
                return self._parse(inputs, reply)
            reply.send_text(answer)
        except EngineError as error:
            reply.send_error(error)
        except Exception:
            logger.exception("a request could not be parsed")
            reply.send_error(EngineError("the model failed to read the request"))
        return None

    def _open_feed(self, inputs: Inputs, response_sender: Any) -> None:
        if len(inputs.names) > 1:
            raise InvalidRequest("feed", "with a prompt, feed_number says which of the feed's requests it is; send it")
        self._feeds.open(inputs.string("feed"), TritonFeedReply(response_sender))
        self._sender.wake()

    def _parse(self, inputs: Inputs, reply: TritonReply) -> Stream:
        given = inputs.data("sampling_parameters") if inputs.has("sampling_parameters") else b""
        params = parse_sampling_params(given or b"{}")
        prompt, text = self._prompt(inputs)
        is_streaming = inputs.flag("stream", default=True)
        # As vLLM's backend does: the prompt comes back before a raw prompt's unstreamed output, unless told not to.
        if not inputs.flag("exclude_input_in_output", default=is_streaming or text is None):
            if is_streaming or text is None:
                raise InvalidRequest("exclude_input_in_output", "false needs text_input and stream false")
            reply.echo = text
        reply.has_counts = inputs.flag("continuous_usage", default=False)
        reply.hidden = {name for name in _SWITCHED if not inputs.flag(f"return_{name}", default=True)}
        if inputs.flag("return_cumulative_logprob", default=False):
            reply.cumulative_logprobs = [0.0] * params.n
            if params.logprobs is None:
                params = params.model_copy(update={"logprobs": 0})
                reply.hidden.add("logprobs")
        if inputs.has("feed_number"):
            if not inputs.has("feed"):
                raise InvalidRequest("feed", "feed_number is one of a feed; send that too")
            if not reply.hidden:  # a feed has its outputs for all
                reply.feed = self._feeds.get(inputs.string("feed"))
                reply.feed_number = int(inputs.array("feed_number")[0])
        stream = Stream(prompt, params, is_streaming, reply)
        reply.request = stream.request
        self._engine.check(stream.request)
        return stream


class CoderModel(EngineModel):
    """A text model."""

    def _prepare(self) -> None:
        if self._checkpoint.vision is not None:
            raise LoadError(f"{self._checkpoint.name} reads images; serve it as the ocr model.")
        checkpoint = self._checkpoint
        self._encoder = PromptEncoder(checkpoint.tokenizer, checkpoint.vocab_size, self._engine.max_context)

    def _answer(self, inputs: Inputs) -> str | None:
        if not inputs.has("task"):
            return super()._answer(inputs)
        match read_task(inputs):
            case "tokenize":
                return tokenize(inputs, self._encoder, self._engine.max_context)
            case "detokenize":
                return detokenize(inputs, self._encoder)
        return None

    def _prompt(self, inputs: Inputs) -> tuple[Prompt, str | None]:
        name = inputs.only_one_of("text_input", "chat", "input_ids")
        is_embedded = inputs.has("task")  # the other tasks are answered
        if inputs.has("add_special_tokens"):
            raise InvalidRequest("add_special_tokens", "it is for the task tokenize; leave it out")
        if inputs.has("suffix") and name != "text_input":
            raise InvalidRequest("suffix", "it follows a gap that text_input precedes; send both")
        if name == "input_ids":
            tokens = self._encoder.encode_ids(inputs.array(name).tolist())
            return Prompt(tokens, is_embedded=is_embedded), None
        if name == "chat":
            tokens, answer_format = self._encoder.encode_chat(inputs.data(name))
            read_as = None if answer_format.is_plain else answer_format
            return Prompt(tokens, answer_format=read_as, may_think=self._encoder.may_think), None
        text = inputs.string(name)
        if inputs.has("suffix"):
            return Prompt(self._encoder.encode_infill(text, inputs.string("suffix"))), text
        return Prompt(self._encoder.encode_text(text), is_embedded=is_embedded), text


class OcrModel(EngineModel):
    """A model that reads images. They are decoded and cut on a pool of threads, a batch's at once."""

    def finalize(self) -> None:
        self._pool.shutdown()
        super().finalize()

    def _prepare(self) -> None:
        if self._checkpoint.vision is None:
            raise LoadError(f"{self._checkpoint.name} reads no images; serve it as the coder model.")
        self._vision = self._checkpoint.vision
        self._encoder = ImagePromptEncoder(self._checkpoint, self._engine.max_context)
        self._pool = ThreadPoolExecutor(min(num_cores(), _MAX_DECODING), "images")

    def _open_all(self, requests: list[Any]) -> Iterable[Stream | None]:
        return self._pool.map(self._open, requests)

    def _prompt(self, inputs: Inputs) -> tuple[Prompt, str | None]:
        name = inputs.only_one_of("text_input", "chat")
        images, mode = self._images(inputs), self._mode(inputs)
        # The prompt's length is known, and refused, before any pixel is decoded.
        layouts = [lay_out(image.size, mode) for image in images]
        text = None
        if name == "chat":
            prompt = self._encoder.encode_messages(inputs.data(name), layouts)
        else:
            text = inputs.string(name)
            prompt = self._encoder.encode_raw(name, text, layouts)
        for image, placed in zip(images, prompt.images, strict=True):
            placed.views = cut_views(image.decode(), placed.layout)
        return prompt, text

    def _mode(self, inputs: Inputs) -> ImageMode:
        given = inputs.data("image_parameters") if inputs.has("image_parameters") else b"{}"
        mode = parse_mode(given, self._vision.modes, self._vision.default_mode)
        if objection := self._vision.objection(mode):
            raise InvalidRequest("image_parameters", objection)
        return mode

    def _images(self, inputs: Inputs) -> list[EncodedImage]:
        encoded = inputs.array("image").tolist() if inputs.has("image") else []
        max_images, max_pixels = self._config.max_images, self._config.max_image_pixels
        if len(encoded) > max_images:
            raise InvalidRequest("image", f"{len(encoded)} images are more than {max_images}; send fewer")
        images = [EncodedImage(data) for data in encoded]
        num_pixels = sum(image.num_pixels for image in images)
        if num_pixels > max_pixels:
            raise InvalidRequest("image", f"{num_pixels} pixels are more than {max_pixels}; send it smaller")
        return images


class PromptCounters:
    """What Triton's metrics say of prompts: how many tokens came, and how many were found in the prefix cache."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._families = [
            pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
            for name, description in (
                ("engine_prompt_tokens_total", "Tokens of prompts that were answered"),
                ("engine_prefix_cache_hit_tokens_total", "Those of them that the prefix cache held"),
            )
        ]
        self._tokens, self._hits = (family.Metric(labels=labels) for family in self._families)

    def add(self, request: Request) -> None:
        self._tokens.increment(request.num_prompt_tokens)
        if request.num_cached_tokens:
            self._hits.increment(request.num_cached_tokens)


class TritonReply:
    """The responses of one Triton request. Each carries only the tensors that say something."""

    def __init__(self, response_sender: Any, token_bytes: TokenBytes, counters: PromptCounters) -> None:
        self._response_sender = response_sender
        self._token_bytes = token_bytes
        self._counters = counters
        self._num_output_tokens = 0
        self.request: Request | None = None
        self.feed: Feed | None = None
        """Where text and thoughts go, until there is more to say."""
        self.feed_number = 0
        self._num_fed = 0
        self.echo = ""
        self.has_counts = False
        """Whether every response says how many tokens there are so far, and not the last one alone."""
        self.hidden: set[str] = set()
        self.cumulative_logprobs: list[float] | None = None
        """The sum so far of each choice's log-probabilities, where it is asked for."""

    def send(self, pieces: dict[int, ChoicePiece], is_last: bool) -> None:
        said = list(pieces.values())
        self._num_output_tokens += sum([piece.num_tokens for piece in said])
        if not is_last and self._send_words(pieces):  # as most are
            return
        texts = [piece.text if piece.prompt_logprobs else self.echo + piece.text for piece in said]
        outputs: dict[str, Any] = {"text_output": _texts(texts)}
        if self.feed and self._num_fed:
            self.feed.check()
            outputs["num_fed"] = np.array([[self._num_fed]], np.uint32)
        self.feed = None
        if list(pieces) != [0]:
            outputs["choice_index"] = np.array([list(pieces)], np.uint32)
        if any([piece.finish_reason for piece in said]):
            outputs["finish_reason"] = _texts([piece.finish_reason or "" for piece in said])
        if any([piece.stop_string for piece in said]):
            outputs["stop_string"] = _texts([piece.stop_string or "" for piece in said])
        if any([piece.logprobs for piece in said]):
            shown = [self._shown(piece) for piece in said]
            if any(shown):
                outputs["logprobs"] = _texts([logprobs_json(logprobs, self._token_bytes) for logprobs in shown])
        if any([piece.prompt_logprobs for piece in said]):
            parts = [piece.prompt_logprobs for piece in said]
            outputs["prompt_logprobs"] = _texts(
                [logprobs_json(part, self._token_bytes) if part else "" for part in parts]
            )
        if any([piece.reasoning for piece in said]):
            outputs["reasoning_content"] = _texts([piece.reasoning for piece in said])
        if any([piece.calls for piece in said]):
            outputs["tool_calls"] = _texts([calls_json(piece.calls) if piece.calls else "" for piece in said])
        if self.cumulative_logprobs is not None:
            for choice, piece in pieces.items():
                self.cumulative_logprobs[choice] += sum(item.logprob or 0.0 for item in piece.text_logprobs)
            outputs["cumulative_logprob"] = np.array([[self.cumulative_logprobs[i] for i in pieces]], np.float32)
        if is_last or self.has_counts:
            counts = self._counts._asdict()
            if not counts["num_reasoning_tokens"]:
                del counts["num_reasoning_tokens"]
            outputs |= {name: np.array([[count]], np.uint32) for name, count in counts.items()}
        if is_last:
            assert self.request is not None
            if self.request.embedding is not None:
                outputs["embedding"] = self.request.embedding[None]
            self._counters.add(self.request)
        tensors = [pb_utils.Tensor(name, array) for name, array in outputs.items() if name not in self.hidden]
        self._send(pb_utils.InferenceResponse(tensors), is_last)

    def _send_words(self, pieces: dict[int, ChoicePiece]) -> bool:
        """Send what is no more than text and thoughts, where that takes less than a whole response; else False."""
        piece = only_words(pieces)
        if piece is None:
            return False
        text = self.echo + piece.text
        if self.feed:
            counts = self._counts if self.has_counts else NO_COUNTS
            self.feed.add(Fed(self.feed_number, text, piece.reasoning, counts))
            self._num_fed += 1
        elif piece.reasoning or self.has_counts:
            return False
        else:
            self._send(_text_response(text), is_last=False)
        return True

    @property
    def _counts(self) -> Counts:
        request = self.request
        assert request is not None
        return Counts(
            request.num_prompt_tokens, self._num_output_tokens, request.num_cached_tokens, request.num_reasoning_tokens
        )

    def _shown(self, piece: ChoicePiece) -> list[TokenLogprob]:
        """OpenAI shows an answer's end nowhere. But who scores a prompt asks for a token that he does not want, and
        leaves out the last entry: it must be there, also where the token is the end."""
        assert self.request is not None
        return piece.text_logprobs if self.request.params.prompt_logprobs is None else piece.logprobs

    def send_text(self, text: str) -> None:
        """Answer with one text, and end."""
        self._send(_text_response(text), is_last=True)

    def send_error(self, error: EngineError) -> None:
        code = pb_utils.TritonError.INTERNAL
        if isinstance(error, InvalidRequest):
            code = pb_utils.TritonError.INVALID_ARG
        elif isinstance(error, EngineStopped):
            code = pb_utils.TritonError.UNAVAILABLE
        if self.feed and self._num_fed and self.feed.is_open:  # an error has no tensors, and may be there before these
            outputs = {"text_output": _texts([""]), "num_fed": np.array([[self._num_fed]], np.uint32)}
            self._send(pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in outputs.items()]), is_last=False)
        self._send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code)), is_last=True)

    def is_cancelled(self) -> bool:
        return bool(self._response_sender.is_cancelled())

    def _send(self, response: Any, is_last: bool) -> None:
        self._response_sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_last else 0)


class TritonFeedReply:
    """The responses of a request that opened a feed."""

    def __init__(self, response_sender: Any) -> None:
        self._response_sender = response_sender

    def send(self, pieces: Sequence[Fed]) -> None:
        outputs = {
            "feed_number": np.array([[piece.number for piece in pieces]], np.uint32),
            "text_output": _texts([piece.text for piece in pieces]),
        }
        if any([piece.reasoning for piece in pieces]):
            outputs["reasoning_content"] = _texts([piece.reasoning for piece in pieces])
        for i, name in enumerate(Counts._fields):
            column = [piece.counts[i] for piece in pieces]
            if any(column):
                outputs[name] = np.array([column], np.uint32)
        tensors = [pb_utils.Tensor(name, array) for name, array in outputs.items()]
        self._response_sender.send(pb_utils.InferenceResponse(tensors), 0)

    def end(self) -> None:
        self._response_sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        return bool(self._response_sender.is_cancelled())


def _text_response(text: str) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor("text_output", _texts([text]))])


def _texts(texts: Any) -> Any:
    """A BYTES tensor, `[1, k]`."""
    return np.array([[text.encode() for text in texts]], np.object_)
