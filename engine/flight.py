"""A step that is launched, and whose tokens nobody has read: the next one can be launched on top of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from engine.runner import Ahead
from engine.sampler import Sampled, SampledToken
from engine.sequence import UNREAD, Sequence


class Flight:
    """Keeps a place in each sequence for the token that is chosen for it."""

    def __init__(
        self, sequences: list[Sequence], sampled: Sampled, unsampled: list[Sequence], scored: list[Sequence]
    ) -> None:
        """
        Args:
            sequences: a token is chosen for each.
            sampled: a row for each of them.
            unsampled: they end with this step, without a token.
            scored: part of the log probabilities of their prompts come with it.
        """
        self._sampled = sampled
        self._tokens: list[SampledToken] = []
        self._unsampled = unsampled
        self._scored = scored
        self._places = {sequence: len(sequence.tokens) for sequence in sequences}
        self._dropped: set[Sequence] = set()
        self.waited_s = 0.0
        """How long it was waited for."""
        for sequence in sequences:
            sequence.tokens.append(UNREAD)

    @property
    def sequences(self) -> list[Sequence]:
        return [*self._places, *self._unsampled]

    @property
    def ahead(self) -> Ahead:
        """What the next step takes up, without waiting."""
        return Ahead(self._sampled.tokens, {sequence: row for row, sequence in enumerate(self._places)})

    def drop(self, sequence: Sequence) -> None:
        """Let a sequence's token be computed again, if this step computed it: it went on with a wrong one."""
        if sequence in self._places:
            self._dropped.add(sequence)
            sequence.tokens.pop()
            sequence.num_computed -= 1

    def wait(self) -> None:
        """Wait for the device."""
        started_s = time.perf_counter()
        self._tokens = self._sampled.read()
        self.waited_s = time.perf_counter() - started_s

    @property
    def scored(self) -> list[Sequence]:
        """Those that are still there."""
        return [sequence for sequence in self._scored if sequence.cache_start is not None]

    def read(self) -> Iterator[tuple[Sequence, int, SampledToken | None]]:
        """Put each token in its place, and give the sequences that are still there, place and token."""
        for (sequence, place), token in zip(self._places.items(), self._tokens, strict=True):
            if sequence.cache_start is not None and sequence not in self._dropped:
                sequence.tokens[place] = token.token_id
                yield sequence, place, token
        for sequence in self._unsampled:
            if sequence.cache_start is not None:
                yield sequence, len(sequence.tokens), None
