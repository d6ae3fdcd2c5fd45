"""Tells all who wait that something has changed."""

import asyncio


class Signal:
    """Note `version`, look, then `wait` with it: a change between the look and the wait is not missed."""

    def __init__(self) -> None:
        self.version = 0
        self.closed = False
        """Whether the process is about to stop: who waits for a client is to let go of it."""
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        self.version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        self.closed = True
        self.notify()

    async def wait(self, version: int, timeout_s: float) -> None:
        """Return once there is a change after `version`, and after `timeout_s` at the latest."""
        if self.version != version:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=timeout_s)
        finally:
            self._waiters.discard(waiter)
            waiter.cancel()
