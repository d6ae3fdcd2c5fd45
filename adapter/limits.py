"""Bounds what a client can make the adapter hold."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter.errors import BodyTooLarge, error_response
from adapter.request_log import record_of


class BodyLimit:
    """ASGI middleware: reads the whole body, up to `max_bytes`, before the application runs; larger is a 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared_bytes = Headers(scope=scope).get("content-length", "")
        body = bytearray()
        more_body = True
        too_large = declared_bytes.isdecimal() and int(declared_bytes) > self._max_bytes
        while more_body and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more_body = message.get("more_body", False)
            too_large = len(body) > self._max_bytes
        if too_large:
            error = BodyTooLarge(f"The request body is larger than {self._max_bytes} bytes.")
            await error_response(record_of(scope).fail(error))(scope, receive, send)
            return
        await self._app(scope, _replay(bytes(body), receive), send)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body as one message, then what else the connection brings."""
    unread: bytes | None = body

    async def replay() -> Message:
        nonlocal unread
        if unread is None:
            return await receive()
        message = {"type": "http.request", "body": unread, "more_body": False}
        unread = None
        return message

    return replay
