"""The GPUs that models run on, in DeepInfer's shape."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapter.description import Description, Gpu
from adapter.errors import ApiError, Unavailable
from adapter.models.service import ModelCatalog
from adapter.triton_client import CONTROL_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """`id` is a place in the list; what a driver does not tell is null."""

    id: int
    name: str
    total_memory_gb: float
    free_memory_gb: float
    compute_capability: str
    driver_version: str | None
    cuda_version: str | None
    is_nvidia_5090: bool
    is_nvidia_4090: bool
    models: Sequence[str]
    """Those that run on it."""


@dataclass(frozen=True, slots=True)
class GpuList:
    """Empty where all models run on CPU."""

    gpus: Sequence[GpuInfo]


def gpus_of(models: Mapping[str, Description]) -> list[GpuInfo]:
    """Each GPU once, of models by their served ids."""
    found: dict[str, Gpu] = {}
    users: dict[str, list[str]] = {}
    for served_id, description in models.items():
        for gpu in description.gpus:
            found[gpu.uuid] = gpu
            users.setdefault(gpu.uuid, []).append(served_id)
    ordered = sorted(found.values(), key=lambda gpu: (gpu.index, gpu.uuid))
    return [_info(place, gpu, users[gpu.uuid]) for place, gpu in enumerate(ordered)]


def _info(place: int, gpu: Gpu, models: Sequence[str]) -> GpuInfo:
    return GpuInfo(
        place,
        gpu.name,
        round(gpu.total_bytes / 2**30, 1),
        round(gpu.free_bytes / 2**30, 1),
        gpu.compute_capability,
        gpu.driver_version,
        gpu.cuda_version,
        "RTX 5090" in gpu.name,
        "RTX 4090" in gpu.name,
        models,
    )


class GpuService:
    def __init__(self, catalog: ModelCatalog) -> None:
        self._catalog = catalog

    async def list(self) -> GpuList:
        """Of the models that say where they run, within `CONTROL_TIMEOUT_S`; raises `ApiError` where none does."""
        served = self._catalog.served
        answers = await asyncio.gather(*map(self._read, served.values()))
        described = {id_: said for id_, said in zip(served, answers, strict=True) if isinstance(said, Description)}
        if not described:
            errors = [said for said in answers if isinstance(said, ApiError)]
            raise errors[0] if errors else Unavailable("No model has said yet where it runs; try again later.")
        return GpuList(gpus_of(described))

    async def _read(self, triton_model: str) -> Description | ApiError | None:
        try:
            return await self._catalog.described(triton_model).read(CONTROL_TIMEOUT_S)
        except ApiError as error:
            return error
