"""What GPU a model runs on."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch

_MAX_VERSION = 80
"""Bytes of NVML's longest driver version."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as this process sees it."""

    index: int
    uuid: str
    """The same in every process of the machine."""
    name: str
    total_bytes: int
    free_bytes: int
    """Whoever uses the rest."""
    compute_capability: str
    driver_version: str | None
    """None where it cannot be told."""
    cuda_version: str | None
    """That torch is built for."""


def gpus_of(device: torch.device) -> list[Gpu]:
    """The GPUs that a model on this device uses: none on CPU, and one otherwise."""
    if device.type != "cuda":
        return []
    index = torch.cuda.current_device() if device.index is None else device.index
    properties = torch.cuda.get_device_properties(index)
    free_bytes, total_bytes = torch.cuda.mem_get_info(index)
    return [
        Gpu(
            index=index,
            uuid=str(properties.uuid),
            name=properties.name,
            total_bytes=total_bytes,
            free_bytes=free_bytes,
            compute_capability=f"{properties.major}.{properties.minor}",
            driver_version=_driver_version(),
            cuda_version=torch.version.cuda,
        )
    ]


@cache
def _driver_version() -> str | None:
    """As NVML has it, which comes with the driver; torch only knows the newest CUDA that the driver can."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    version = ctypes.create_string_buffer(_MAX_VERSION)
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        failed = nvml.nvmlSystemGetDriverVersion(version, _MAX_VERSION)
    finally:
        nvml.nvmlShutdown()
    return None if failed else version.value.decode()
