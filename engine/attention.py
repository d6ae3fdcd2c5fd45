"""The key-value cache, and attention of one step's flat tokens against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """Keys and values of all layers: `[num_layers, num_heads, num_tokens, dim]` each.

    Their dtype need not be the model's.
    """

    def __init__(self, shape: CacheShape, num_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        rows = shape.num_layers, shape.num_heads, num_tokens
        self.keys = torch.zeros(*rows, shape.key_dim, dtype=dtype, device=device)
        self.values = torch.zeros(*rows, shape.value_dim, dtype=dtype, device=device)

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

    It computes one sequence after the other, as is best on CPU, where each reads its keys and values in one piece.
    """

    max_absorbed_rows: int | None = None
    """Rows of a sequence that `see_latents` can take; None: any number."""

    def __init__(self, cache: KVCache, positions: Tensor, segments: list[Segment]) -> None:
        """Prepare a step.

        Args:
            cache: where keys and values are kept.
            positions: `[num_tokens]`, the cache position of each of the step's tokens.
            segments: the sequences of the step, in the order of its tokens.
        """
        self.num_rows = [segment.num_rows for segment in segments]
        """Of each sequence."""
        self._positions = positions
        self._segments = segments
        self._masks: dict[int, Tensor] = {}
        self._keys, self._values = cache.keys.unbind(0), cache.values.unbind(0)
        # Views of all layers at once: a slice for every layer and row would cost as much as a small attention.
        spans = [slice(segment.start, segment.start + segment.num_cached) for segment in segments]
        self._past_keys = [cache.keys[..., span, :].unbind(0) for span in spans]
        self._past_values = [cache.values[..., span, :].unbind(0) for span in spans]

    def write(self, layer: int, key: Tensor, value: Tensor | None = None) -> None:
        """Keep the step's keys and values, `[num_tokens, num_heads, dim]` each."""
        for rows, cached in ((key, self._keys), (value, self._values)):
            if rows is not None:
                cached[layer].index_copy_(1, self._positions, rows.transpose(0, 1).to(cached[layer].dtype))

    def past_keys(self, layer: int, index: int) -> Tensor:
        """All keys of a sequence, `[num_heads, num_cached, key_dim]`."""
        return self._past_keys[index][layer]

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
            `[num_tokens, num_query_heads, value_dim]` in the query's dtype.
        """
        self.write(layer, key, value)
        outputs = []
        for i, rows in enumerate(torch.split(query.to(self._keys[layer].dtype), self.num_rows)):
            past_keys, past_values = self._past_keys[i][layer], self._past_values[i][layer]
            if len(rows) == 1:
                # One row sees everything, so query heads that share a key head are just more rows: no mask, no copies.
                # On CPU two products take half the time of the fused attention, which is made for many rows.
                grouped = rows.view(key.shape[1], -1, rows.shape[-1])
                shares = torch.bmm(grouped * scale, past_keys.mT).softmax(-1)
                outputs.append(torch.bmm(shares, past_values).view(1, query.shape[1], -1))
            else:
                outputs.append(self.see(i, rows, past_keys, past_values, scale))
        return torch.cat(outputs).to(query.dtype)

    def see_latents(self, layer: int, query: Tensor, num_rows: list[int], rank: int, scale: float) -> Tensor:
        """Let the rows of the first sequences see keys whose first `rank` numbers are the values too.

        Args:
            layer: index of the layer.
            query: `[sum of num_rows, num_heads, key_dim]`.
            num_rows: of each of these sequences.
            rank: length of a value.
            scale: factor on the scores.

        Returns:
            `[sum of num_rows, num_heads, rank]` in the cache's dtype.
        """
        outputs = []
        for i, rows in enumerate(torch.split(query.to(self._keys[layer].dtype), num_rows)):
            past = self._past_keys[i][layer][0]
            scores = (rows.flatten(0, 1) @ past.T).float().mul_(scale)
            if len(rows) > 1:
                scores.view(len(rows), -1, len(past)).masked_fill_(~self.mask(i)[:, None], -torch.inf)
            outputs.append((scores.softmax(-1).to(past.dtype) @ past[:, :rank]).view(len(rows), -1, rank))
        return torch.cat(outputs)

    def see(self, index: int, rows: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Let the rows of one sequence, `[num_rows, num_query_heads, key_dim]`, see keys and values as of the cache."""
        is_first = rows.shape[0] == keys.shape[1]
        out = F.scaled_dot_product_attention(
            rows.transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=None if is_first else self.mask(index),
            is_causal=is_first,
            scale=scale,
            enable_gqa=keys.shape[0] != rows.shape[1],
        )
        return out[0].transpose(0, 1)
