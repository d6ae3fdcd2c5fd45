"""What is kept of a job's pages as an answer: written page by page, since a whole one can be larger than the memory."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Literal, TypeAlias

import orjson
from starlette.responses import StreamingResponse

from adapter.jobs.async_store import AsyncStore
from adapter.jobs.errors import FilesLost
from adapter.jobs.files import JobFiles
from adapter.jobs.pages import PICTURES, unpack
from adapter.jobs.records import Job, PageRecord
from adapter.jobs.store import JobStore
from adapter.ocr.answer import PAGE_BREAK
from adapter.ocr.fields import OcrFields
from adapter.request_body import validated
from adapter.wire import UsageCounts

TextPart: TypeAlias = Literal["text", "markdown", "raw"]

_TEXTS: Final[tuple[TextPart, ...]] = ("text", "markdown", "raw")
_CHUNK_PAGES: Final = 20


class JobResult:
    """Its answers raise `ApiError` before they begin; what is lost later breaks them off."""

    def __init__(self, store: AsyncStore, files: JobFiles, job: Job) -> None:
        self._store = store
        self._files = files
        self._job = job
        self._parts = validated(OcrFields, orjson.loads(job.asked.fields)).parts
        self._has_pictures = not self._parts.isdisjoint(PICTURES)

    async def pages(self, first: int, limit: int) -> StreamingResponse:
        """JSON: at most `limit` pages from the number `first` on, and from which number to go on; null at the end."""
        await self._check_files()
        return await _begun(self._list(first, limit), "application/json")

    async def whole(self) -> StreamingResponse:
        """JSON as of `/ocr`; of a job that is done."""
        await self._check_files()
        return await _begun(self._answer(), "application/json")

    async def plain(self, part: TextPart) -> StreamingResponse:
        """The text of all pages that were read, UTF-8."""
        return await _begun(self._plain(part), "text/markdown" if part == "markdown" else "text/plain")

    async def _check_files(self) -> None:
        job = self._job
        if self._has_pictures:
            num_pages = await asyncio.to_thread(self._files.num_pages, job.id)
            if num_pages < job.num_done - job.num_failed:
                raise FilesLost(job.id)

    async def _list(self, first: int, limit: int) -> AsyncGenerator[bytes, None]:
        job = self._job
        opening = orjson.dumps({"id": job.id, "status": job.status})[:-1] + b',"pages":['
        num_pages, following = 0, first
        async with aclosing(self._records(first, limit)) as records:
            async for record in records:
                yield (b"," if num_pages else opening) + orjson.dumps(await self._page(record))
                num_pages, following = num_pages + 1, record.number + 1
        has_more = job.ended_s is None or num_pages == limit
        yield (b"" if num_pages else opening) + b'],"next":' + orjson.dumps(following if has_more else None) + b"}"

    async def _answer(self) -> AsyncGenerator[bytes, None]:
        yield orjson.dumps(await self._head())[:-1]
        for text_part in _TEXTS:
            if text_part == "text" or text_part in self._parts:
                yield f',"{text_part}":"'.encode()
                async with aclosing(self._texts(text_part)) as texts:
                    async for text in texts:
                        yield orjson.dumps(text)[1:-1]
                yield b'"'
        for name in ("blocks", "pages"):
            if name == "pages" or name in self._parts:
                yield f',"{name}":['.encode()
                separator = b""
                async with aclosing(self._items(name)) as items:
                    async for item in items:
                        yield separator + orjson.dumps(item)
                        separator = b","
                yield b"]"
        yield b"}"

    async def _plain(self, part: TextPart) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._texts(part)) as texts:
            async for text in texts:
                yield text.encode()

    async def _head(self) -> dict[str, Any]:
        job = self._job
        assert job.started_s is not None and job.ended_s is not None, "it is done"
        totals = await self._store.call(JobStore.totals, job.id)
        return {
            "id": job.id,
            "model": job.asked.model,
            "num_failed_pages": job.num_failed,
            "finish_reason": next((reason for reason in totals.finish_reasons if reason != "stop"), "stop"),
            "usage": UsageCounts.of(totals.usage),
            "processing_time_s": round(job.ended_s - job.started_s, 3),
        }

    async def _texts(self, part: TextPart) -> AsyncGenerator[str, None]:
        """The pages' texts, a blank line between two."""
        page_break = ""
        async with aclosing(self._all_records()) as records:
            async for record in records:
                if text := record.raw if part == "raw" else record.markdown if part == "markdown" else record.text:
                    yield page_break + text
                    page_break = PAGE_BREAK

    async def _items(self, name: str) -> AsyncGenerator[Any, None]:
        """All `pages`, or what all pages have of a list such as `blocks`."""
        async with aclosing(self._all_records()) as records:
            async for record in records:
                page = await self._page(record)
                for item in [page] if name == "pages" else page.get(name, ()):
                    yield item

    async def _page(self, record: PageRecord) -> dict[str, Any]:
        pictures = None
        if self._has_pictures and record.error_status is None:
            pictures = await asyncio.to_thread(self._files.load_page, self._job.id, record.number)
            if pictures is None:
                raise FilesLost(self._job.id)
        return unpack(record, pictures, self._parts)

    async def _all_records(self) -> AsyncGenerator[PageRecord, None]:
        num_records = 0
        async with aclosing(self._records(1, self._job.num_done)) as records:
            async for record in records:
                yield record
                num_records += 1
        if num_records != self._job.num_done:
            raise FilesLost(self._job.id)

    async def _records(self, first: int, limit: int) -> AsyncGenerator[PageRecord, None]:
        while limit > 0:
            chunk = await self._store.call(JobStore.pages, self._job.id, first, min(limit, _CHUNK_PAGES))
            for record in chunk:
                yield record
            if len(chunk) < min(limit, _CHUNK_PAGES):
                return
            first = chunk[-1].number + 1
            limit -= len(chunk)


async def _begun(chunks: AsyncGenerator[bytes, None], media_type: str) -> StreamingResponse:
    """The first chunk is awaited before the 200: what fails until then becomes a response of its own."""
    first = await anext(chunks, b"")

    async def all_chunks() -> AsyncGenerator[bytes, None]:
        async with aclosing(chunks):
            yield first
            async for chunk in chunks:
                yield chunk

    return StreamingResponse(all_chunks(), media_type=media_type)
