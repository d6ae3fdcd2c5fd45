"""Bounds what a client can make the adapter hold."""

from collections import deque

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter.errors import BodyTooLarge, error_response
from adapter.request_log import record_of

_CHUNK_BYTES = 64 * 1024

_DOCUMENT_PATHS = ("/ocr", "/v1/ocr")
_IMAGE_MARKS = {
    "/v1/chat/completions": b"image_url",
    "/v1/responses": b"image_url",
    "/v1/messages": b"base64",
    "/v1/messages/count_tokens": b"base64",
}
"""What a chat with images has in it; one without is a text, and bounded like one."""


class BodyLimit:
    """ASGI middleware: reads the whole body before the application runs; a larger one is a 413.

    At most `max_document_bytes` where images and documents are sent, `max_bytes` elsewhere.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_document_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_document_bytes = max_document_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        mark = _IMAGE_MARKS.get(scope["path"])
        has_images = False
        last_bytes = b""
        max_bytes = self._max_document_bytes if mark or _takes_documents(scope["path"]) else self._max_bytes
        declared_bytes = Headers(scope=scope).get("content-length", "")
        body: deque[bytearray] = deque()
        size_bytes = 0
        more_body = True
        too_large = declared_bytes.isdecimal() and int(declared_bytes) > max_bytes
        while more_body and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunk = message.get("body", b"")
            # Few chunks, however small a client sends them.
            if body and len(body[-1]) < _CHUNK_BYTES:
                body[-1] += chunk
            else:
                body.append(bytearray(chunk))
            if mark and not has_images:
                has_images = mark in last_bytes + chunk
                last_bytes = (last_bytes + chunk)[1 - len(mark) :]
            size_bytes += len(chunk)
            more_body = message.get("more_body", False)
            too_large = size_bytes > max_bytes
        if mark and not has_images:
            max_bytes = self._max_bytes
        if too_large or size_bytes > max_bytes:
            error = BodyTooLarge(f"The request body is larger than {max_bytes} bytes.")
            await error_response(record_of(scope).fail(error))(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


def _takes_documents(path: str) -> bool:
    return path in _DOCUMENT_PATHS or path.startswith("/ocr/")


def _replay(body: deque[bytearray], receive: Receive) -> Receive:
    """A `receive` that gives the body chunk by chunk, each let go of, then what else the connection brings."""
    has_ended = False

    async def replay() -> Message:
        nonlocal has_ended
        if has_ended:
            return await receive()
        chunk = bytes(body.popleft()) if body else b""
        has_ended = not body
        return {"type": "http.request", "body": chunk, "more_body": not has_ended}

    return replay
