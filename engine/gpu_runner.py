"""The runner for GPUs: sequences attended together, and decode steps recorded once as CUDA graphs and replayed."""

from __future__ import annotations

import logging
from bisect import bisect_left
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from engine.attention import KVCache, Segment, StepAttention
from engine.batch_attention import BatchAttention, Layout, VarlenKernel
from engine.device import to_device
from engine.models.decoder import Decoder
from engine.runner import Ahead, Runner, Step, put_unread
from engine.scheduler import Batch

logger = logging.getLogger(__name__)

_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Rows that a decode step is recorded for; fewer are padded."""
_MIN_LENGTH = 1024
"""Of the contexts that a step with latent attention is recorded for, since it computes all of it; they double."""


def suits(decoder: Decoder, cache: KVCache) -> bool:
    """Whether there is a kernel for this model's heads on its device; the plain runner serves the others.

    It is FlashAttention: half precision, heads of at most 256 numbers in eights, compute capability 8 or more.
    """
    if cache.keys.device.type != "cuda" or cache.keys.dtype == torch.float32:
        return False
    dims = {decoder.cache_shape.key_dim, decoder.cache_shape.value_dim} if decoder.cache_shape.value_dim else set()
    fits = all(dim % 8 == 0 and dim <= 256 for dim in dims)
    return fits and torch.cuda.get_device_capability(cache.keys.device)[0] >= 8


class DecodeStep:
    """A decode step of a fixed number of sequences, which begin and end wherever its buffers say."""

    def __init__(self, decoder: Decoder, cache: KVCache, kernel: VarlenKernel, num_rows: int, max_cached: int) -> None:
        """Prepare the step.

        Args:
            decoder: what computes it.
            cache: where it reads and writes; its last token belongs to no sequence.
            kernel: attention of rows of many lengths.
            num_rows: sequences at most; what is left over computes a token of no sequence.
            max_cached: no sequence has more tokens.
        """
        self._decoder, self._cache, self._kernel = decoder, cache, kernel
        self._num_rows, self._max_cached, self._spare = num_rows, max_cached, cache.keys.shape[2] - 1
        device = cache.keys.device
        # Rows: tokens, positions, cache positions, first positions of the extents, tokens cached.
        self._buffers = torch.zeros(5, num_rows + 1, dtype=torch.int32, device=device)
        self._row_starts = torch.arange(num_rows + 1, dtype=torch.int32, device=device)
        self._fill(Step())
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = self._compute()

    def record(self, pool: Any) -> Any:
        """Record it as a CUDA graph; return the memory pool that later ones can share."""
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            self._logits = self._compute()
        self._graph = graph
        return graph.pool()

    def run(self, step: Step, ahead: Ahead | None = None) -> Tensor:
        """Logits of a step's sequences, one row each, `[num_sequences, vocab_size]`; valid until the next run."""
        self._fill(step)
        put_unread(self._buffers[0], step, ahead)
        if self._graph is None:
            self._logits = self._compute()
        else:
            self._graph.replay()
        return self._logits[: len(step.tokens)]

    def _fill(self, step: Step) -> None:
        num_left = self._num_rows + 1 - len(step.tokens)
        rows = (
            step.tokens + [0] * num_left,
            step.positions + [0] * num_left,
            step.cache_positions + [self._spare] * num_left,
            [segment.start for segment in step.segments] + [self._spare] * num_left,
            [segment.num_cached for segment in step.segments] + [1] * num_left,
        )
        self._buffers.copy_(to_device(rows, self._buffers.device, torch.int32))

    def _compute(self) -> Tensor:
        tokens, positions, cache_positions, cache_starts, num_cached = self._buffers
        layout = Layout(self._row_starts, cache_starts, num_cached[:-1], self._max_cached)
        segments = [Segment(1, 0, 0)] * self._num_rows  # their places are in the layout
        attention = BatchAttention(self._cache, cache_positions[:-1].long(), segments, layout, self._kernel)
        embeddings = self._decoder.embed(tokens[:-1])
        hidden = self._decoder.forward(embeddings, positions[:-1].long(), attention)
        return self._decoder.logits(hidden).float()


class GpuRunner(Runner):
    """Replays decode steps; computes all others as they come, every sequence in one kernel."""

    def __init__(self, decoder: Decoder, cache: KVCache, kernel: VarlenKernel, max_context: int) -> None:
        """Prepare for a model.

        Args:
            decoder: the model.
            cache: its keys and values; the last token belongs to no sequence.
            kernel: attention of rows of many lengths.
            max_context: no sequence has more tokens.
        """
        super().__init__(decoder, cache, cache.keys.device)
        self._kernel = kernel
        self._max_context = max_context
        self._steps: dict[tuple[int, int], DecodeStep | None] = {}
        """None for those that do not fit into memory."""
        self._pool: Any = None

    def warm_up(self, max_sequences: int) -> None:
        """Record decode steps of up to so many sequences; with latent attention, of short contexts."""
        if not self._decoder.waits:
            for num_rows in _BATCH_SIZES[: bisect_left(_BATCH_SIZES, max_sequences) + 1]:
                self._recorded(num_rows, 1)

    def run(self, batch: Batch, ahead: Ahead | None = None) -> Tensor:
        is_decode = all(chunk.start >= chunk.sequence.num_prompt_tokens for chunk in batch)
        if not is_decode or len(batch) > _BATCH_SIZES[-1] or self._decoder.waits:
            return super().run(batch, ahead)
        step = Step.of(batch, ahead)
        recorded = self._recorded(len(step.tokens), max(segment.num_cached for segment in step.segments))
        return super().run(batch, ahead) if recorded is None else recorded.run(step, ahead)

    def _recorded(self, num_sequences: int, num_cached: int) -> DecodeStep | None:
        """The smallest recorded step for so many sequences of at most so many tokens; recorded now if it never was."""
        num_rows = _BATCH_SIZES[bisect_left(_BATCH_SIZES, num_sequences)]
        max_cached = _MIN_LENGTH if self._decoder.cache_shape.value_dim == 0 else self._max_context
        while max_cached < num_cached:
            max_cached *= 2
        max_cached = min(max_cached, self._max_context)
        if (num_rows, max_cached) not in self._steps:
            try:
                recorded = DecodeStep(self._decoder, self._cache, self._kernel, num_rows, max_cached)
                if self._device.type == "cuda":
                    self._pool = recorded.record(self._pool)
                self._steps[num_rows, max_cached] = recorded
            except torch.OutOfMemoryError:
                logger.warning("no memory to record steps of %d sequences of %d tokens", num_rows, max_cached)
                self._steps[num_rows, max_cached] = None
        return self._steps[num_rows, max_cached]

    def _attention(self, step: Step) -> StepAttention:
        segments = step.segments
        row_starts = [0, *accumulate(segment.num_rows for segment in segments)]
        cache_starts = [*(segment.start for segment in segments), 0]
        num_cached = [segment.num_cached for segment in segments]
        layout = Layout(self._int32(row_starts), self._int32(cache_starts), self._int32(num_cached), max(num_cached))
        return BatchAttention(self._cache, self._tensor(step.cache_positions), segments, layout, self._kernel)

    def _int32(self, values: list[int]) -> Tensor:
        return to_device(values, self._device, torch.int32)
