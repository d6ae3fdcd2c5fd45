"""What this process may use of the machine, containers included."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

_CGROUP = Path("/sys/fs/cgroup")
_LARGE_PAGE = 2**21
_MADV_COLLAPSE = 25


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


def use_large_pages(array: NDArray[Any]) -> None:
    """Let what an array is of lie in pages of 2 MiB, so that its addresses are found sooner; Linux can from 6.1 on.

    What shares its first and last page comes along; where it cannot be done, nothing is lost. See madvise(2).
    """
    start = array.ctypes.data // _LARGE_PAGE * _LARGE_PAGE
    end = -(-(array.ctypes.data + array.nbytes) // _LARGE_PAGE) * _LARGE_PAGE
    for advice in (mmap.MADV_HUGEPAGE, _MADV_COLLAPSE):  # that it may be, and that it shall be now
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
