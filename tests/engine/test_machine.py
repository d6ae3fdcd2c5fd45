"""Pages of memory."""

from __future__ import annotations

import mmap
import platform
from pathlib import Path

import numpy as np
import pytest

from engine.machine import use_large_pages

NUM_BYTES = 2**24


def num_large_kib(address: int) -> int:
    """Of the mapping at an address, what is in large pages."""
    is_it = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, _, end = first.partition("-")
            is_it = int(start, 16) <= address < int(end, 16)
        elif is_it and first == "AnonHugePages:":
            return int(line.split()[1])
    raise LookupError(address)


def test_what_is_in_large_pages_stays_what_it_was() -> None:
    with mmap.mmap(-1, NUM_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # where they are always used
        whole = np.frombuffer(memory, np.uint32)
        whole[:] = range(len(whole))
        middle = whole[len(whole) // 4 : len(whole) // 2]
        assert num_large_kib(middle.ctypes.data) == 0
        use_large_pages(middle)
        assert (whole == range(len(whole))).all()
        num_kib = num_large_kib(middle.ctypes.data)
        del whole, middle
    version = tuple(int(part) for part in platform.release().split(".")[:2])
    if version < (6, 1) or not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this Linux cannot")
    assert num_kib > 0


def test_what_is_small_or_nothing_stays_what_it_was() -> None:
    small = np.arange(3)
    use_large_pages(small)
    use_large_pages(small[:0])
    assert small.tolist() == [0, 1, 2]
