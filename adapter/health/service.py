"""Whether the models can answer, and what they are; the default model's health is the adapter's."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapter.errors import ApiError
from adapter.gpus.service import GpuInfo, gpus_of
from adapter.models.described import DescribedModel
from adapter.models.service import ModelCatalog
from adapter.triton_client import CONTROL_TIMEOUT_S, TritonClient

logger = logging.getLogger(__name__)


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
    gpus: int | None
    """How many the models run on."""
    nvidia_5090: bool | None
    """Whether one of them is a GeForce RTX 5090."""
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
        self._catalog = catalog
        self._default_id = catalog.default_id
        self._served = dict(catalog.served)
        self._probes = {name: _ModelProbe(triton, name, catalog.described(name)) for name in self._served.values()}

    async def check(self) -> Healthy | Unhealthy:
        """Answers within `CONTROL_TIMEOUT_S`, however busy the models are."""
        return await self._check(list(self._served))

    async def check_ready(self) -> Ready | Unhealthy:
        """Triton calls a model ready whose process hangs; one that describes itself is."""
        health = await self._check([self._default_id])
        return health if isinstance(health, Unhealthy) else Ready()

    async def _check(self, model_ids: Sequence[str]) -> Healthy | Unhealthy:
        deadline_s = time.monotonic() + CONTROL_TIMEOUT_S
        probes = (self._probes[self._served[model_id]] for model_id in model_ids)
        models = await asyncio.gather(
            *(probe.check(model_id, deadline_s) for probe, model_id in zip(probes, model_ids, strict=True))
        )
        default = next(model for model in models if model.id == self._default_id)
        if default.reason is not None:
            return Unhealthy(default.id, default.triton, default.reason, models)
        gpus = self._gpus()
        return Healthy(
            default.id,
            default.checkpoint,
            default.device,
            default.dtype,
            default.max_context,
            None if gpus is None else len(gpus),
            None if gpus is None else any(gpu.is_nvidia_5090 for gpu in gpus),
            models,
        )

    def _gpus(self) -> Sequence[GpuInfo] | None:
        """None while no model has told."""
        described = {served_id: self._catalog.described(name).known for served_id, name in self._served.items()}
        known = {served_id: description for served_id, description in described.items() if description}
        return gpus_of(known) if known else None


class _ModelProbe:
    """Asks Triton whether a model is ready, and the model what it is."""

    def __init__(self, triton: TritonClient, triton_model: str, described: DescribedModel) -> None:
        self._triton = triton
        self._triton_model = triton_model
        self._described = described

    async def check(self, model_id: str, deadline_s: float) -> ModelHealth:
        try:
            if not await self._triton.is_ready(self._triton_model):
                await self._described.forget()
                reason = "The model is not loaded, or is restarting."
                return ModelHealth(model_id, "unavailable", "ready", reason=reason)
        except ApiError as error:
            await self._described.forget()
            return ModelHealth(model_id, "unavailable", "unreachable", reason=error.message)
        try:
            description = await self._described.read(deadline_s - time.monotonic())
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
