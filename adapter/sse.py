"""Server-sent events over bare ASGI: one `send` per event, nothing else per event."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter.disconnect import cancel_on_disconnect
from adapter.errors import ApiError, ClientDisconnected
from adapter.request_log import RequestRecord, record_of

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_S = 15.0
"""Proxies cut connections that are silent for longer."""
_STRAIGHT = "send_straight"
"""In a scope's state: the `send` that no middleware of the app's has wrapped."""


def json_event(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def events_docs(example: str) -> dict[str, Any]:
    """The content of an answer that is a stream of events, for the OpenAPI document: the schema is of one event."""
    fields = {"event": {"type": "string"}, "data": {"type": "string"}}
    event = {"type": "object", "properties": fields, "required": ["data"]}
    return {"text/event-stream": {"schema": event, "example": example}}


def openai_ending(error: ApiError | None) -> bytes:
    """`[DONE]`; after an error, that and no `[DONE]`."""
    return DONE if error is None else b"data: " + error.body() + b"\n\n"


class StraightEvents:
    """ASGI middleware, the outermost: lets a stream's events go straight to the server.

    The start of the response and its ending pass through the others; nothing between is of any concern to them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[_STRAIGHT] = send
        await self._app(scope, receive, send)


class EventStream(Response):
    """Sends `events`, each whole SSE events as bytes, then an ending; a sign of life when nothing has come for a while.

    The first of either is awaited before the 200: an error before it still becomes a response of its own. A later one
    is for the ending to tell. When the client goes away, `events` is closed at once.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        silence_s: float = KEEP_ALIVE_S,
        ending: Callable[[ApiError | None], bytes] = openai_ending,
        keep_alive: bytes = KEEP_ALIVE,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            silence_s: how long nothing comes before `keep_alive` does.
            ending: the last events, of a stream that ended well or of one that failed.
        """
        self._events = events
        self._silence_s = silence_s
        self._ending = ending
        self._keep_alive = keep_alive
        self._started = False
        self._has_ended = False
        self._last_s = 0.0
        """When something was sent, on the loop's clock."""
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record, straight = record_of(scope), scope["state"].get(_STRAIGHT, send)
        try:
            await cancel_on_disconnect(self._send(send, straight, record), receive)
        except ClientDisconnected as error:
            record.fail(error)
        except asyncio.CancelledError as error:  # the server stops
            if not self._started:
                raise
            if not self._has_ended:
                await self._end(send, record.fail(error))

    async def _send(self, send: Send, straight: Send, record: RequestRecord) -> None:
        failure, loop = None, asyncio.get_running_loop()
        clock, keeper = loop.time, None

        def begin_to_keep_awake() -> None:
            nonlocal keeper
            keeper = loop.create_task(self._keep_awake(send, straight))

        self._last_s = clock()
        timer = loop.call_later(self._silence_s, begin_to_keep_awake)  # few streams live so long
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if not self._started:
                        await self._begin(send)
                    self._last_s = clock()
                    await straight({"type": "http.response.body", "body": event, "more_body": True})
            if not self._started:
                await self._begin(send)
        except Exception as error:
            if not self._started:
                raise
            failure = record.fail(error)
        finally:
            timer.cancel()
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
        await self._end(send, failure)

    async def _begin(self, send: Send) -> None:
        self._started = True
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _end(self, send: Send, failure: ApiError | None) -> None:
        await send({"type": "http.response.body", "body": self._ending(failure), "more_body": False})
        self._has_ended = True

    async def _keep_awake(self, send: Send, straight: Send) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if (left_s := self._last_s + self._silence_s - clock()) > 0:
                await asyncio.sleep(left_s)
                continue
            if not self._started:
                await self._begin(send)
            self._last_s = clock()
            await straight({"type": "http.response.body", "body": self._keep_alive, "more_body": True})
