"""Which parts of the key-value cache hold the beginnings of prompts that came before. No tensors here."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

from engine.cache import BLOCK_SIZE, BlockAllocator


def block_keys(tokens: Sequence[int], before: bytes = b"") -> list[bytes]:
    """A hash for each full block of a prompt, of its tokens and all before them: equal keys, equal contents."""
    keys = []
    for start in range(0, len(tokens) - BLOCK_SIZE + 1, BLOCK_SIZE):
        block = array("q", tokens[start : start + BLOCK_SIZE])
        before = blake2b(before + block.tobytes(), digest_size=16).digest()
        keys.append(before)
    return keys


class PrefixCache:
    """Hands out extents of the cache, and knows what is computed in them.

    What a sequence leaves behind stays until its room is needed; the least recently used goes first. A new sequence
    copies what it needs of others' into its own extent, which costs far less than computing it: attention reads each
    sequence in one piece, and none depends on another.
    """

    def __init__(self, allocator: BlockAllocator) -> None:
        self._allocator = allocator
        self._places: dict[bytes, tuple[int, int]] = {}
        """Of each known block: the extent it lies in, and its own first position."""
        self._left: dict[int, list[bytes]] = {}
        """The blocks of each extent that no sequence uses any more; the least recently used extent comes first."""
        self._num_held = 0

    @property
    def num_blocks(self) -> int:
        return self._allocator.num_blocks

    @property
    def num_free_blocks(self) -> int:
        """Of which none belongs to a sequence; what was left behind counts, for it is given up when needed."""
        return self.num_blocks - self._num_held  # read by other threads too

    def allocate(self, num_tokens: int) -> int | None:
        """Return the first position of an extent; None while there is no room, whatever is given up for it."""
        if not self._allocator.fits(num_tokens, self._left):
            return None
        while (start := self._allocator.allocate(num_tokens)) is None:
            self._give_up(next(iter(self._left)))
        self._num_held += self._allocator.num_blocks_at(start)
        return start

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Positions of the longest known beginning, block by block."""
        found = []
        for key in keys:
            if key not in self._places:
                break
            found.append(self._places[key])
        # The end first, so that a beginning outlives what follows it.
        for extent in dict.fromkeys(extent for extent, _ in reversed(found)):
            if extent in self._left:
                self._left[extent] = self._left.pop(extent)
        return [position for _, position in found]

    def note(self, start: int, keys: Sequence[bytes], first_block: int = 0) -> None:
        """Remember blocks that are computed in the extent at `start`; `keys` are those from its `first_block` on."""
        for block, key in enumerate(keys, first_block):
            self._places.setdefault(key, (start, start + block * BLOCK_SIZE))

    def release(self, start: int, keys: Sequence[bytes]) -> None:
        """Take back a sequence's extent, of which the blocks of `keys` are computed.

        Those that no other extent holds are kept.
        """
        self._num_held -= self._allocator.num_blocks_at(start)
        self.note(start, keys)
        own = [block for block, key in enumerate(keys) if self._places[key][0] == start]
        if not own:
            self._allocator.free(start)
            return
        kept = keys[own[0] : own[-1] + 1]
        new_start = self._allocator.shrink(start, own[0], len(kept))
        for block in own:
            self._places[keys[block]] = new_start, start + block * BLOCK_SIZE
        self._left[new_start] = [keys[block] for block in own]

    def _give_up(self, start: int) -> None:
        for key in self._left.pop(start):
            del self._places[key]
        self._allocator.free(start)


def runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring blocks joined: first position and number of tokens of each run."""
    if not positions:
        return []
    breaks = [i for i, (a, b) in enumerate(pairwise(positions), 1) if b != a + BLOCK_SIZE]
    return [(positions[begin], (end - begin) * BLOCK_SIZE) for begin, end in pairwise([0, *breaks, len(positions)])]
