"""A store in a thread of its own: the event loop never waits for the disk, and SQLite sees one caller."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar

from adapter.errors import Unavailable


class Store(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=Store)
P = ParamSpec("P")
T = TypeVar("T")


class StoreThread(Generic[S]):
    def __init__(self, name: str, make: Callable[[], S], unavailable: Callable[[str], Unavailable]) -> None:
        """`make` opens the store, in the thread; `unavailable` makes the error of a given cause."""
        self._make = make
        self._unavailable = unavailable
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._store: S | None = None

    @property
    def is_open(self) -> bool:
        return self._store is not None

    async def open(self) -> None:
        """Raises what `make` does; the store then stays unavailable. Does nothing where it is open."""
        await self._run(self._open)

    async def close(self) -> None:
        if self._store is not None:
            await self._run(self._store.close)
            self._store = None
        self._thread.shutdown(wait=False)

    async def call(self, method: Callable[Concatenate[S, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call(JobStore.get, job_id)`; what has begun is carried through, also when the caller is cancelled.

        Raises:
            Unavailable: nothing was changed.
        """
        store = self._store
        if store is None:
            raise self._unavailable("the database was not opened")
        try:
            return await self._run(lambda: method(store, *args, **kwargs))
        except sqlite3.Error as error:
            raise self._unavailable(f"SQLite: {error!r}") from error

    def _open(self) -> None:
        if self._store is None:
            self._store = self._make()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
