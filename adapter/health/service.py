"""Whether the models can answer, and what they are; the default model's health is the adapter's."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapter.errors import ApiError, Overloaded
from adapter.models.service import ModelCatalog
from adapter.triton_client import CONTROL_TIMEOUT_S, Description, TritonClient

logger = logging.getLogger(__name__)

MAX_AGE_S = 5.0
"""How long a model's description of itself is taken for granted."""
BUSY_WAIT_S = 0.2
"""How long a busy model is waited for that has described itself before."""


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """What describes the checkpoint is null while a busy model has not got round to telling."""

    id: str
    status: Literal["healthy", "unavailable"]
    triton: Literal["ready", "unreachable"]
    checkpoint: str | None = None
    device: str | None = None
    dtype: str | None = None
    max_context: int | None = None
    reason: str | None = None
    """Of one that is unavailable."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """The default model's health, and that of each model that is served."""

    status: Literal["healthy"] = field(default="healthy", init=False)
    model: str
    checkpoint: str | None
    device: str | None
    dtype: str | None
    max_context: int | None
    triton: Literal["ready"] = field(default="ready", init=False)
    models: Sequence[ModelHealth]


@dataclass(frozen=True, slots=True)
class Unhealthy:
    status: Literal["unavailable"] = field(default="unavailable", init=False)
    model: str
    triton: Literal["ready", "unreachable"]
    reason: str
    models: Sequence[ModelHealth]


@dataclass(frozen=True, slots=True)
class Live:
    status: Literal["live"] = "live"


@dataclass(frozen=True, slots=True)
class Ready:
    status: Literal["ready"] = "ready"


class HealthService:
    def __init__(self, triton: TritonClient, catalog: ModelCatalog) -> None:
        self._default_id = catalog.default_id
        self._served = dict(catalog.served)
        # Several ids may be one model.
        self._probes = {name: _ModelProbe(triton, name) for name in self._served.values()}

    async def check(self) -> Healthy | Unhealthy:
        """Answers within `CONTROL_TIMEOUT_S`, however busy the models are."""
        return await self._check(list(self._served))

    async def check_ready(self) -> Ready | Unhealthy:
        """Triton calls a model ready whose process hangs; one that describes itself is."""
        health = await self._check([self._default_id])
        return health if isinstance(health, Unhealthy) else Ready()

    async def stop(self) -> None:
        for probe in self._probes.values():
            await probe.stop()

    async def _check(self, model_ids: Sequence[str]) -> Healthy | Unhealthy:
        deadline_s = time.monotonic() + CONTROL_TIMEOUT_S
        probes = (self._probes[self._served[model_id]] for model_id in model_ids)
        models = await asyncio.gather(
            *(probe.check(model_id, deadline_s) for probe, model_id in zip(probes, model_ids, strict=True))
        )
        default = next(model for model in models if model.id == self._default_id)
        if default.reason is not None:
            return Unhealthy(default.id, default.triton, default.reason, models)
        return Healthy(default.id, default.checkpoint, default.device, default.dtype, default.max_context, models)


class _ModelProbe:
    """Asks one model of Triton what it is, every few seconds at most."""

    def __init__(self, triton: TritonClient, triton_model: str) -> None:
        self._triton = triton
        self._triton_model = triton_model
        self._describing: asyncio.Task[Description] | None = None
        self._described_s = 0.0
        self._known: Description | None = None

    async def check(self, model_id: str, deadline_s: float) -> ModelHealth:
        try:
            if not await self._triton.is_ready(self._triton_model):
                await self.stop()
                reason = "The model is not loaded, or is restarting."
                return ModelHealth(model_id, "unavailable", "ready", reason=reason)
        except ApiError as error:
            await self.stop()
            return ModelHealth(model_id, "unavailable", "unreachable", reason=error.message)
        try:
            description = await self._describe(deadline_s - time.monotonic())
        except ApiError as error:
            logger.error("%s cannot describe itself: %s", self._triton_model, error.cause or error.message)
            return ModelHealth(model_id, "unavailable", "ready", reason=error.message)
        if description is None:
            return ModelHealth(model_id, "healthy", "ready")
        return ModelHealth(
            model_id,
            "healthy",
            "ready",
            description.checkpoint,
            description.device,
            description.dtype,
            description.max_context,
        )

    async def stop(self) -> None:
        """Forget the description; cancel it if it is still on its way."""
        self._known = None
        if self._describing is not None:
            describing, self._describing = self._describing, None
            describing.cancel()
            await asyncio.gather(describing, return_exceptions=True)

    async def _describe(self, timeout_s: float) -> Description | None:
        """What was last known while the answer waits behind generations; None if that is nothing."""
        if self._describing is None or (self._describing.done() and time.monotonic() - self._described_s > MAX_AGE_S):
            self._describing = asyncio.create_task(self._triton.describe(self._triton_model))
            self._described_s = time.monotonic()
        task = self._describing
        await asyncio.wait((task,), timeout=max(timeout_s if self._known is None else BUSY_WAIT_S, 0))
        if not task.done() or task.cancelled():
            return self._known
        try:
            self._known = task.result()
            return self._known
        except ApiError as error:
            if self._describing is task:
                self._describing = None
            if isinstance(error, Overloaded):
                return self._known
            self._known = None
            raise
