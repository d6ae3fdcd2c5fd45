"""A job's progress as server-sent events."""

from collections.abc import AsyncGenerator, Callable

from adapter.errors import Cancelled
from adapter.jobs.async_store import AsyncStore
from adapter.jobs.errors import JobNotFound
from adapter.jobs.records import Job, PageProgress, Status
from adapter.jobs.schemas import JobStatus
from adapter.jobs.signal import Signal
from adapter.jobs.store import JobStore
from adapter.sse import json_event


async def progress_events(
    store: AsyncStore, changed: Signal, job_id: str, first: int, *, poll_s: float, status_of: Callable[[Job], JobStatus]
) -> AsyncGenerator[bytes, None]:
    """A `status` event when the job's status is new, a `page` event for each page that is done, from `first` on.

    A page event's id is its page's number: a client that comes back with it as `Last-Event-ID` misses nothing.

    Raises:
        JobNotFound: also when it is deleted meanwhile.
        Cancelled: the process is about to stop; another one can be asked for the rest.
    """
    told: Status | None = None
    while True:
        version = changed.version
        # The job before its pages: an ended one gets no more.
        job = await store.call(JobStore.get, job_id)
        if job is None:
            raise JobNotFound(job_id)
        events = b""
        if job.ended_s is None and job.status != told:
            told = job.status
            events += json_event({"type": "status", "job": status_of(job).model_dump()})
        for page in await store.call(JobStore.progress, job_id, first):
            first = page.number + 1
            events += _page_event(page, job)
        if job.ended_s is not None:
            yield events + json_event({"type": "status", "job": status_of(job).model_dump()})
            return
        if events:
            yield events
        await changed.wait(version, poll_s)
        if changed.closed:
            raise Cancelled("The server is shutting down.")


def _page_event(page: PageProgress, job: Job) -> bytes:
    fields = {
        "type": "page",
        "page": page.number,
        "status": "failed" if page.failed else "done",
        "pages_done": page.num_done,
        "pages": len(job.asked.numbers),
    }
    return b"id: %d\n" % page.number + json_event(fields)
