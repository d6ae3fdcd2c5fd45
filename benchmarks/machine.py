"""What a table's heading says about where it was measured."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import torch
import transformers

_MOMENT_S, _LITTLE = 0.3, 0.15
"""Seconds, and the share of one CPU."""


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


def wait_until_idle(timeout_s: float = 20.0) -> None:
    """Return when the CPUs have had little to do for a moment: some engines keep one busy after their last answer."""
    deadline_s = time.monotonic() + timeout_s
    is_idle = False
    while not is_idle and time.monotonic() < deadline_s:
        before, _ = _ticks()
        time.sleep(_MOMENT_S)
        is_idle = (_ticks()[0] - before) / os.sysconf("SC_CLK_TCK") < _LITTLE * _MOMENT_S


def _ticks() -> tuple[int, int]:
    """Of all CPUs, busy and stolen: see proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split(None, 9)[1:9])
    return user + nice + system + irq + softirq, stolen
