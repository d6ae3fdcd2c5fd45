"""Server-sent events over bare ASGI: one `send` per event, nothing else per event."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapter.disconnect import cancel_on_disconnect
from adapter.errors import ApiError, ClientDisconnected
from adapter.request_log import RequestRecord, record_of

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": still here\n\n"
KEEP_ALIVE_S = 15.0
"""Proxies cut connections that are silent for longer."""


class EventStream(Response):
    """Sends `events`, each whole SSE events as bytes, then `[DONE]`.

    The first is awaited before the 200: its error still becomes a response of its own. A later error is one event
    `data: {"error": ...}` and no `[DONE]`. When the client goes away, `events` is closed at once.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events
        self._started = False
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        try:
            await cancel_on_disconnect(self._send(send, record), receive)
        except ClientDisconnected as error:
            record.fail(error)
        except asyncio.CancelledError as error:  # the server stops
            if not self._started:
                raise
            await send({"type": "http.response.body", "body": _error_event(record.fail(error)), "more_body": False})

    async def _send(self, send: Send, record: RequestRecord) -> None:
        async with aclosing(self._events) as events:
            event = await anext(events)
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            ending = DONE
            try:
                await send({"type": "http.response.body", "body": event, "more_body": True})
                async for event in events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            except Exception as error:
                ending = _error_event(record.fail(error))
            await send({"type": "http.response.body", "body": ending, "more_body": False})


def json_event(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


async def kept_alive(
    events: AsyncGenerator[bytes, None], silence_s: float = KEEP_ALIVE_S
) -> AsyncGenerator[bytes, None]:
    """The same events, and after the first a comment whenever nothing has come for `silence_s`."""

    async def following() -> bytes | None:
        return await anext(events, None)

    async with aclosing(events):
        event = await following()
        while event is not None:
            yield event
            waiting = asyncio.create_task(following())
            try:
                while not (await asyncio.wait((waiting,), timeout=silence_s))[0]:
                    yield KEEP_ALIVE
                event = waiting.result()
            finally:
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)


def _error_event(error: ApiError) -> bytes:
    return b"data: " + error.body() + b"\n\n"
