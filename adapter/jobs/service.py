"""What can be asked of jobs: to create them, how far they are, what they have read, to end them."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import orjson
from fastapi import Request, Response

from adapter.access.accounts import Accounts
from adapter.documents.reader import DocumentReader
from adapter.errors import ApiError, ErrorDetail, InvalidRequest
from adapter.jobs.async_store import AsyncStore
from adapter.jobs.database import JobStoreError
from adapter.jobs.errors import JobNotDone, JobNotFound, StoreUnavailable, TooManyJobs
from adapter.jobs.files import JobFiles
from adapter.jobs.progress import progress_events
from adapter.jobs.reading import JobReader, Pauses
from adapter.jobs.records import Failure, Job, NewJob
from adapter.jobs.result import JobResult
from adapter.jobs.runner import JobRunner, Pace
from adapter.jobs.schemas import JobDeleted, JobList, JobStatus
from adapter.jobs.signal import Signal
from adapter.jobs.stop_signals import StopSignals
from adapter.jobs.store import JobStore
from adapter.models.service import ModelCatalog
from adapter.ocr.fields import OcrFields, read_options
from adapter.ocr.form import OcrInput, read_input
from adapter.ocr.reader import PageReader
from adapter.request_log import record_of
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.triton_client import TritonClient

logger = logging.getLogger(__name__)

URL = "/ocr/jobs"
_MAX_FILE_NAME = 255


class JobService:
    """`start` before the first request; `stop` before what it was built with."""

    def __init__(
        self,
        triton: TritonClient,
        catalog: ModelCatalog,
        reader: PageReader,
        documents: DocumentReader,
        accounts: Accounts,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        pace: Pace | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        folder = Path(settings.jobs_dir)
        self._catalog = catalog
        self._documents = documents
        self._settings = settings
        self._pace = pace or Pace()
        self._changed = Signal()
        self._store = AsyncStore(folder / "jobs.sqlite3", clock)
        self._files = JobFiles(folder / "files", clock)
        job_reader = JobReader(
            self._store, self._files, self._changed, triton, catalog, reader, documents, accounts, pauses or Pauses()
        )
        self._stop_signals = StopSignals(self._changed.close)
        self._runner = JobRunner(self._store, self._files, job_reader, self._changed, settings, self._pace)

    async def start(self) -> None:
        """A database that can't be opened stops nothing but jobs: they are answered with 503, the log says why."""
        self._stop_signals.start()
        try:
            await self._store.open()
        except JobStoreError as error:
            logger.error("OCR jobs are off: %s", error)
            return
        await self._runner.start()

    async def stop(self) -> None:
        self._stop_signals.stop()
        await self._runner.stop()
        await self._store.close()

    async def create(self, request: Request) -> JobStatus:
        """The document is on disk and its pages are chosen when this returns."""
        if not await self._store.call(JobStore.has_room, self._settings.max_jobs):
            raise self._too_many()
        given = await read_input(request)
        if given.fields.stream:
            given.source.close()
            raise InvalidRequest(f"stream: is not for jobs; {URL}/ID/events streams their progress", param="stream")
        job_id = f"job-{secrets.token_hex(16)}"
        try:
            try:
                with given.source as source:
                    await asyncio.to_thread(self._files.save_source, job_id, source)
                job = replace(await self._checked(job_id, given), key_id=_key_id(request))
            except OSError as error:
                raise StoreUnavailable(f"the document can't be kept: {error!r}") from error
            deleted = await self._store.call(JobStore.create, job, self._settings.max_jobs)
            if deleted is None:
                raise self._too_many()
        except ApiError:
            # Only then: of a request that was cancelled the job may be there.
            await asyncio.to_thread(self._files.remove, job_id)
            raise
        self._changed.notify()
        for deleted_id in deleted:
            await asyncio.to_thread(self._files.remove, deleted_id)
        return await self.get(job_id)

    async def get(self, job_id: str) -> JobStatus:
        return self._status(await self._job(job_id))

    async def check_owner(self, job_id: str, request: Request) -> None:
        """A key may know of its own jobs, and whoever needs no key of all. Raises `JobNotFound`."""
        job, key_id = await self._job(job_id), _key_id(request)
        if key_id is not None and job.asked.key_id != key_id:
            raise JobNotFound(job_id)

    async def list(self, limit: int, after: str | None, request: Request) -> JobList:
        if after is not None:
            try:
                await self.check_owner(after, request)
            except JobNotFound:
                text = "after: there is no such job; leave it out to begin with the newest"
                raise InvalidRequest(text, param="after") from None
        jobs = await self._store.call(JobStore.newest, limit + 1, after, _key_id(request))
        return JobList([self._status(job) for job in jobs[:limit]], len(jobs) > limit)

    async def pages(self, job_id: str, first: int, limit: int) -> Response:
        result = JobResult(self._store, self._files, await self._job(job_id))
        return await result.pages(first, limit)

    async def result(
        self, job_id: str, result_format: Literal["json", "text", "markdown"], request: Request
    ) -> Response:
        job = await self._job(job_id)
        if job.failure is not None:
            return _failed(job.failure, request)
        if job.status != "done":
            raise _not_done(job)
        result = JobResult(self._store, self._files, job)
        if result_format == "json":
            return await result.whole()
        return await result.plain(result_format)

    async def events(self, job_id: str, first: int) -> Response:
        events = progress_events(
            self._store, self._changed, job_id, first, poll_s=self._pace.poll_s, status_of=self._status
        )
        return EventStream(events, self._settings.keep_alive_s)

    async def end(self, job_id: str) -> JobStatus | JobDeleted:
        """Cancel a job that has not ended; what is done of it stays. Delete one that has."""
        job = await self._store.call(JobStore.cancel_or_delete, job_id)
        if job is None:
            raise JobNotFound(job_id)
        self._changed.notify()
        if job.ended_s is not None:
            await asyncio.to_thread(self._files.remove, job_id)
            return JobDeleted(job_id)
        await asyncio.to_thread(self._files.remove_source, job_id)
        return await self.get(job_id)

    async def _checked(self, job_id: str, given: OcrInput) -> NewJob:
        """Opened once, so that what is wrong with it is said at once."""
        fields = given.fields
        model_id, triton_model = self._catalog.resolve_ocr(fields.model)
        document = await self._documents.open_file(
            self._files.source(job_id),
            field=given.field,
            declared_type=given.declared_type,
            pages=fields.pages,
            dpi=fields.dpi,
            frames=fields.frames,
        )
        try:
            read_options(fields, triton_model, document, given.field)
            numbers = list(document.numbers)
        finally:
            await document.close()
        asked = fields.model_dump(mode="json", exclude_none=True, include=set(OcrFields.model_fields))
        file_name = None if given.file_name is None else given.file_name[:_MAX_FILE_NAME]
        return NewJob(job_id, model_id, orjson.dumps(asked), given.field, given.declared_type, file_name, numbers)

    def _too_many(self) -> TooManyJobs:
        text = f"There are {self._settings.max_jobs} jobs that have not ended, the most there may be; cancel one first."
        return TooManyJobs(text, self._settings.retry_after_s)

    async def _job(self, job_id: str) -> Job:
        job = await self._store.call(JobStore.get, job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    def _status(self, job: Job) -> JobStatus:
        failure = job.failure
        return JobStatus(
            id=job.id,
            status=job.status,
            model=job.asked.model,
            file_name=job.asked.file_name,
            pages=len(job.asked.numbers),
            pages_done=job.num_done,
            pages_failed=job.num_failed,
            created=int(job.created_s),
            expires=None if job.ended_s is None else int(job.ended_s) + self._settings.job_ttl_s,
            error=None if failure is None else ErrorDetail(**orjson.loads(failure.error)),
            url=f"{URL}/{job.id}",
        )


def _key_id(request: Request) -> str | None:
    key = record_of(request.scope).key
    return None if key is None else key.id


def _not_done(job: Job) -> JobNotDone:
    if job.status == "cancelled":
        return JobNotDone(f"The job was cancelled; what is done of it is at {URL}/{job.id}/pages.")
    num_pages = len(job.asked.numbers)
    return JobNotDone(f"The job is {job.status}, {job.num_done} of {num_pages} pages are done: {URL}/{job.id}/pages.")


def _failed(failure: Failure, request: Request) -> Response:
    """As `/ocr` would have answered."""
    error = orjson.loads(failure.error)
    record_of(request.scope).error_code = error["code"]
    return Response(orjson.dumps({"error": error}), failure.status, media_type="application/json")
