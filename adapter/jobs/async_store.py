"""The jobs' store as the event loop calls it."""

import time
from collections.abc import Callable
from pathlib import Path

from adapter.jobs.errors import StoreUnavailable
from adapter.jobs.store import JobStore
from adapter.storage.store_thread import StoreThread


class AsyncStore(StoreThread[JobStore]):
    """Raises `StoreUnavailable`; `open` raises `JobStoreError`."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__("jobs-store", lambda: JobStore(path, clock), StoreUnavailable)
