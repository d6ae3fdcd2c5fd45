"""Reads one job's pages to the end, however often Triton goes away on the way."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import orjson

from adapter.documents.reader import DocumentReader
from adapter.errors import ApiError, Overloaded, Unavailable
from adapter.jobs.async_store import AsyncStore
from adapter.jobs.errors import FilesLost, StoreUnavailable
from adapter.jobs.files import JobFiles
from adapter.jobs.pages import KEPT_PARTS, pack, pack_failure
from adapter.jobs.records import NewJob
from adapter.jobs.signal import Signal
from adapter.jobs.store import JobStore
from adapter.models.service import ModelCatalog
from adapter.ocr.document import DocumentEvent, PageFailed, PageRead, read_document
from adapter.ocr.fields import OcrFields, read_options, validated
from adapter.ocr.reader import PageReader
from adapter.triton_client import TritonClient

logger = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""How often a page is read alone, by a model that answers, before its failure is its own."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between tries; each pause is twice the last."""

    first_s: float = 1.0
    longest_s: float = 60.0

    def after(self, num_failures: int) -> float:
        return min(self.longest_s, self.first_s * 2.0 ** min(num_failures - 1, 32))


class JobLost(Exception):
    """The job was cancelled, or another process has taken it over."""


@dataclass(frozen=True, slots=True)
class _Reading:
    job: NewJob
    owner: str
    fields: OcrFields
    triton_model: str


class JobReader:
    def __init__(
        self,
        store: AsyncStore,
        files: JobFiles,
        changed: Signal,
        triton: TritonClient,
        catalog: ModelCatalog,
        reader: PageReader,
        documents: DocumentReader,
        pauses: Pauses,
    ) -> None:
        self._store = store
        self._files = files
        self._changed = changed
        self._triton = triton
        self._catalog = catalog
        self._reader = reader
        self._documents = documents
        self._pauses = pauses

    async def read(self, job: NewJob, owner: str) -> None:
        """Read the pages that are not done; each is kept as soon as it and those before it are read.

        Raises:
            JobLost: nothing more of it will be kept.
            ApiError: the job can't be read, now or later.
        """
        fields = validated(OcrFields, orjson.loads(job.fields))
        reading = _Reading(job, owner, fields, self._catalog.resolve(job.model)[1])
        stuck_at: int | None = None
        num_failures = num_tries = 0
        while remaining := await self._remaining(job):
            if remaining[0] != stuck_at:
                stuck_at, num_failures, num_tries = remaining[0], 0, 0
            # After a failure a page is read alone: if it brings the model down, the blame is not its neighbours'.
            alone = num_failures > 0
            is_up = False
            try:
                if alone:
                    await self._check_model(reading.triton_model)
                is_up = True
                await self._read_pages(reading, remaining[:1] if alone else remaining)
            except (ApiError, OSError) as error:
                if not _may_pass(error):
                    raise
                num_failures += 1
                if alone and is_up and _is_of_the_page(error):
                    num_tries += 1
                if num_tries == MAX_TRIES and isinstance(error, ApiError):
                    await self._keep(reading, PageFailed(remaining[0], error))
                    continue
                await self._pause(job, error, num_failures)

    async def _remaining(self, job: NewJob) -> list[int]:
        num_failures = 0
        while True:
            try:
                return await self._store.call(JobStore.remaining, job)
            except StoreUnavailable as error:
                num_failures += 1
                await self._pause(job, error, num_failures)

    async def _pause(self, job: NewJob, error: ApiError | OSError, num_failures: int) -> None:
        pause_s = self._pauses.after(num_failures)
        reason = error.cause or error.message if isinstance(error, ApiError) else repr(error)
        logger.warning("%s waits %g s and tries again: %s", job.id, pause_s, reason)
        await asyncio.sleep(pause_s)

    async def _check_model(self, triton_model: str) -> None:
        """Raises `Unavailable` or `Overloaded`."""
        try:
            await self._triton.describe(triton_model)
        except (Unavailable, Overloaded):
            raise
        except ApiError:
            pass  # It answered: not every model knows the question.

    async def _read_pages(self, reading: _Reading, numbers: Sequence[int]) -> None:
        job, fields = reading.job, reading.fields
        try:
            document = await self._documents.open_file(
                self._files.source(job.id),
                field=job.field,
                declared_type=job.declared_type,
                pages=numbers,
                dpi=fields.dpi,
                frames=fields.frames,
            )
        except FileNotFoundError:
            raise FilesLost(job.id) from None
        try:
            options = read_options(fields, reading.triton_model, document, job.field)
            pages = read_document(self._reader, document, options, fields.parts | KEPT_PARTS, job.id)
            async with aclosing(pages) as events:
                async for event in events:
                    if isinstance(event, PageFailed) and _may_pass(event.error):
                        raise event.error
                    await self._keep(reading, event)
        finally:
            await document.close()

    async def _keep(self, reading: _Reading, event: DocumentEvent) -> None:
        job = reading.job
        if isinstance(event, PageRead):
            record, pictures = await asyncio.to_thread(pack, event.result, reading.fields.parts)
            # Before the record: what the database says is there is there.
            if pictures is not None:
                await asyncio.to_thread(self._files.save_page, job.id, record.number, pictures)
        else:
            assert isinstance(event, PageFailed), "nothing is streamed"
            record = pack_failure(event.page, event.error)
        if not await self._store.call(JobStore.record, reading.owner, job.id, record):
            raise JobLost
        self._changed.notify()


def _may_pass(error: ApiError | OSError) -> bool:
    """Whether to try again later: it is not what was sent that is wrong."""
    return isinstance(error, (OSError, Overloaded)) or error.status >= 500


def _is_of_the_page(error: ApiError | OSError) -> bool:
    return not isinstance(error, (OSError, Overloaded, StoreUnavailable))
