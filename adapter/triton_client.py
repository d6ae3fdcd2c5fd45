"""Speaks to Triton: one shared channel, one gRPC stream per generation."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from adapter.errors import BrokenAnswer, TimedOut
from adapter.grpc_errors import Failure, translate
from adapter.settings import Settings
from adapter.tensors import Generated, InferRequest, decode, encode, encode_describe

CONTROL_TIMEOUT_S = 2.0

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # gRPC's own would keep a client away for up to two minutes after Triton is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_ROUND_ROBIN = ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))


@dataclass(frozen=True, slots=True)
class Description:
    """What a model says it is."""

    checkpoint: str
    architecture: str
    device: str
    dtype: str
    max_context: int
    max_sequences: int
    num_parameters: int


class TritonClient:
    """Its methods raise `ApiError` only; `start` must run in the event loop that uses it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    async def start(self) -> None:
        target = await asyncio.to_thread(channel_target, self._settings.triton_url)
        options = (*_OPTIONS, _ROUND_ROBIN) if target.startswith(("ipv4:", "dns:")) else _OPTIONS
        self._channel = grpc.aio.insecure_channel(target, options=options)
        self._stub = GRPCInferenceServiceStub(self._channel)

    async def stop(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def infer(self, request: InferRequest) -> AsyncGenerator[Generated, None]:
        """The generation's responses; leaving early (`aclose`) cancels it. A normal end is a whole answer."""
        unfinished = set(range(request.num_choices))
        usage = None
        first_timeout_s = self._settings.first_response_timeout_s if request.stream else None
        async with aclosing(self._stream(encode(request), first_timeout_s)) as responses:
            async for response in responses:
                generated = decode(response)
                for delta in generated.deltas:
                    if delta.choice_index not in unfinished:
                        raise BrokenAnswer(f"text for choice {delta.choice_index}, which is unknown or has ended")
                    if delta.finish_reason is not None:
                        unfinished.remove(delta.choice_index)
                usage = usage or generated.usage
                if generated.deltas or generated.usage:
                    yield generated
        if unfinished or usage is None:
            raise BrokenAnswer("the model's stream ended without a finish of every choice and its token counts")

    async def describe(self, model: str) -> Description:
        """Waits in the model's queue like a generation."""
        async with aclosing(self._stream(encode_describe(model), None)) as responses:
            async for response in responses:
                for delta in decode(response).deltas:
                    return _description(delta.text)
        raise BrokenAnswer("the model did not describe itself")

    async def is_ready(self, model: str) -> bool:
        """Raises `Unavailable` when Triton is away."""
        return bool((await self._control(self._stub.ModelReady, messages.ModelReadyRequest(name=model))).ready)

    async def ready_models(self) -> set[str]:
        index = await self._control(self._stub.RepositoryIndex, messages.RepositoryIndexRequest(ready=True))
        return {model.name for model in index.models if model.state == "READY"}

    async def _stream(self, message: Any, first_timeout_s: float | None) -> AsyncGenerator[Any, None]:
        timeout_s = self._settings.request_timeout_s
        # Without the metadata `triton_grpc_error`: Triton 24.10 crashes within a hundred errors sent that way.
        call = self._stub.ModelStreamInfer(iter((message,)), timeout=timeout_s)
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            call.cancel()

        # Not `asyncio.wait_for`: before Python 3.12 it loses a cancel that comes in the same moment as the response.
        loop = asyncio.get_running_loop()
        timer = None if first_timeout_s is None else loop.call_later(first_timeout_s, expire)
        try:
            with self._translated_errors(timeout_s):
                async for response in call:
                    if timer is not None:
                        timer.cancel()
                    yield self._checked(response)
        except asyncio.CancelledError:
            if not expired:
                raise
            raise TimedOut(f"The model did not begin to answer within {first_timeout_s:g} seconds.") from None
        finally:
            if timer is not None:
                timer.cancel()
            call.cancel()

    def _checked(self, response: Any) -> Any:
        if response.error_message:
            raise translate(self._failure(None, response.error_message, self._settings.request_timeout_s))
        return response.infer_response

    async def _control(self, method: Any, message: Any) -> Any:
        with self._translated_errors(CONTROL_TIMEOUT_S):
            return await method(message, timeout=CONTROL_TIMEOUT_S)

    @contextmanager
    def _translated_errors(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise translate(self._failure(error.code(), error.details() or "", timeout_s)) from error

    def _failure(self, code: grpc.StatusCode | None, text: str, timeout_s: float) -> Failure:
        return Failure(code, text, timeout_s, self._settings.retry_after_s)


def _description(text: str) -> Description:
    try:
        fields = orjson.loads(text)
        return Description(**{name: fields[name] for name in Description.__slots__})
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenAnswer(f"the model's description of itself is not understood: {error!r}") from error


def channel_target(triton_url: str) -> str:
    """gRPC takes several endpoints only as addresses, so their names are looked up here, once; raises `OSError`."""
    urls = [url.strip() for url in triton_url.split(",")]
    if len(urls) == 1:
        return urls[0]
    addresses: list[str] = []
    for url in urls:
        host, _, port = url.rpartition(":")
        found = socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
        addresses += (":".join(map(str, sockaddr[:2])) for *_, sockaddr in found)
    return "ipv4:" + ",".join(addresses)
