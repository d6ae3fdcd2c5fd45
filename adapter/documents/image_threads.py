"""Threads for images alone: however slow one is, neither look-ups nor files nor anything else wait behind it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ImageThreads:
    """Decodes and draws as many images at once as there are threads, for their memory: 4 bytes for each pixel."""

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="image")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` when a thread is free; a caller that is cancelled lets a call that has begun run on."""
        work = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def stop(self) -> None:
        """The threads end when they have done what they were given."""
        self._threads.shutdown(wait=False)
