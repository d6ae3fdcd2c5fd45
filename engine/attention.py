"""The key-value cache, and attention of one step's flat tokens against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine import kernels
from engine.loops import Array
from engine.shared_prefix import NO_SHARED_PREFIXES, SharedPrefixes

_MAX_LOOPED = 512
"""Cached tokens of a sequence up to which a loop of ours sees latents faster than oneDNN."""
_TILE = 128
"""Unit of the numbers of tokens that are multiplied at once: oneDNN generates code for each number."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a model keeps of each token in each layer."""

    num_layers: int
    num_heads: int
    key_dim: int
    value_dim: int
    """0 where values are made from keys."""

    def token_bytes(self, dtype: torch.dtype) -> int:
        return self.num_layers * self.num_heads * (self.key_dim + self.value_dim) * dtype.itemsize


class KVCache:
    """Keys and values of all layers: `[num_layers, num_heads, num_tokens, dim]` each, in the model's dtype."""

    def __init__(self, shape: CacheShape, num_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        rows = shape.num_layers, shape.num_heads, num_tokens
        self.keys = torch.zeros(*rows, shape.key_dim, dtype=dtype, device=device)
        self.values = torch.zeros(*rows, shape.value_dim, dtype=dtype, device=device)

    @cached_property
    def arrays(self) -> list[tuple[Array, Array]]:
        """Of each layer, keys and values, as `engine.loops` takes them."""
        return [
            (kernels.array(keys), kernels.array(values)) for keys, values in zip(self.keys, self.values, strict=True)
        ]

    def copy(self, source: int, destination: int, num_tokens: int) -> None:
        """Copy keys and values of neighbouring tokens, in all layers."""
        for rows in (self.keys, self.values):
            rows[..., destination : destination + num_tokens, :] = rows[..., source : source + num_tokens, :]


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one sequence in a step: `num_rows` new ones at the end of `num_cached`, which begin at `start`."""

    num_rows: int
    start: int
    num_cached: int


class StepAttention:
    """Attention of one step: writes the step's keys and values, then lets every row see its own sequence.

    As is best on CPU, sequences of one row are one loop over what each has cached, and the others come one by one.
    """

    max_absorbed_rows: int | None = None
    """Rows of a sequence that `see_latents` can take; None: any number."""

    def __init__(
        self,
        cache: KVCache,
        positions: Tensor,
        segments: list[Segment],
        shared: SharedPrefixes = NO_SHARED_PREFIXES,
    ) -> None:
        """Prepare a step.

        Args:
            cache: where keys and values are kept.
            positions: `[num_tokens]`, the cache position of each of the step's tokens.
            segments: the sequences of the step, in the order of its tokens.
            shared: what the sequences of one row, which are in front, have in common.
        """
        self.num_rows = [segment.num_rows for segment in segments]
        """Of each sequence."""
        self._positions = positions
        self._segments = segments
        can_share = kernels.sees_shared(cache.keys, cache.values)
        self._shared = shared if can_share else NO_SHARED_PREFIXES
        self._masks: dict[int, Tensor] = {}
        self.cache = cache

    def write(self, layer: int, key: Tensor, value: Tensor | None = None) -> None:
        """Keep keys and values, `[num_tokens, num_heads, dim]` each, of the step's tokens."""
        for rows, cached in ((key, self.cache.keys[layer]), (value, self.cache.values[layer])):
            if rows is not None:
                cached.index_copy_(1, self._positions, rows.transpose(0, 1))

    def past_keys(self, layer: int, index: int) -> Tensor:
        """All keys of a sequence, `[num_heads, num_cached, key_dim]`."""
        return self._past(self.cache.keys[layer], index)

    def mask(self, index: int) -> Tensor:
        """`[num_rows, num_cached]`, True where a row of a sequence may look."""
        if index not in self._masks:
            segment = self._segments[index]
            ones = torch.ones(segment.num_rows, segment.num_cached, dtype=torch.bool, device=self._positions.device)
            self._masks[index] = ones.tril(segment.num_cached - segment.num_rows)
        return self._masks[index]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Write, then attend, in one layer.

        Args:
            layer: index of the layer.
            query: `[num_tokens, num_query_heads, key_dim]`, with positions already in it.
            key: `[num_tokens, num_heads, key_dim]`, likewise.
            value: `[num_tokens, num_heads, value_dim]`.
            scale: factor on the scores.

        Returns:
            `[num_tokens, num_query_heads, value_dim]`.
        """
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        num_single = len(self.starts)
        outputs = []
        if num_single:
            q, k, v = (rows[:num_single] for rows in (query, key, value))
            outputs.append(
                kernels.attend(q, k, v, keys, values, self.starts, self.lengths, self.groups, self.group_of, scale)
            )
        many = (torch.split(x[num_single:], self.num_rows[num_single:]) for x in (query, key, value))
        for index, (q, k, v) in enumerate(zip(*many, strict=True), num_single):
            past_keys, past_values = self._past(keys, index), self._past(values, index)
            past_keys[:, -len(q) :], past_values[:, -len(q) :] = k.transpose(0, 1), v.transpose(0, 1)
            outputs.append(self.see(index, q, past_keys, past_values, scale))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def see_latents(self, layer: int, query: Tensor, num_rows: list[int], rank: int, scale: float) -> Tensor:
        """Let the rows of the first sequences see keys whose first `rank` numbers are the values too.

        Args:
            layer: index of the layer.
            query: `[sum of num_rows, num_heads, key_dim]`.
            num_rows: of each of these sequences.
            rank: length of a value.
            scale: factor on the scores.

        Returns:
            `[sum of num_rows, num_heads, rank]`.
        """
        # oneDNN is faster for long ones, unless ours are products too and every thread has a sequence.
        in_products = kernels.sees_latents_in_products(query, rank) and len(self.starts) >= torch.get_num_threads()
        num_single = len(self.starts) if in_products or max(self.lengths, default=0) <= _MAX_LOOPED else 0
        outputs = []
        if num_single:
            keys, ends = self.cache.keys[layer][0], (self.starts, self.lengths)
            outputs.append(kernels.see_latents(query[:num_single], keys, *ends, rank, scale))
        for i, rows in enumerate(torch.split(query[num_single:], num_rows[num_single:]), num_single):
            past = self.past_keys(layer, i)[0]
            num_whole = len(past) // _TILE * _TILE
            tiles = past[:num_whole], F.pad(past[num_whole:], (0, 0, 0, num_whole + _TILE - len(past)))
            scores = torch.cat([rows.flatten(0, 1) @ tile.T for tile in tiles], dim=-1).float().mul_(scale)
            scores[:, len(past) :] = -torch.inf
            if len(rows) > 1:
                seen = scores[:, : len(past)].view(len(rows), -1, len(past))
                seen.masked_fill_(~self.mask(i)[:, None], -torch.inf)
            shares = scores.softmax(-1).to(past.dtype).tensor_split((num_whole,), dim=-1)
            mixed = shares[0] @ tiles[0][:, :rank] + shares[1] @ tiles[1][:, :rank]
            outputs.append(mixed.view(len(rows), -1, rank))
        return torch.cat(outputs)

    def see(self, index: int, rows: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Let the rows of one sequence, `[num_rows, num_query_heads, key_dim]`, see keys and values as of the cache."""
        if kernels.onednn_multiplies(rows):
            return kernels.see(rows, keys, values, scale)
        is_first = len(rows) == keys.shape[1]
        out = F.scaled_dot_product_attention(
            rows.transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=None if is_first else self.mask(index),
            is_causal=is_first,
            scale=scale,
            enable_gqa=len(keys) != rows.shape[1],
        )
        return out[0].transpose(0, 1)

    def _past(self, rows: Tensor, index: int) -> Tensor:
        """Of a sequence, of `[num_heads, max_tokens, dim]`."""
        segment = self._segments[index]
        return rows[:, segment.start : segment.start + segment.num_cached]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where the sequences of one row begin, which are in front; none where there is no loop for them."""
        single = takewhile(lambda segment: segment.num_rows == 1, self._segments)
        starts = [segment.start for segment in single] if kernels.takes(self.cache.keys) else []
        return np.array(starts, np.int64)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens they have."""
        return np.array([segment.num_cached for segment in self._segments[: len(self.starts)]], np.int64)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """`[num_groups, 2]`: first position and tokens of each prefix that sequences of one row have in common."""
        return np.array(self._shared.extents, np.int64).reshape(-1, 2)

    @cached_property
    def group_of(self) -> NDArray[np.int64]:
        """Which of these each sequence has, or -1; empty where there is none."""
        return np.array(self._shared.group_of, np.int64)
