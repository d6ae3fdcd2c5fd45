"""Which sequences of a step begin alike, so that their rows can see that together. No tensors here."""

from __future__ import annotations

from collections.abc import Sequence as Listed
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


def shared_prefixes(sequences: Listed[Sequence]) -> SharedPrefixes:
    """Find what sequences that decode have in common, the prefixes first that save the most.

    Every prefix ends where one of them found the rest of its prompt unknown.
    """
    prefixes = {sequence.known_prefix for sequence in sequences}
    members = {
        prefix: [i for i, sequence in enumerate(sequences) if sequence.has_prefix(prefix)]
        for prefix in prefixes
        if prefix is not None and prefix.num_blocks >= _MIN_BLOCKS
    }
    if not members:
        return NO_SHARED_PREFIXES
    extents: list[tuple[int, int]] = []
    group_of = [-1] * len(sequences)
    for prefix in sorted(members, key=lambda prefix: (1 - len(members[prefix])) * prefix.num_blocks):
        free = [i for i in members[prefix] if group_of[i] < 0]
        if len(free) >= _MIN_MEMBERS:
            for i in free:
                group_of[i] = len(extents)
            start = sequences[free[0]].cache_start
            assert start is not None
            extents.append((start, prefix.num_blocks * BLOCK_SIZE))
    return SharedPrefixes(tuple(extents), tuple(group_of))
