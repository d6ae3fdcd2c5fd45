"""Which tokens the next step computes. No tensors here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from engine.cache import BLOCK_SIZE
from engine.prefix_cache import PrefixCache
from engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """The tokens `start … end` of a sequence, computed in one step.

    One for decode, with those that a form has forced behind it; more for prefill.
    """

    sequence: Sequence
    start: int
    end: int
    known: tuple[int, ...] = ()
    """Positions of blocks that hold the tokens before `start`, to be copied first; empty where these are in place."""

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def is_last(self) -> bool:
        """Whether it reaches the sequence's end."""
        return self.end == len(self.sequence.tokens)

    @property
    def is_sampled(self) -> bool:
        """Whether the next token is sampled from it."""
        return self.is_last and self.sequence.is_sampled

    @property
    def is_scored(self) -> bool:
        """Whether log probabilities of its prompt come with it; a prompt's first token has none, and needs no other."""
        logprobs = self.sequence.prompt_logprobs
        return logprobs is not None and (self.start == 0 or logprobs.num_wanted(self.start, self.end) > 0)


Batch = list[Chunk]


class Scheduler:
    """Decodes every running sequence at each step, and fills the rest of the token budget with prefill.

    Sequences are admitted first come, first served, each when its images are encoded and the cache has room for its
    worst case. What others have computed of a prompt is not computed again.
    """

    def __init__(self, cache: PrefixCache, max_step_tokens: int, enough_tokens: int | None = None) -> None:
        """After `enough_tokens` of prompts a step begins no further one; None: it takes all that there is room for."""
        self._cache = cache
        self._max_step_tokens = max_step_tokens
        self._enough_tokens = max_step_tokens if enough_tokens is None else enough_tokens
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
        # Stable: decode comes before all prefill, and what is of one token first.
        ordered = sorted(self._running, key=lambda sequence: (not sequence.is_decoding, sequence.num_uncomputed > 1))
        batch, budget, num_prompt_tokens = [], self._max_step_tokens, 0
        coming: set[bytes] = set()
        """Blocks that are being computed for sequences before."""
        for sequence in ordered:
            if budget == 0 or num_prompt_tokens >= self._enough_tokens:
                break
            if sequence.is_full:
                continue  # what it came to is not read yet
            start, known = sequence.num_computed, list[int]()
            if start == 0:
                # The cache has no hidden states, which a prompt's log-probabilities are made of.
                num_wanted = 0 if sequence.prompt_logprobs else (len(sequence.tokens) - 1) // BLOCK_SIZE
                wanted = sequence.keys[:num_wanted]
                known = self._cache.find(wanted)
                if len(known) < len(wanted) and wanted[len(known)] in coming:
                    continue
                start = len(known) * BLOCK_SIZE
            coming.update(sequence.keys[start // BLOCK_SIZE :])
            end = min(len(sequence.tokens), start + budget)
            batch.append(Chunk(sequence, start, end, tuple(known)))
            budget -= end - start
            num_prompt_tokens += 0 if sequence.is_decoding else end - start
        return batch

    def advance(self, batch: Batch) -> None:
        """Note that a batch is computed."""
        for chunk in batch:
            sequence = chunk.sequence
            if chunk.known and sequence.choice == 0:
                sequence.request.num_cached_tokens = chunk.start
            sequence.num_computed = chunk.end
            first = chunk.start // BLOCK_SIZE
            if keys := sequence.keys[first : chunk.end // BLOCK_SIZE]:
                assert sequence.cache_start is not None
                self._cache.note(sequence.cache_start, keys, first)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, and take its part of the cache back."""
        if sequence.cache_start is None:
            self._waiting.remove(sequence)
            return
        self._running.remove(sequence)
        self._cache.release(sequence.cache_start, sequence.computed_keys())
        sequence.cache_start = None

    def _admit(self) -> None:
        while self._waiting and self._waiting[0].request.is_encoded:
            self._cache.find(self._waiting[0].keys)  # what it can use is the last to be given up for it
            start = self._cache.allocate(self._waiting[0].max_length)
            if start is None:
                return
            sequence = self._waiting.popleft()
            sequence.cache_start = start
            self._running.append(sequence)
