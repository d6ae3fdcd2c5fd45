"""The rows of a few sequences that decode through a whole layer in one compiled call.

In such a step, what Python and torch take for each of a layer's operations adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import kernels, loops
from engine.attention import StepAttention
from engine.models.attention import HeadAttention
from engine.models.feed_forward import FeedForward
from engine.models.pointwise import Rotary


class RowLayers:
    """Layers of a decoder, if they are of the plain kind, in bfloat16 on CPU; for steps of up to `max_rows` rows."""

    def __init__(self, layers: Sequence[Any], max_rows: int) -> None:
        weights = [_weights(layer) for layer in layers]
        self._weights = [numbers for numbers in weights if numbers is not None]
        self._are_all = len(self._weights) == len(weights)
        self._max_rows = max_rows
        self._head_dim = layers[0].attention.cache_heads[1]

    def take(self, attention: StepAttention) -> bool:
        """Whether they are for a step. With several threads each product is better shared among these."""
        if not self._are_all or torch.get_num_threads() > 1:
            return False
        return len(attention.starts) == sum(attention.num_rows) <= self._max_rows

    def __call__(self, x: Tensor, rotary: Rotary, attention: StepAttention) -> tuple[Tensor, Tensor]:
        """Take `[num_rows, hidden_size]`; return the residual stream, and what the last layer adds to it."""
        x, change = x.clone(), torch.zeros_like(x)
        loop = loops.layer_of_rows(self._head_dim)
        places = attention.starts, attention.lengths, attention.groups, attention.group_of
        arrays = *(kernels.array(part) for part in (x, change, *rotary)), *places
        for weights, cached in zip(self._weights, attention.cache.arrays, strict=True):
            loop(*arrays, *cached, *weights)
        return x, change


def _weights(layer: Any) -> tuple[Any, ...] | None:
    """What `loops.layer_of_rows` takes of a layer, in its order."""
    attention, feed_forward = layer.attention, layer.feed_forward
    if not isinstance(attention, HeadAttention) or not isinstance(feed_forward, FeedForward) or attention.norms_heads:
        return None
    if layer.input_norm.weight.dtype != torch.bfloat16:
        return None
    linears = attention.qkv, attention.out, feed_forward.gate_up, feed_forward.down
    qkv, out, gate_up, down = (linear.rows for linear in linears)
    if qkv is None or out is None or gate_up is None or down is None:
        return None
    input_norm, post_norm = (
        (kernels.array(norm.weight), np.float32(norm.variance_epsilon)) for norm in (layer.input_norm, layer.post_norm)
    )
    return np.float32(attention.scale), *input_norm, qkv, out, *post_norm, gate_up, down
