"""Sends files to a server, and reads its answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx

from adapter.cli.errors import FileFailed, ServerAway
from adapter.cli.event_reader import EventReader
from adapter.cli.events import DONE, Event, PageFailed, PageResult, Start, error_message, parse_event

BUSY = frozenset({429, 503})
PAUSES_S = (1, 2, 4, 8, 16)
"""Before each retry, where a server that is busy does not say how long."""
MAX_PAUSE_S = 600
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 900
"""Longest silence: the server's own limits end a generation before that."""


class OcrServer:
    def __init__(self, url: str, fields: Mapping[str, str | list[str]]) -> None:
        """`url` is the server's address without a path; `fields` go with every file."""
        self._url = url
        self._fields = fields
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None)
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits)

    async def close(self) -> None:
        await self._http.aclose()

    async def read(self, path: Path) -> AsyncGenerator[Event, None]:
        """One `Start`, then every page in order. A server that is busy is asked again.

        Raises:
            FileFailed: the server refuses this file, or its answer breaks off.
            ServerAway: nothing answers.
            OSError: the file can't be read.
        """
        for default_s in (*PAUSES_S, None):
            async with self._post(path) as response:
                if response.status_code == 200:
                    async with aclosing(_events(response)) as events:
                        async for event in events:
                            yield event
                    return
                message = error_message(await response.aread())
            pause_s = retry_pause_s(response, default_s)
            if pause_s is None:
                raise FileFailed(message or f"the server answers with status {response.status_code}")
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def _post(self, path: Path) -> AsyncIterator[httpx.Response]:
        with path.open("rb") as file:
            request = self._http.build_request(
                "POST", "/ocr/stream", params={"format": "json"}, data=self._fields, files={"file": (path.name, file)}
            )
            try:
                response = await self._http.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
            except (httpx.ConnectError, httpx.ConnectTimeout):
                away = f"No server answers at {self._url}: start one with `make up`, or name it with --url."
                raise ServerAway(away) from None
            except httpx.RequestError as error:
                raise FileFailed(f"the connection failed: {error or type(error).__name__}") from None


def retry_pause_s(response: httpx.Response, default_s: float | None) -> float | None:
    """How long to wait before asking again; None: not at all. `default_s` is None after the last try."""
    if response.status_code not in BUSY or default_s is None:
        return None
    retry_after = response.headers.get("Retry-After", "")
    pause_s = int(retry_after) if retry_after.isdecimal() else default_s
    return pause_s if pause_s <= MAX_PAUSE_S else None


async def _events(response: httpx.Response) -> AsyncGenerator[Event, None]:
    reader = EventReader()
    num_pages: int | None = None
    async for chunk in response.aiter_bytes():
        for data in reader.decode(chunk):
            if data == DONE:
                if num_pages != 0:
                    raise FileFailed("the server's answer lacks pages")
                return
            event = parse_event(data)
            match event:
                case Start():
                    num_pages = event.pages
                case PageResult() | PageFailed() if num_pages is not None:
                    num_pages -= 1
                case None:
                    continue
            yield event
    raise FileFailed("the server's answer broke off")
