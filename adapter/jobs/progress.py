"""A job's progress as server-sent events."""

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import orjson

from adapter.jobs.async_store import AsyncStore
from adapter.jobs.errors import JobNotFound
from adapter.jobs.records import Job, PageProgress, Status
from adapter.jobs.schemas import JobStatus
from adapter.jobs.signal import Signal
from adapter.jobs.store import JobStore

KEEP_ALIVE_S: Final = 15.0
"""Proxies cut connections that are silent for longer."""


async def progress_events(
    store: AsyncStore, changed: Signal, job_id: str, first: int, *, poll_s: float, status_of: Callable[[Job], JobStatus]
) -> AsyncGenerator[bytes, None]:
    """A `status` event when the job's status is new, a `page` event for each page that is done, from `first` on.

    A page event's id is its page's number: a client that comes back with it as `Last-Event-ID` misses nothing.

    Raises:
        JobNotFound: also when it is deleted meanwhile.
    """
    told: Status | None = None
    told_s = time.monotonic()
    while True:
        version = changed.version
        # The job before its pages: an ended one gets no more.
        job = await store.call(JobStore.get, job_id)
        if job is None:
            raise JobNotFound(job_id)
        events = b""
        if job.ended_s is None and job.status != told:
            told = job.status
            events += _event({"type": "status", "job": status_of(job).model_dump()})
        for page in await store.call(JobStore.progress, job_id, first):
            first = page.number + 1
            events += _page_event(page, job)
        if job.ended_s is not None:
            yield events + _event({"type": "status", "job": status_of(job).model_dump()})
            return
        if not events and time.monotonic() - told_s >= KEEP_ALIVE_S:
            events = b": still here\n\n"
        if events:
            told_s = time.monotonic()
            yield events
        await changed.wait(version, poll_s)


def _page_event(page: PageProgress, job: Job) -> bytes:
    fields = {
        "type": "page",
        "page": page.number,
        "status": "failed" if page.failed else "done",
        "pages_done": page.num_done,
        "pages": len(job.asked.numbers),
    }
    return b"id: %d\n" % page.number + _event(fields)


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"
