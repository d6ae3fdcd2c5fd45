"""What the decoders compute between their products: norms, gates and rotations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine import kernels

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine of each token's position, `[num_tokens, 1, dim]`; the sign of the rotation is in the sine."""


def rms_norm(x: Tensor, norm: Any) -> Tensor:
    """Root mean square norm over the last dimension, with the weight of transformers' module."""
    if kernels.takes(x):
        return kernels.rms_norm(x.contiguous(), norm.weight, norm.variance_epsilon)
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)


def add_rms_norm(x: Tensor, change: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """The sum of two `[num_tokens, hidden_size]`, and that sum normed."""
    if change is None:
        return x, rms_norm(x, norm)
    if kernels.takes(x):
        return kernels.add_rms_norm(x, change, norm.weight, norm.variance_epsilon)
    x = x + change
    return x, rms_norm(x, norm)


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up`, both side by side in `[num_tokens, 2 · size]`."""
    if kernels.takes(gate_up):
        return kernels.swiglu(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def rotate(x: Tensor, num_heads: int, rotary: Rotary) -> Tensor:
    """Rotary position embedding of the first heads of `[num_tokens, heads, dim]`, each pair half of `dim` apart."""
    cos, sin = rotary
    if kernels.takes(x):
        return kernels.rotate(x, num_heads, cos, sin)
    x = x[:, :num_heads]
    half = x.shape[-1] // 2
    return (x * cos + torch.cat((x[..., half:], x[..., :half]), dim=-1) * sin).to(x.dtype)
