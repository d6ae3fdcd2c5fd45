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

    def token_bytes(self, dtype: torch.dtype) -> int:
        return self.num_layers * self.num_heads * (self.key_dim + self.value_dim) * dtype.itemsize


class KVCache:
    """Keys and values of all layers: `[num_layers, 1, num_heads, num_tokens, dim]` each.

    Their dtype need not be the model's.
    """

    def __init__(self, shape: CacheShape, num_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        rows = shape.num_layers, 1, shape.num_heads, num_tokens
        self.keys = torch.zeros(*rows, shape.key_dim, dtype=dtype, device=device)
        self.values = torch.zeros(*rows, shape.value_dim, dtype=dtype, device=device)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one sequence in a step: `num_rows` new ones at the end of `num_cached`, which begin at `start`."""

    num_rows: int
    start: int
    num_cached: int

    def mask(self, device: torch.device) -> Tensor | None:
        """`[num_rows, num_cached]`, True where a row may look; None where plain causal or no mask says the same."""
        if self.num_rows in (1, self.num_cached):
            return None
        ones = torch.ones(self.num_rows, self.num_cached, dtype=torch.bool, device=device)
        return ones.tril(self.num_cached - self.num_rows)


class StepAttention:
    """Attention of one step: writes the step's keys and values, then lets every row see its own sequence."""

    def __init__(self, cache: KVCache, positions: Tensor, segments: list[Segment]) -> None:
        """Prepare a step.

        Args:
            cache: where keys and values are kept.
            positions: `[num_tokens]`, the cache position of each of the step's tokens.
            segments: the sequences of the step, in the order of its tokens.
        """
        self._positions = positions
        self._num_rows = [segment.num_rows for segment in segments]
        self._is_first = [segment.num_rows == segment.num_cached for segment in segments]
        self._masks = [segment.mask(positions.device) for segment in segments]
        # Views of all layers at once: a slice for every layer and row would cost as much as a small attention.
        self._keys, self._values = cache.keys.unbind(0), cache.values.unbind(0)
        spans = [slice(segment.start, segment.start + segment.num_cached) for segment in segments]
        self._past_keys = [cache.keys[..., span, :].unbind(0) for span in spans]
        self._past_values = [cache.values[..., span, :].unbind(0) for span in spans]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend in one layer.

        Args:
            layer: index of the layer.
            query: `[num_tokens, num_query_heads, key_dim]`, with positions already in it.
            key: `[num_tokens, num_heads, key_dim]`, likewise.
            value: `[num_tokens, num_heads, value_dim]`.
            scale: factor on the scores.

        Returns:
            `[num_tokens, num_query_heads, value_dim]` in the query's dtype.
        """
        keys, values = self._keys[layer], self._values[layer]
        keys.index_copy_(2, self._positions, key.transpose(0, 1)[None].to(keys.dtype))
        values.index_copy_(2, self._positions, value.transpose(0, 1)[None].to(values.dtype))
        outputs = []
        for i, rows in enumerate(torch.split(query.to(keys.dtype), self._num_rows)):
            past_keys, past_values = self._past_keys[i][layer], self._past_values[i][layer]
            if len(rows) == 1:
                # One row sees everything, so query heads that share a key head are just more rows: no mask, no copies.
                grouped = rows.view(1, key.shape[1], -1, rows.shape[-1])
                out = F.scaled_dot_product_attention(grouped, past_keys, past_values, scale=scale)
                outputs.append(out.view(1, query.shape[1], -1))
            else:
                out = F.scaled_dot_product_attention(
                    rows.transpose(0, 1)[None],
                    past_keys,
                    past_values,
                    attn_mask=self._masks[i],
                    is_causal=self._is_first[i],
                    scale=scale,
                    enable_gqa=key.shape[1] != query.shape[1],
                )
                outputs.append(out[0].transpose(0, 1))
        return torch.cat(outputs).to(query.dtype)
