"""Attention of all sequences of a step at once, for GPUs: no loop over them, and nothing that waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from engine.attention import KVCache, Segment, StepAttention

VarlenKernel = Callable[..., Any]
"""`torch.nn.attention.varlen.varlen_attn`, which exists for GPUs only, or what stands for it in tests."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the sequences of a step lie in the cache, on the device, int32."""

    row_starts: Tensor
    """`[num_sequences + 1]`: first row of each; at the end, the number of rows."""
    cache_starts: Tensor
    """`[num_sequences + 1]`: first position of each one's extent; the last number means nothing."""
    num_cached: Tensor
    """`[num_sequences]`: tokens of each in the cache, the step's included."""
    max_cached: int
    """No sequence has more of them."""


class BatchAttention(StepAttention):
    """All sequences in one kernel. It reads extents of the cache where they lie, so there is no block table."""

    max_absorbed_rows = 1

    def __init__(
        self, cache: KVCache, positions: Tensor, segments: list[Segment], layout: Layout, kernel: VarlenKernel
    ) -> None:
        """Prepare a step: as `StepAttention`, with the segments on the device too, and the kernel that reads them."""
        super().__init__(cache, positions, segments)
        self._layout = layout
        self._kernel = kernel

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Write, then attend, in one layer: as `StepAttention.attend`."""
        self.write(layer, key, value)
        keys, values = self.cache.keys[layer].transpose(0, 1), self.cache.values[layer].transpose(0, 1)
        layout = self._layout
        out: Tensor = self._kernel(
            query,
            keys,
            values,
            layout.row_starts,
            layout.cache_starts,
            max(self.num_rows),
            layout.max_cached,
            scale=scale,
            # One row sees everything: said so, query heads that share keys are computed together.
            window_size=(-1, -1) if max(self.num_rows) == 1 else (-1, 0),
            enable_gqa=query.shape[1] != keys.shape[1],
            seqused_k=layout.num_cached,
        )
        return out

    def see_latents(self, layer: int, query: Tensor, num_rows: list[int], rank: int, scale: float) -> Tensor:
        """As `StepAttention.see_latents`, for sequences of one row each."""
        past = self.cache.keys[layer][0][self._past_positions[: len(query)]]  # [num_sequences, max_cached, key_dim]
        scores = torch.bmm(query, past.mT).float().mul_(scale)
        scores.masked_fill_(self._is_beyond[: len(query), None], -torch.inf)
        return torch.bmm(scores.softmax(-1).to(past.dtype), past[..., :rank])

    @cached_property
    def _past_positions(self) -> Tensor:
        """`[num_sequences, max_cached]`; behind a sequence's end, any."""
        offsets = torch.arange(self._layout.max_cached, device=self._layout.cache_starts.device)
        positions = self._layout.cache_starts[:-1, None] + offsets
        return positions.clamp_(max=self.cache.keys.shape[2] - 1)

    @cached_property
    def _is_beyond(self) -> Tensor:
        """`[num_sequences, max_cached]`: what lies behind each sequence's end."""
        offsets = torch.arange(self._layout.max_cached, device=self._layout.num_cached.device)
        return offsets >= self._layout.num_cached[:, None]
