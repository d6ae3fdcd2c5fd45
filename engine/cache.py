"""Which part of the key-value cache belongs to whom. No tensors here."""

from __future__ import annotations

from collections.abc import Iterable

BLOCK_SIZE = 16
"""Tokens in a block, the unit in which the cache is handed out."""


class BlockAllocator:
    """Hands out extents: runs of neighbouring blocks, first fit.

    A sequence gets its worst case at once, so nothing admitted is ever evicted, and its keys and values lie in one
    piece, which attention on CPU reads as a view where scattered blocks would have to be gathered at every step.
    """

    def __init__(self, num_tokens: int) -> None:
        self.num_blocks = num_tokens // BLOCK_SIZE
        self._free = [(0, self.num_blocks)] if self.num_blocks else []
        self._used: dict[int, int] = {}

    @property
    def num_free_blocks(self) -> int:
        return sum(size for _, size in self._free)

    @property
    def num_tokens(self) -> int:
        return self.num_blocks * BLOCK_SIZE

    def num_blocks_at(self, position: int) -> int:
        """Of the extent that starts there."""
        return self._used[position // BLOCK_SIZE]

    def fits(self, num_tokens: int, positions: Iterable[int] = ()) -> bool:
        """Whether an extent of so many tokens could be had if those that start at these positions were taken back."""
        extents = [(start, self._used[start]) for start in (position // BLOCK_SIZE for position in positions)]
        return max((size for _, size in _merged(self._free + extents)), default=0) * BLOCK_SIZE >= num_tokens

    def allocate(self, num_tokens: int) -> int | None:
        """Return the first token position of an extent that holds `num_tokens`; None while there is no room."""
        needed = -(-num_tokens // BLOCK_SIZE)
        for i, (start, size) in enumerate(self._free):
            if size >= needed:
                self._free[i : i + 1] = [(start + needed, size - needed)] if size > needed else []
                self._used[start] = needed
                return start * BLOCK_SIZE
        return None

    def free(self, position: int) -> None:
        """Take back the extent that starts at this token position."""
        start = position // BLOCK_SIZE
        self._take_back(start, self._used.pop(start))

    def shrink(self, position: int, first: int, num_blocks: int) -> int:
        """Take back all of an extent but `num_blocks` from its block `first` on; return where it starts now."""
        start = position // BLOCK_SIZE
        end = start + self._used.pop(start)
        kept = start + first
        self._used[kept] = num_blocks
        for begin, size in ((start, first), (kept + num_blocks, end - kept - num_blocks)):
            if size:
                self._take_back(begin, size)
        return kept * BLOCK_SIZE

    def _take_back(self, start: int, size: int) -> None:
        self._free = _merged([*self._free, (start, size)])


def _merged(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Starts and sizes in order, neighbours joined."""
    merged: list[tuple[int, int]] = []
    for begin, size in sorted(extents):
        if merged and sum(merged[-1]) == begin:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((begin, size))
    return merged
