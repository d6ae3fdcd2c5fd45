"""What is known of one model: it is asked now and then, and nobody waits for it longer than need be."""

import asyncio
import logging
import time

from adapter.description import Description
from adapter.errors import ApiError, InternalError, Overloaded
from adapter.triton_client import TritonClient

logger = logging.getLogger(__name__)

MAX_AGE_S = 5.0
"""How long a model's description of itself is taken for granted."""
BUSY_WAIT_S = 0.2
"""How long a busy model is waited for where there is something to go on with."""


class DescribedModel:
    """One model of Triton, as it describes itself."""

    def __init__(self, triton: TritonClient, triton_model: str) -> None:
        self._triton = triton
        self._triton_model = triton_model
        self._asking: asyncio.Task[ApiError | None] | None = None
        self._asked_s = 0.0
        self.known: Description | None = None
        """What it last said; None once it could not."""

    def ask(self, *, again: bool = False) -> "asyncio.Task[ApiError | None]":
        """Ask in the background, unless it was asked a moment ago; `again`: also if that failed."""
        asking = self._asking
        if asking is not None and asking.done():
            has_failed = asking.cancelled() or asking.result() is not None
            if time.monotonic() - self._asked_s > MAX_AGE_S or (again and has_failed):
                asking = None
        if asking is None:
            asking = self._asking = asyncio.create_task(self._ask())
            self._asked_s = time.monotonic()
        return asking

    async def read(self, timeout_s: float) -> Description | None:
        """What it says; while that waits behind generations, what it last said; None if that is nothing.

        Raises `ApiError` where it cannot say.
        """
        asking = self.ask(again=True)
        await asyncio.wait((asking,), timeout=max(timeout_s if self.known is None else BUSY_WAIT_S, 0))
        if asking.done() and not asking.cancelled():
            error = asking.result()
            if error is not None and not isinstance(error, Overloaded):
                raise error
        return self.known

    async def fingerprint(self) -> str | None:
        """Without a wait, but for a moment after the start; None where nothing is known by then."""
        asking = self.ask()
        if self.known is None and not asking.done():
            await asyncio.wait((asking,), timeout=BUSY_WAIT_S)
        return None if self.known is None else self.known.fingerprint

    async def forget(self) -> None:
        """Forget what it said; cancel what is on its way."""
        self.known = None
        if self._asking is not None:
            asking, self._asking = self._asking, None
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self) -> ApiError | None:
        try:
            self.known = await self._triton.describe(self._triton_model)
        except ApiError as error:
            if not isinstance(error, Overloaded):
                self.known = None
            return error
        except Exception:  # the edge of a task that no request shall fail of
            logger.exception("%s could not be asked what it is", self._triton_model)
            self.known = None
            return InternalError()
        return None
