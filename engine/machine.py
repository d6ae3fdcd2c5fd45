"""What this process may use of the machine, containers included."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Cores this process may run on: its affinity, and its container's quota."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, -(-int(quota) // int(period)))
    return max(1, cores)


def available_bytes(device: torch.device) -> int:
    """Memory that could still be taken on this device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        available = min(available, int(limit) - int(used))
    return max(0, available)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
