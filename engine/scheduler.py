"""Which tokens the next step computes. No tensors here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from engine.cache import BlockAllocator
from engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tokens `start … end` of a sequence, computed in one step: one for decode, more for prefill."""

    sequence: Sequence
    start: int
    end: int

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def is_last(self) -> bool:
        """Whether it reaches the sequence's end, so that the next token can be sampled from it."""
        return self.end == len(self.sequence.tokens)


Batch = list[Chunk]


class Scheduler:
    """Decodes every running sequence at each step, and fills the rest of the token budget with prefill.

    Sequences are admitted first come, first served, each when its images are encoded and the cache has room for its
    worst case.
    """

    def __init__(self, allocator: BlockAllocator, max_step_tokens: int) -> None:
        self._allocator = allocator
        self._max_step_tokens = max_step_tokens
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def sequences(self) -> list[Sequence]:
        return [*self._running, *self._waiting]

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def schedule(self) -> Batch:
        """Choose the chunks of the next step: decode first, then prefill in order of arrival."""
        self._admit()
        # Stable: sequences that decode have one token to compute, and come before all prefill.
        ordered = sorted(self._running, key=lambda sequence: sequence.num_uncomputed > 1)
        batch, budget = [], self._max_step_tokens
        for sequence in ordered:
            num_tokens = min(sequence.num_uncomputed, budget)
            if num_tokens == 0:
                break
            batch.append(Chunk(sequence, sequence.num_computed, sequence.num_computed + num_tokens))
            budget -= num_tokens
        return batch

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, and take its part of the cache back."""
        if sequence.cache_start is None:
            self._waiting.remove(sequence)
            return
        self._running.remove(sequence)
        self._allocator.free(sequence.cache_start)
        sequence.cache_start = None

    def _admit(self) -> None:
        while self._waiting and self._waiting[0].request.is_encoded:
            start = self._allocator.allocate(self._waiting[0].max_length)
            if start is None:
                return
            sequence = self._waiting.popleft()
            sequence.cache_start = start
            self._running.append(sequence)
