"""Runs the jobs in the background: takes them from the queue, holds their leases, lets go, clears away."""

import asyncio
import logging
import secrets
from dataclasses import dataclass
from functools import partial

import orjson

from adapter.errors import ApiError, InternalError
from adapter.jobs.async_store import AsyncStore
from adapter.jobs.errors import StoreUnavailable
from adapter.jobs.files import JobFiles
from adapter.jobs.reading import JobLost, JobReader
from adapter.jobs.records import Failure, Job
from adapter.jobs.signal import Signal
from adapter.jobs.store import JobStore
from adapter.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    lease_s: float = 15.0
    """How long a job waits whose process was killed."""
    poll_s: float = 1.0
    """How soon one process notices what another has done."""
    clean_s: float = 60.0
    """Between two looks for what has expired."""


class JobRunner:
    def __init__(
        self,
        store: AsyncStore,
        files: JobFiles,
        reader: JobReader,
        changed: Signal,
        settings: Settings,
        pace: Pace,
    ) -> None:
        self._store = store
        self._files = files
        self._reader = reader
        self._changed = changed
        self._settings = settings
        self._pace = pace
        self._owner = secrets.token_hex(16)
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._suspect: str | None = None
        """The last job taken that may have killed its processes: none runs beside it, to be blamed with it."""

    async def start(self) -> None:
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._clean())]

    async def stop(self) -> None:
        """Cancel the pages in flight and let go of the jobs: another process goes on with them at once."""
        if not self._loops:
            return
        await _end(self._loops)
        await _end(list(self._running.values()))
        try:
            await self._store.call(JobStore.release, self._owner)
        except StoreUnavailable as error:
            logger.error("the jobs of this process wait for their leases to end: %s", error.cause)

    async def _run(self) -> None:
        while True:
            version = self._changed.version
            try:
                await self._look()
            except StoreUnavailable as error:
                logger.error("no job can be begun: %s", error.cause)
            except Exception:
                logger.exception("no job can be begun")
            await self._changed.wait(version, self._pace.poll_s)

    async def _look(self) -> None:
        """Drop the jobs that are not ours any more, and take new ones for what is free."""
        running = dict(self._running)
        mine = await self._store.call(JobStore.renew, self._owner, running.keys(), self._pace.lease_s)
        await _end([task for job_id, task in running.items() if job_id not in mine])
        while len(self._running) < self._settings.max_running_jobs and self._suspect not in self._running:
            job = await self._store.call(JobStore.claim, self._owner, self._pace.lease_s)
            if job is None:
                return
            if job.num_takeovers > 1:
                self._suspect = job.id
            task = asyncio.create_task(self._work(job))
            self._running[job.id] = task
            task.add_done_callback(partial(self._forget, job.id))
            self._changed.notify()

    def _forget(self, job_id: str, _: asyncio.Task[None]) -> None:
        del self._running[job_id]

    async def _work(self, job: Job) -> None:
        """To the job's end. A job that can't be ended now is not held any longer, and taken up again."""
        failure = None
        try:
            try:
                await self._reader.read(job, self._owner)
            except (JobLost, StoreUnavailable):
                raise
            except ApiError as error:
                failure = _failure(error)
            except Exception:
                logger.exception("%s failed", job.id)
                failure = _failure(InternalError())
            if await self._store.call(JobStore.finish, self._owner, job.id, failure):
                logger.info("%s has ended", job.id)
                await asyncio.to_thread(self._files.remove_source, job.id)
        except JobLost:
            return
        except (StoreUnavailable, OSError) as error:
            logger.error("%s is not put away: %r", job.id, error)
        finally:
            self._changed.notify()

    async def _clean(self) -> None:
        """Remove what has expired, rows first: a folder that stays behind is an orphan, and found here later."""
        while True:
            try:
                expired = await self._store.call(JobStore.expire, self._settings.job_ttl_s)
                for job_id in expired:
                    await asyncio.to_thread(self._files.remove, job_id)
                kept = await self._store.call(JobStore.ids)
                await asyncio.to_thread(self._files.remove_orphans, kept)
            except StoreUnavailable as error:
                logger.error("expired jobs are not removed: %s", error.cause)
            except Exception:
                logger.exception("expired jobs are not removed")
            await asyncio.sleep(self._pace.clean_s)


def _failure(error: ApiError) -> Failure:
    return Failure(error.status, orjson.dumps(orjson.loads(error.body())["error"]))


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
