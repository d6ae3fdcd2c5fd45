"""What is told of a GPU, with what stands for torch's view of one and for NVML."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine import gpus
from engine.gpus import Gpu, gpus_of

PROPERTIES = SimpleNamespace(name="NVIDIA H100 80GB HBM3", uuid="GPU-1f", major=9, minor=0)


class Nvml:
    """The library that comes with the driver."""

    def __init__(self, failing: str = "") -> None:
        self._failing = failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == self._failing:
                return 999
            if name == "nvmlSystemGetDriverVersion":
                arguments[0].value = b"550.54.14"
            return 0

        return call


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: PROPERTIES)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (3 << 30, 80 << 30))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    gpus._driver_version.cache_clear()
    yield
    gpus._driver_version.cache_clear()


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setattr("ctypes.CDLL", lambda name: nvml)
    expected = Gpu(1, "GPU-1f", "NVIDIA H100 80GB HBM3", 80 << 30, 3 << 30, "9.0", "550.54.14", "12.8")
    assert gpus_of(torch.device("cuda")) == gpus_of(torch.device("cuda:1")) == [expected]
    assert nvml.calls == ["nvmlInit_v2", "nvmlSystemGetDriverVersion", "nvmlShutdown"], "once: it does not change"


@pytest.mark.parametrize("failing", ["nvmlInit_v2", "nvmlSystemGetDriverVersion", None])
def test_a_driver_that_does_not_say(monkeypatch: pytest.MonkeyPatch, failing: str | None) -> None:
    def load(name: str) -> Nvml:
        if failing is None:
            raise OSError(f"{name}: cannot open shared object file")
        return Nvml(failing)

    monkeypatch.setattr("ctypes.CDLL", load)
    assert gpus_of(torch.device("cuda"))[0].driver_version is None


def test_a_cpu_has_none() -> None:
    assert gpus_of(torch.device("cpu")) == []
