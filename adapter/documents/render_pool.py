"""The processes that render: a PDF that crashes or hangs the renderer takes its page with it and nothing else."""

import asyncio
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from adapter.documents.rendering import BrokenPdf, Failed, Task, serve
from adapter.errors import Cancelled, InternalError

T = TypeVar("T")


class RenderCrashed(Exception):
    """The process died while it did the task."""


class RenderTimedOut(Exception):
    """The task took too long; its process has been killed."""


class RenderPool:
    """At most `num_processes`, each started when there is work for it, each with one task at a time."""

    # Not a ProcessPoolExecutor: there a process that dies fails the tasks of all the others, and one that is killed
    # while it sends a page leaves the executor waiting for the rest of it.

    def __init__(self, num_processes: int, timeout_s: float, max_memory_bytes: int) -> None:
        """`timeout_s` is that of a task, `max_memory_bytes` that of a process."""
        self._timeout_s = timeout_s
        self._max_memory_bytes = max_memory_bytes
        self._threads = ThreadPoolExecutor(num_processes, thread_name_prefix="render")
        self._lock = threading.Lock()
        self._idle: list[_RenderProcess] = []
        self._busy: set[_RenderProcess] = set()
        self._is_stopped = False

    async def run(self, task: Task[T]) -> T:
        """Do `task` when its turn comes; a caller that is cancelled lets one that has begun run on.

        Raises:
            BrokenPdf: the PDF can't be read, or this page of it.
            RenderCrashed, RenderTimedOut: this task did that; others are not affected.
            Cancelled: the pool is being stopped.
            InternalError: a process can't be started, or read or write, or has too little memory.
        """
        if self._is_stopped:
            raise _stopped()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, task)

    async def stop(self) -> None:
        """Kill the processes; the tasks that they were doing are `Cancelled`."""
        with self._lock:
            self._is_stopped = True
            for process in (*self._idle, *self._busy):
                process.kill()
        await asyncio.to_thread(self._threads.shutdown)
        for process in self._idle:
            process.close()
        self._idle.clear()

    def _do(self, task: Task[T]) -> T:
        process = self._take()
        is_usable = False
        try:
            result: T = process.do(task, self._timeout_s)
            is_usable = True
            return result
        except BrokenPdf:
            is_usable = True
            raise
        except (RenderCrashed, InternalError):
            if self._is_stopped:
                raise _stopped() from None
            raise
        finally:
            self._give_back(process, is_usable)

    def _take(self) -> "_RenderProcess":
        with self._lock:
            if self._is_stopped:
                raise _stopped()
            process = self._idle.pop() if self._idle else _RenderProcess(self._max_memory_bytes)
            if not process.is_alive:  # killed while it was idle, as by a machine short of memory
                process.close()
                process = _RenderProcess(self._max_memory_bytes)
            self._busy.add(process)
            return process

    def _give_back(self, process: "_RenderProcess", is_usable: bool) -> None:
        with self._lock:
            self._busy.remove(process)
            if is_usable:
                self._idle.append(process)
                return
            process.kill()
        process.close()


class _RenderProcess:
    def __init__(self, max_memory_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        try:
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, max_memory_bytes), name="render", daemon=True)
            self._process.start()
        except OSError as error:
            raise InternalError(f"a render process can't be started: {error!r}") from error
        self._is_ready = False
        theirs.close()  # the process has the only one: its death is an EOFError here

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def do(self, task: Task[T], timeout_s: float) -> T:
        self._wait_until_ready()
        try:
            self._connection.send(task)
            if not self._connection.poll(timeout_s):
                raise RenderTimedOut
            answer: Any = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RenderCrashed from error
        if isinstance(answer, BrokenPdf):
            raise answer
        if isinstance(answer, Failed):
            raise InternalError(f"a render process: {answer.cause}")
        result: T = answer.result
        return result

    def _wait_until_ready(self) -> None:
        # Apart from the task: a start that fails is no fault of the PDF, and takes none of its time.
        try:
            self._is_ready = self._is_ready or self._connection.recv()
        except (EOFError, OSError) as error:
            raise InternalError("a render process died while it started") from error

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Of one that is dead or dying."""
        self._process.join()
        self._process.close()
        self._connection.close()


def _stopped() -> Cancelled:
    return Cancelled("The server is shutting down.")
