"""Whether the default model can answer, and what it is."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Literal

from adapter.errors import ApiError, Overloaded
from adapter.models.service import ModelCatalog
from adapter.triton_client import CONTROL_TIMEOUT_S, Description, TritonClient

logger = logging.getLogger(__name__)

MAX_AGE_S = 5.0
"""How long a model's description of itself is taken for granted."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """What describes the checkpoint is null while a busy model has not got round to telling."""

    status: Literal["healthy"] = field(default="healthy", init=False)
    model: str
    checkpoint: str | None
    device: str | None
    dtype: str | None
    max_context: int | None
    triton: Literal["ready"] = field(default="ready", init=False)


@dataclass(frozen=True, slots=True)
class Unhealthy:
    status: Literal["unavailable"] = field(default="unavailable", init=False)
    model: str
    triton: Literal["ready", "unreachable"]
    reason: str


@dataclass(frozen=True, slots=True)
class Live:
    status: Literal["live"] = "live"


@dataclass(frozen=True, slots=True)
class Ready:
    status: Literal["ready"] = "ready"


class HealthService:
    def __init__(self, triton: TritonClient, catalog: ModelCatalog) -> None:
        self._triton = triton
        self._model, self._triton_model = catalog.resolve(None)
        self._describing: asyncio.Task[Description] | None = None
        self._described_s = 0.0

    async def check(self) -> Healthy | Unhealthy:
        """Answers within `CONTROL_TIMEOUT_S`, however busy the model is."""
        deadline_s = time.monotonic() + CONTROL_TIMEOUT_S
        not_ready = await self._check_triton()
        if not_ready is not None:
            await self.stop()
            return not_ready
        try:
            description = await self._describe(deadline_s - time.monotonic())
        except ApiError as error:
            logger.error("%s cannot describe itself: %s", self._triton_model, error.cause or error.message)
            return Unhealthy(self._model, "ready", error.message)
        if description is None:
            return Healthy(self._model, None, None, None, None)
        return Healthy(
            self._model, description.checkpoint, description.device, description.dtype, description.max_context
        )

    async def check_ready(self) -> Ready | Unhealthy:
        """Triton calls a model ready whose process hangs; one that describes itself is."""
        health = await self.check()
        return health if isinstance(health, Unhealthy) else Ready()

    async def _check_triton(self) -> Unhealthy | None:
        try:
            if await self._triton.is_ready(self._triton_model):
                return None
        except ApiError as error:
            return Unhealthy(self._model, "unreachable", error.message)
        return Unhealthy(self._model, "ready", "The model is not loaded, or is restarting.")

    async def stop(self) -> None:
        """Forget the description; cancel it if it is still on its way."""
        if self._describing is not None:
            self._describing.cancel()
            await asyncio.gather(self._describing, return_exceptions=True)
            self._describing = None

    async def _describe(self, timeout_s: float) -> Description | None:
        """Asked for every few seconds; None while the answer waits behind generations."""
        if self._describing is None or (self._describing.done() and time.monotonic() - self._described_s > MAX_AGE_S):
            self._describing = asyncio.create_task(self._triton.describe(self._triton_model))
            self._described_s = time.monotonic()
        task = self._describing
        await asyncio.wait((task,), timeout=max(timeout_s, 0))
        if not task.done() or task.cancelled():
            return None
        try:
            return task.result()
        except ApiError as error:
            if self._describing is task:
                self._describing = None
            if isinstance(error, Overloaded):
                return None
            raise
