"""Speaks to Triton: one channel, one gRPC stream per generation."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from typing import Any

from google.protobuf.message import DecodeError
from grpc import StatusCode
from tritonclient.grpc import service_pb2 as messages

from adapter.channel import Channel
from adapter.description import Description, parse_description
from adapter.errors import BrokenAnswer, TimedOut
from adapter.feed import STREAM_PATH, FedCall, Feeds
from adapter.grpc_errors import Failure, translate
from adapter.http2 import Call, CallFailed
from adapter.settings import Settings
from adapter.tensors import (
    Embedding,
    Generated,
    InferRequest,
    TaskRequest,
    decode,
    decode_embedding,
    encode,
    encode_describe,
    encode_task,
)

CONTROL_TIMEOUT_S = 2.0


class TritonClient:
    """Its methods raise `ApiError` only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel = Channel(settings.triton_url)
        self._feeds: dict[tuple[str, str], Feeds] = {}
        """Of each endpoint and model."""

    def stop(self) -> None:
        self._channel.close()

    async def infer(self, request: InferRequest) -> AsyncGenerator[Generated, None]:
        """The generation's responses; leaving early (`aclose`) cancels it. A normal end is a whole answer."""
        unfinished = set(range(request.num_choices))
        usage = None
        first_timeout_s = self._settings.first_response_timeout_s if request.stream else None
        may_be_fed = (request.stream or request.continuous_usage) and request.num_choices == 1
        async with aclosing(self._stream(encode(request), first_timeout_s, may_be_fed)) as responses:
            async for response in responses:
                generated = response if isinstance(response, Generated) else decode(response)
                for delta in generated.deltas:
                    if delta.choice_index not in unfinished:
                        raise BrokenAnswer(f"text for choice {delta.choice_index}, which is unknown or has ended")
                    if delta.finish_reason is not None:
                        unfinished.remove(delta.choice_index)
                usage = generated.usage or usage
                if generated.deltas or generated.usage:
                    yield generated
        if unfinished or usage is None:
            raise BrokenAnswer("the model's stream ended without a finish of every choice and its token counts")

    async def describe(self, model: str) -> Description:
        """Waits in the model's queue like a generation."""
        return parse_description(await self._text(encode_describe(model)))

    async def run_task(self, request: TaskRequest) -> str:
        """What `tokenize` and `detokenize` come to: JSON of the tokens, and their text."""
        return await self._text(encode_task(request))

    async def embed(self, request: TaskRequest) -> Embedding:
        async with aclosing(self._stream(encode_task(request), None)) as responses:
            async for response in responses:
                return decode_embedding(response)
        raise BrokenAnswer("the model's stream ended without an embedding")

    async def is_ready(self, model: str) -> bool:
        """Raises `Unavailable` when Triton is away."""
        answer = await self._control("ModelReady", messages.ModelReadyRequest(name=model), messages.ModelReadyResponse)
        return bool(answer.ready)

    async def ready_models(self) -> set[str]:
        request = messages.RepositoryIndexRequest(ready=True)
        index = await self._control("RepositoryIndex", request, messages.RepositoryIndexResponse)
        return {model.name for model in index.models if model.state == "READY"}

    async def _text(self, message: Any) -> str:
        """What is answered at once, and in one text."""
        async with aclosing(self._stream(message, None)) as responses:
            async for response in responses:
                for delta in decode(response).deltas:
                    return delta.text
        raise BrokenAnswer("the model's stream ended without a text")

    async def _stream(
        self, message: Any, first_timeout_s: float | None, may_be_fed: bool = False
    ) -> AsyncGenerator[Any, None]:
        """What a request said on a feed, as `Generated`, and the responses of its own."""
        timeout_s = self._settings.request_timeout_s
        late = CallFailed(StatusCode.CANCELLED, "no response came in time")
        # Without the metadata `triton_grpc_error`: Triton 24.10 crashes within a hundred errors sent that way.
        with self._translated_errors(timeout_s), await self._begin(message, timeout_s, may_be_fed) as call:
            timer = first_timeout_s and asyncio.get_running_loop().call_later(first_timeout_s, call.cancel, late)
            try:
                while (data := await call.read()) is not None:
                    if timer:
                        timer.cancel()
                        timer = None
                    is_fed = isinstance(data, Generated)
                    yield data if is_fed else self._checked(messages.ModelStreamInferResponse.FromString(data))
            except CallFailed as error:
                if error is late:
                    text = f"The model did not begin to answer within {first_timeout_s:g} seconds."
                    raise TimedOut(text) from None
                raise
            finally:
                if timer:
                    timer.cancel()
                call.cancel()

    async def _begin(self, message: Any, timeout_s: float, may_be_fed: bool) -> AbstractContextManager[Call | FedCall]:
        if not may_be_fed:
            return nullcontext(await self._channel.call(STREAM_PATH, message.SerializeToString(), timeout_s))
        endpoint, connection = await self._channel.next()
        key = endpoint.authority, message.model_name
        feeds = self._feeds.get(key)
        if feeds is None or feeds.connection is not connection:
            self._feeds = {key: feeds for key, feeds in self._feeds.items() if feeds.connection.takes_calls}
            feeds = self._feeds[key] = Feeds(connection, *key, self._settings.request_timeout_s)
        return feeds.call(message, timeout_s)

    def _checked(self, response: Any) -> Any:
        if response.error_message:
            raise translate(self._failure(None, response.error_message, self._settings.request_timeout_s))
        return response.infer_response

    async def _control(self, method: str, message: Any, answer: Any) -> Any:
        with self._translated_errors(CONTROL_TIMEOUT_S):
            path = f"/inference.GRPCInferenceService/{method}"
            call = await self._channel.call(path, message.SerializeToString(), CONTROL_TIMEOUT_S)
            try:
                data = await call.read() or b""
                await call.read()  # its status
            finally:
                call.cancel()
            return answer.FromString(data)

    @contextmanager
    def _translated_errors(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except CallFailed as error:
            raise translate(self._failure(error.code, error.details, timeout_s)) from error
        except DecodeError as error:
            raise BrokenAnswer(f"a response is no protobuf message: {error}") from error

    def _failure(self, code: StatusCode | None, text: str, timeout_s: float) -> Failure:
        return Failure(code, text, timeout_s, self._settings.retry_after_s)
