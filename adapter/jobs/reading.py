"""Reads one job's pages to the end, however often Triton goes away on the way."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import orjson

from adapter.access.accounts import Accounts
from adapter.access.errors import InsufficientQuota, InvalidKey, KeysUnavailable
from adapter.documents.reader import DocumentReader
from adapter.errors import ApiError, InternalError, Overloaded, Unavailable
from adapter.jobs.async_store import AsyncStore
from adapter.jobs.bill import Bill, PaidDocument
from adapter.jobs.errors import FilesLost, StoreUnavailable
from adapter.jobs.files import JobFiles
from adapter.jobs.pages import KEPT_PARTS, pack, pack_failure
from adapter.jobs.records import Job, NewJob
from adapter.jobs.signal import Signal
from adapter.jobs.store import JobStore
from adapter.models.service import ModelCatalog
from adapter.ocr.document import DocumentEvent, PageFailed, PageRead, read_document
from adapter.ocr.fields import OcrFields, read_options
from adapter.ocr.reader import PageReader
from adapter.request_body import validated
from adapter.triton_client import TritonClient

logger = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""How often a page is read alone, by a model that answers, before its failure is its own."""

MAX_TAKEOVERS: Final = 3
"""How many processes a page may kill before it is given up."""


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
    bill: Bill


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
        accounts: Accounts,
        pauses: Pauses,
    ) -> None:
        self._store = store
        self._files = files
        self._changed = changed
        self._triton = triton
        self._catalog = catalog
        self._reader = reader
        self._documents = documents
        self._accounts = accounts
        self._pauses = pauses

    async def read(self, job: Job, owner: str) -> None:
        """Read the pages that are not done; each is kept as soon as it and those before it are read.

        Raises:
            JobLost: nothing more of it will be kept.
            ApiError: the job can't be read, now or later.
        """
        fields = validated(OcrFields, orjson.loads(job.asked.fields))
        bill = Bill(self._accounts, job.asked)
        reading = _Reading(job.asked, owner, fields, self._catalog.resolve(job.asked.model)[1], bill)
        if job.num_done:  # a process that dies may have kept a page and not charged it
            await bill.charge(await self._store.call(JobStore.usages, job.id))
        try:
            await self._read_all(reading, job)
        finally:
            await bill.charge_rest()

    async def _read_all(self, reading: _Reading, job: Job) -> None:
        suspects = await self._suspects(reading, job.num_takeovers)
        failure: ApiError | OSError | None = None
        while remaining := await self._remaining(reading.job):
            if failure is None and remaining[0] not in suspects:
                failure = await self._read_together(reading, remaining)
            else:
                await self._read_alone(reading, remaining[0], failure)
                failure = None

    async def _suspects(self, reading: _Reading, num_takeovers: int) -> Sequence[int]:
        """The pages that were being read when the job's last process died; one that kills every process is given up."""
        if num_takeovers == 0:
            return ()
        suspects = (await self._remaining(reading.job))[: 2 * self._reader.max_parallel_pages]
        if num_takeovers >= MAX_TAKEOVERS and suspects:
            error = InternalError(f"{num_takeovers} processes that were to read it have died")
            logger.error("%s page %d is given up: %s", reading.job.id, suspects[0], error.cause)
            await self._keep(reading, PageFailed(suspects[0], error))
        return suspects

    async def _read_together(self, reading: _Reading, numbers: Sequence[int]) -> ApiError | OSError | None:
        """Read many pages in parallel; returns what ends that for now."""
        try:
            async with aclosing(self._events(reading, numbers)) as events:
                async for event in events:
                    if isinstance(event, PageFailed) and _is_of_the_key(event.error):
                        raise event.error
                    if isinstance(event, PageFailed) and _may_pass(event.error):
                        # What is read behind it waits.
                        await self._read_alone(reading, event.page, event.error)
                    else:
                        await self._keep(reading, event)
        except (ApiError, OSError) as error:
            if not _may_pass(error):
                raise
            return error
        return None

    async def _read_alone(self, reading: _Reading, number: int, failure: ApiError | OSError | None) -> None:
        """Read one page until it is done, first waiting after a `failure`.

        Alone: if the page brings the model or the process down, the blame is not its neighbours'.
        """
        num_failures = num_tries = 0
        while num_tries < MAX_TRIES:
            if failure is not None:
                num_failures += 1
                await self._pause(reading.job, failure, num_failures)
            is_up = False
            try:
                await self._check_model(reading.triton_model)
                is_up = True
                async with aclosing(self._events(reading, [number])) as events:
                    async for event in events:
                        if isinstance(event, PageFailed) and (_is_of_the_key(event.error) or _may_pass(event.error)):
                            raise event.error
                        await self._keep(reading, event)
                return
            except (ApiError, OSError) as error:
                if not _may_pass(error):
                    raise
                failure = error
            num_tries += is_up and _is_of_the_page(failure)
        assert isinstance(failure, ApiError), "no other failure is of the page"
        await self._keep(reading, PageFailed(number, failure))

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

    async def _events(self, reading: _Reading, numbers: Sequence[int]) -> AsyncGenerator[DocumentEvent, None]:
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
            options = replace(options, is_background=True, tally=reading.bill.tally)
            paid = PaidDocument(document, reading.bill)
            is_rest = list(numbers) != list(job.numbers)
            pages = read_document(self._reader, paid, options, fields.parts | KEPT_PARTS, job.id, is_rest=is_rest)
            async with aclosing(pages) as events:
                async for event in events:
                    yield event
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
        with reading.bill.keeping(record.usage):
            if not await self._store.call(JobStore.record, reading.owner, job.id, record):
                raise JobLost
        await reading.bill.charge({record.number: record.usage})
        self._changed.notify()


def _may_pass(error: ApiError | OSError) -> bool:
    """Whether to try again later: it is not what was sent that is wrong."""
    return isinstance(error, (OSError, Overloaded)) or error.status >= 500


def _is_of_the_key(error: ApiError) -> bool:
    """Whether no further page is to be read at all."""
    return isinstance(error, (InsufficientQuota, InvalidKey))


def _is_of_the_page(error: ApiError | OSError) -> bool:
    return not isinstance(error, (OSError, Overloaded, StoreUnavailable, KeysUnavailable))
