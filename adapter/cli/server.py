"""Sends files to a server, and reads its answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx

from adapter.cli.errors import FileFailed, Interrupted, ServerAway
from adapter.cli.event_reader import EventReader
from adapter.cli.events import DONE, NOT_UNDERSTOOD, Event, RestFailed, Start, error_message, parse_event
from adapter.cli.pages import pages_after

BUSY = frozenset({429, 503})
PAUSES_S = (1, 2, 4, 8, 16)
"""Before each retry without a page since the last, where the server does not say how long."""
MAX_PAUSE_S = 600
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 900
"""Longest silence: the server's own limits end a generation before that."""


class OcrServer:
    def __init__(self, url: str, fields: Mapping[str, str | list[str]], api_key: str | None) -> None:
        """`url` is the server's address without a path; `fields` go with every file."""
        self._url = url
        self._fields = fields
        self._has_answered = False
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, pool=None)
        limits = httpx.Limits(max_connections=None)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits, headers=headers)

    async def close(self) -> None:
        await self._http.aclose()

    async def read(self, path: Path) -> AsyncGenerator[Event | RestFailed, None]:
        """One `Start`, then every page in order.

        A server that is busy, or whose answer breaks off, is asked again, for the pages that are left. Where that does
        not help, `RestFailed` follows on the pages that came.

        Raises:
            FileFailed: no page came; the server refuses this file, or its answers break off.
            ServerAway: no page came; nothing answers.
            OSError: the file can't be read.
        """
        has_started = False
        last: int | None = None
        num_failures = 0
        while True:
            try:
                async with aclosing(self._ask(path, last)) as events:
                    async for event in events:
                        if not isinstance(event, Start):
                            last, num_failures = event.page, 0
                            yield event
                        elif not has_started:
                            has_started = True
                            yield event
                return
            except (FileFailed, ServerAway) as error:
                failure = error
            pause_s = pause_before_retry_s(failure, num_failures) if self._has_answered else None
            if pause_s is None:
                if last is None:
                    raise failure
                yield RestFailed(last, str(failure))
                return
            num_failures += 1
            await asyncio.sleep(pause_s)

    async def _ask(self, path: Path, last: int | None) -> AsyncGenerator[Event, None]:
        """One answer, of the pages after `last`, ascending: all of them, or it raises."""
        num_left: int | None = None
        try:
            async with self._post(path, last) as response:
                self._has_answered = True
                if response.status_code != 200:
                    raise _refusal(response, await response.aread())
                async with aclosing(_events(response)) as events:
                    async for event in events:
                        if isinstance(event, Start):
                            num_left = event.pages
                        elif num_left is None or event.page <= (last or 0):
                            raise FileFailed(f"{NOT_UNDERSTOOD}: page {event.page} was not asked for")
                        else:
                            last, num_left = event.page, num_left - 1
                        yield event
                if num_left != 0:
                    raise Interrupted("the server's answer broke off")
        except FileFailed:
            if num_left != 0:  # else only its ending is lost
                raise

    @asynccontextmanager
    async def _post(self, path: Path, last: int | None) -> AsyncIterator[httpx.Response]:
        fields = dict(self._fields)
        if last is not None:
            pages = fields.get("pages")
            assert pages is None or isinstance(pages, str)
            fields["pages"] = pages_after(pages, last)
        with path.open("rb") as file:
            request = self._http.build_request(
                "POST", "/ocr/stream", params={"format": "pages"}, data=fields, files={"file": (path.name, file)}
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
                raise Interrupted(f"the connection failed: {error or type(error).__name__}") from None


def pause_before_retry_s(error: FileFailed | ServerAway, num_failures: int) -> float | None:
    """None: it is no use, or there were enough; `num_failures` is how many there were before, one after the other."""
    if num_failures == len(PAUSES_S) or not isinstance(error, (Interrupted, ServerAway)):
        return None
    if isinstance(error, ServerAway) or error.retry_after_s is None:
        return PAUSES_S[num_failures]
    return error.retry_after_s if error.retry_after_s <= MAX_PAUSE_S else None


def _refusal(response: httpx.Response, body: bytes) -> FileFailed:
    message = error_message(body) or f"the server answers with status {response.status_code}"
    if response.status_code not in BUSY:
        return FileFailed(message)
    retry_after = response.headers.get("Retry-After", "")
    return Interrupted(message, int(retry_after) if retry_after.isdecimal() else None)


async def _events(response: httpx.Response) -> AsyncGenerator[Event, None]:
    reader = EventReader()
    async for chunk in response.aiter_bytes():
        for data in reader.decode(chunk):
            if data == DONE:
                return
            if (event := parse_event(data)) is not None:
                yield event
