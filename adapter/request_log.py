"""Around all that answers: a request's id, its line in the log, and the answer to what nobody else caught."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter.access.keys import Key
from adapter.errors import ApiError, as_api_error, error_response
from adapter.tensors import Usage

logger = logging.getLogger("adapter.requests")

_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class RequestRecord:
    """What a request's line in the log says beyond its route and status; lies in the scope's state."""

    id: str
    usage: Usage | None = None
    """So far, where the request is charged; else when it has ended."""
    is_charged: bool = False
    """Whether somebody pays for its tokens, also where its answer breaks off."""
    error_code: str | None = None
    key: Key | None = None
    """None where keys are not asked for."""
    is_deepseeks: bool = False
    """Whether it came by one of DeepSeek's own base URLs."""

    def fail(self, error: BaseException) -> ApiError:
        """Note and log a failure; a traceback only where the cause is unknown. Returns what the client may know."""
        public = as_api_error(error)
        self.error_code = public.code
        if public.status >= 500:
            known = isinstance(error, (ApiError, asyncio.CancelledError))
            text = public.cause or public.message
            logger.error("%s %s: %s", self.id, public.code, text, exc_info=None if known else error)
        return public


def record_of(scope: Scope) -> RequestRecord:
    record = scope["state"]["record"]
    assert isinstance(record, RequestRecord)
    return record


class RunningRequests:
    """The tasks of the requests that are not yet answered."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def current(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def wait(self, timeout_s: float) -> None:
        """Let requests that the stopping server has cancelled say so to their clients."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)


class RequestLog:
    """ASGI middleware: `x-request-id` on every response (the client's own if it sent one), one log line per request."""

    def __init__(self, app: ASGIApp, running: RunningRequests) -> None:
        self._app = app
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._running.current():
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        own_id = Headers(scope=scope).get("x-request-id", "")
        record = RequestRecord(own_id if _CLIENT_ID.fullmatch(own_id) else secrets.token_hex(16))
        scope.setdefault("state", {})["record"] = record
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", record.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except (Exception, asyncio.CancelledError) as error:
            # The edge of the request: cancelled means that the server stops, and nothing above waits for this task.
            public = record.fail(error)
            if status is None:
                await error_response(public)(scope, receive, send_with_id)
        finally:
            _log(scope, status, record, time.perf_counter() - started_s)


def _log(scope: Scope, status: int | None, record: RequestRecord, duration_s: float) -> None:
    # Health probes come every few seconds.
    level = logging.DEBUG if scope["path"].startswith("/health") else logging.INFO
    if not logger.isEnabledFor(level):
        return
    # The path as sent: its decoded form could hold line breaks.
    path = scope.get("raw_path", scope["path"].encode("ascii", "backslashreplace")).decode("ascii", "backslashreplace")
    line = f"{record.id} {scope['method']} {path} {status or '-'} {duration_s * 1000:.1f}ms"
    if record.key is not None:
        line += f" key={record.key.name}"
    if record.usage is not None:
        line += f" in={record.usage.num_input_tokens} out={record.usage.num_output_tokens}"
    if record.error_code is not None:
        line += f" error={record.error_code}"
    logger.log(level, line)
