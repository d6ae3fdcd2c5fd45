"""Computes one step: a batch of chunks in, the logits of the rows to sample from out."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.attention import KVCache, Segment, StepAttention
from engine.models.decoder import Decoder
from engine.prefix_cache import runs
from engine.scheduler import Batch


class Runner:
    """Turns chunks into flat tensors, and runs the decoder over them."""

    def __init__(self, decoder: Decoder, cache: KVCache, device: torch.device) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = device

    def run(self, batch: Batch) -> Tensor:
        """Compute the batch's tokens; their keys and values are in the cache afterwards.

        Returns:
            `[num_last_chunks, vocab_size]` in float32, a row for each chunk that reaches its sequence's end.
        """
        tokens: list[int] = []
        positions: list[int] = []
        cache_positions: list[int] = []
        segments: list[Segment] = []
        last_rows: list[int] = []
        for chunk in batch:
            sequence = chunk.sequence
            assert sequence.cache_start is not None
            start = sequence.cache_start
            destination = start
            for source, num_tokens in runs(chunk.known):
                self._cache.copy(source, destination, num_tokens)
                destination += num_tokens
            tokens += sequence.tokens[chunk.start : chunk.end]
            positions += range(chunk.start, chunk.end)
            cache_positions += range(start + chunk.start, start + chunk.end)
            segments.append(Segment(chunk.num_tokens, start, chunk.end))
            if chunk.is_last:
                last_rows.append(len(tokens) - 1)
        attention = StepAttention(self._cache, self._tensor(cache_positions), segments)
        embeddings = self._decoder.embed(self._tensor(tokens))
        _place_images(embeddings, batch)
        hidden = self._decoder.forward(embeddings, self._tensor(positions), attention)
        return self._decoder.logits(hidden[self._tensor(last_rows)]).float()

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
