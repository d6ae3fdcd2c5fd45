"""Hears that the process is told to stop before the server waits for its connections to end."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Calls `heard` in the event loop at a signal to stop; the server's own handler, there before, has it too.

    ASGI tells of the stop only when all connections have ended.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._servers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def start(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python hears of signals there alone.
        self._loop = asyncio.get_running_loop()
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._servers[number] = handler
                signal.signal(number, self._handle)

    def stop(self) -> None:
        for number, handler in self._servers.items():
            signal.signal(number, handler)
        self._servers.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._heard)
        self._servers[number](number, frame)
