"""What a table's heading says about where it was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
import transformers


def machine() -> str:
    """Processor, cores and versions, in one line."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].split(": ")[1] if names else platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


class Clock:
    """Knows how much of the CPUs' time a virtual machine's host has kept for others: what is busy then stands still."""

    def __init__(self) -> None:
        self._began = _ticks()

    def stolen(self) -> float:
        """Its share of the time since the beginning in which CPUs were wanted."""
        busy, stolen = (now - before for now, before in zip(_ticks(), self._began, strict=True))
        return stolen / max(1, busy + stolen)


def _ticks() -> tuple[int, int]:
    """Of all CPUs, busy and stolen: see proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split(None, 9)[1:9])
    return user + nice + system + irq + softirq, stolen
