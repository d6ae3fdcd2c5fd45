"""Which sequences of a step begin alike, so that their rows can see that together. No tensors here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.cache import BLOCK_SIZE
from engine.sequence import Sequence

_MIN_BLOCKS, _MIN_MEMBERS = 8, 4
"""Seeing fewer blocks together, or as fewer sequences, gains nothing."""


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Prefixes that several sequences have in common, each with a copy of its own in the cache."""

    extents: tuple[tuple[int, int], ...]
    """Of each prefix, where one copy begins in the cache, and how many tokens it has."""
    group_of: tuple[int, ...]
    """Of each sequence, the index of its prefix, or -1."""


NO_SHARED_PREFIXES = SharedPrefixes((), ())


class PrefixFinder:
    """Finds what the sequences that decode have in common, anew when they are others than in the step before."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []
        self._decoding: list[Sequence] = []
        self._found = NO_SHARED_PREFIXES

    def __call__(self, sequences: list[Sequence]) -> SharedPrefixes:
        # A prompt whose last row is computed alone may end within what others share.
        decoding = [sequence for sequence in sequences if sequence.is_decoding]
        if sequences != self._sequences or decoding != self._decoding:
            self._sequences, self._decoding = sequences, decoding
            self._found = _find(sequences, decoding)
        return self._found


@dataclass(frozen=True, slots=True)
class _Group:
    members: list[Sequence]
    num_blocks: int
    """That they share."""

    @property
    def num_saved(self) -> int:
        """Blocks that are not read again for each of them."""
        return (len(self.members) - 1) * self.num_blocks


def _find(sequences: list[Sequence], decoding: list[Sequence]) -> SharedPrefixes:
    extents: list[tuple[int, int]] = []
    index_of: dict[Sequence, int] = {}
    for group in _groups(decoding, _MIN_BLOCKS):
        start = group.members[0].cache_start
        assert start is not None
        index_of |= dict.fromkeys(group.members, len(extents))
        extents.append((start, group.num_blocks * BLOCK_SIZE))
    if not extents:
        return NO_SHARED_PREFIXES
    return SharedPrefixes(tuple(extents), tuple(index_of.get(sequence, -1) for sequence in sequences))


def _groups(sequences: Iterable[Sequence], num_blocks: int) -> list[_Group]:
    """Those that share at least so many blocks, in fewer groups or in such that share more: what saves most."""
    alike: dict[bytes, list[Sequence]] = {}
    for sequence in sequences:
        if len(sequence.keys) >= num_blocks:
            alike.setdefault(sequence.keys[num_blocks - 1], []).append(sequence)
    groups = []
    for members in alike.values():
        if len(members) < _MIN_MEMBERS:
            continue
        whole = _Group(members, min(_num_common(members[0].keys, other.keys) for other in members[1:]))
        parts = _groups(members, whole.num_blocks + 1)
        if sum(part.num_saved for part in parts) <= whole.num_saved:
            groups.append(whole)
            continue
        in_parts = {sequence for part in parts for sequence in part.members}
        left = [sequence for sequence in members if sequence not in in_parts]
        groups += [*parts, *([_Group(left, whole.num_blocks)] if len(left) >= _MIN_MEMBERS else [])]
    return groups


def _num_common(first: list[bytes], second: list[bytes]) -> int:
    """Leading keys that are equal: each stands for its block and all before, so that halving finds the last."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[middle - 1] == second[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
