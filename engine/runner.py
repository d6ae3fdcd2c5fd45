"""Computes one step: a batch of chunks in, the logits of the rows to sample from out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.attention import KVCache, Segment, StepAttention
from engine.models.decoder import Decoder
from engine.prefix_cache import runs
from engine.scheduler import Batch


@dataclass(slots=True)
class Step:
    """A batch as flat lists, a number for each token, and a segment for each sequence."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    cache_positions: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    last_rows: list[int] = field(default_factory=list)
    """Rows that reach their sequence's end."""

    @classmethod
    def of(cls, batch: Batch) -> Step:
        step = cls()
        for chunk in batch:
            start = chunk.sequence.cache_start
            assert start is not None
            step.tokens += chunk.sequence.tokens[chunk.start : chunk.end]
            step.positions += range(chunk.start, chunk.end)
            step.cache_positions += range(start + chunk.start, start + chunk.end)
            step.segments.append(Segment(chunk.num_tokens, start, chunk.end))
            if chunk.is_last:
                step.last_rows.append(len(step.tokens) - 1)
        return step


class Runner:
    """Turns chunks into flat tensors, and runs the decoder over them."""

    def __init__(self, decoder: Decoder, cache: KVCache, device: torch.device) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = device

    def warm_up(self, max_sequences: int) -> None:
        """Compile what decode steps of so many sequences need: the first requests shall not wait for it."""
        spare = self._cache.keys.shape[2] - 1  # belongs to no sequence
        step = Step([0], [0], [spare], [Segment(1, spare, 1)], [0])
        self._compute(step, self._decoder.embed(self._tensor(step.tokens)))

    def run(self, batch: Batch) -> Tensor:
        """Compute the batch's tokens; their keys and values are in the cache afterwards.

        Returns:
            `[num_last_chunks, vocab_size]` in float32, a row for each chunk that reaches its sequence's end.
        """
        self._copy_known(batch)
        step = Step.of(batch)
        embeddings = self._decoder.embed(self._tensor(step.tokens))
        _place_images(embeddings, batch)
        return self._compute(step, embeddings)

    def _compute(self, step: Step, embeddings: Tensor) -> Tensor:
        hidden = self._decoder.forward(embeddings, self._tensor(step.positions), self._attention(step))
        return self._decoder.logits(hidden[self._tensor(step.last_rows)]).float()

    def _attention(self, step: Step) -> StepAttention:
        return StepAttention(self._cache, self._tensor(step.cache_positions), step.segments)

    def _copy_known(self, batch: Batch) -> None:
        """Put what others have computed of a prompt where its sequence reads it."""
        for chunk in batch:
            destination = chunk.sequence.cache_start
            for source, num_tokens in runs(chunk.known):
                assert destination is not None
                self._cache.copy(source, destination, num_tokens)
                destination += num_tokens

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _place_images(embeddings: Tensor, batch: Batch) -> None:
    """Put the embeddings of images where the tokens that stand for them are: into `[num_tokens, hidden_size]`."""
    row = 0
    for chunk in batch:
        for image in chunk.sequence.request.prompt.images:
            start, end = max(chunk.start, image.start), min(chunk.end, image.start + image.num_tokens)
            if start < end:
                assert image.embeddings is not None
                part = image.embeddings[start - image.start : end - image.start]
                embeddings[row + start - chunk.start : row + end - chunk.start] = part
        row += chunk.num_tokens
