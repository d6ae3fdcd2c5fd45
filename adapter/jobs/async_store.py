"""The store in a thread of its own: the event loop never waits for the disk, and SQLite sees one caller."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from adapter.jobs.errors import StoreUnavailable
from adapter.jobs.store import JobStore

P = ParamSpec("P")
T = TypeVar("T")


class AsyncStore:
    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs-store")
        self._store: JobStore | None = None

    async def open(self) -> None:
        """Raises `JobStoreError`; the store then stays unavailable."""
        self._store = await self._run(lambda: JobStore(self._path, self._clock))

    async def close(self) -> None:
        if self._store is not None:
            await self._run(self._store.close)
            self._store = None
        self._thread.shutdown(wait=False)

    async def call(self, method: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call(JobStore.get, job_id)`; what has begun is carried through, also when the caller is cancelled.

        Raises:
            StoreUnavailable: nothing was changed.
        """
        store = self._store
        if store is None:
            raise StoreUnavailable("the database was not opened")
        try:
            return await self._run(lambda: method(store, *args, **kwargs))
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite: {error!r}") from error

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
