"""Linear layers in the layout that the machine multiplies fastest."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine import kernels, loops
from engine.config import Quantization
from engine.loops import INT8_ZERO, MAX_INT8_ROWS, MAX_ROWS, Array
from engine.machine import use_large_pages

_ROWS_HINT = 32
"""Rows the packed layout is made for: 32 serves batches of 1 to 128 rows, while a layout made for 1 gains nothing."""
_FEW_ROWS = 4
"""Rows up to which a loop that reads weights for each of them is faster than a product of matrices."""
_MAX_WEIGHT = 127 if torch.cpu.get_capabilities().get("avx512_vnni") else 63
"""Without VNNI the CPU adds two products of 8 bits in 16, and cuts off what is too large: weights then have 7 bits."""


def _pad(x: Tensor) -> Tensor:
    """Rows of zeros below `[num_rows, in_features]`, up to one of a few numbers of rows.

    For every other number oneDNN would generate code, a millisecond each time, and keep half a megabyte.
    """
    num_rows = len(x)
    unit = 1 if num_rows <= 32 else 16 if num_rows <= 288 else 64
    missing = -num_rows % unit
    return F.pad(x, (0, 0, 0, missing)) if missing else x


class Linear(nn.Module):
    """`x @ weight.T + bias`; on CPU in bfloat16 the weight is reordered once for oneDNN, 2 to 6 times faster.

    Takes `[num_rows, in_features]`, gives `[num_rows, out_features]`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self._bias = None if bias is None else bias.detach()
        self._packed = kernels.onednn_multiplies(weight)
        self._weight = weight = weight.detach().contiguous()
        self.rows: tuple[Array, Array] | None = None
        """Weight and bias as `loops.linear_rows` reads them, where the packed weight is laid out so."""
        if self._packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
            blocks = None if weight.shape[1] % loops.INPUTS_UNIT else _blocks(self._weight, weight, loops.BLOCKS)
            if blocks is not None:
                self.rows = blocks, kernels.array(weight.new_zeros(len(weight)) if bias is None else bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is not None and len(x) <= MAX_ROWS:
            return kernels.linear_rows(x, *self.rows)
        if self._packed:
            y: Tensor = torch.ops.mkldnn._linear_pointwise(_pad(x), self._weight, self._bias, "none", [], "")
            return y[: len(x)]
        return F.linear(x, self._weight, self._bias)


def _blocks(packed: Tensor, weight: Tensor, blocks: Sequence[int]) -> Array | None:
    """What oneDNN made of a weight, if it lies in memory as it usually does: `[num_blocks, in_features / n, block]`.

    Words of 32 bits, each with `n` inputs' weights. oneDNN does not promise a layout, therefore it is looked at.
    """
    num_in_word = 4 // weight.itemsize
    if torch.ops.mkldnn._nbytes(packed) < weight.nbytes:
        return None
    words = (ctypes.c_uint32 * (weight.numel() // num_in_word)).from_address(torch.ops.mkldnn.data_ptr(packed))
    for block in blocks:
        if len(weight) % block == 0:
            found = np.ctypeslib.as_array(words).reshape(len(weight) // block, -1, block)
            expected = weight.view(len(found), block, -1, num_in_word).transpose(1, 2).contiguous()
            if np.array_equal(found, expected.view(torch.int32)[..., 0].numpy().view(np.uint32)):
                use_large_pages(found)
                return found
    return None


class Int8Linear(nn.Module):
    """The same with weights of 8 bits, scaled for each output, on CPU: half the memory to read.

    Rows are made 8 bits too, each by its own scale, since the product of both is what the CPU has instructions for.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        has_loops = MAX_INT8_ROWS > 0 and kernels.takes(weight) and weight.shape[1] % loops.INT8_INPUTS_UNIT == 0
        weight = weight.detach().float()
        self._scales = weight.abs().amax(1).clamp_(min=1e-12) / _MAX_WEIGHT  # [out_features]
        self._zeros = torch.zeros(len(weight), dtype=torch.long)
        rounded = (weight / self._scales[:, None]).round_().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._bias = None if bias is None else bias.detach()
        blocks = _blocks(self._weight, rounded, loops.INT8_BLOCKS) if has_loops else None
        self.rows: tuple[Array, Array, Array, Array] | None = None
        """What `loops.linear_rows_int8` takes of the layer, where the packed weight is laid out as it reads it."""
        if blocks is not None:
            biases = torch.zeros(len(weight)) if bias is None else bias.detach()
            offsets = -INT8_ZERO * rounded.sum(1, dtype=torch.int32)
            self.rows = blocks, kernels.array(self._scales), kernels.array(offsets), kernels.array(biases)

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is not None and len(x) <= MAX_INT8_ROWS:
            return kernels.linear_rows_int8(x, *self.rows)
        num_rows, x = len(x), _pad(x)
        scale = x.abs().amax(-1, keepdim=True).float().clamp_(min=1e-12) / 127  # [num_rows, 1]
        rounded = (x / scale).round_().add_(INT8_ZERO).to(torch.uint8)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, INT8_ZERO, self._weight, self._scales, self._zeros, None, 1.0, 0, x.dtype, "none", [], "none"
        )
        y.mul_(scale)
        return (y if self._bias is None else y.add_(self._bias))[:num_rows]


class HeadLinear(nn.Module):
    """Multiplies what each head has of a row with a matrix of its own, `[num_heads, in_dim, out_dim]`.

    Takes `[num_rows, num_heads, in_dim]`, gives `[num_rows, num_heads, out_dim]`.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._weight: Tensor | None = None
        self._blocks: Array | None = None
        num_heads, in_dim, out_dim = weight.shape
        block = loops.BLOCKS[0]
        if loops.HAS_PRODUCTS and kernels.onednn_multiplies(weight) and in_dim % 2 == out_dim % block == 0:
            pairs = weight.detach().reshape(num_heads, in_dim // 2, 2, out_dim // block, block).permute(0, 3, 1, 4, 2)
            self._blocks = pairs.contiguous().view(torch.int32)[..., 0].numpy().view(np.uint32)
        else:
            self._weight = weight.detach().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        if self._blocks is not None:
            return kernels.multiply_heads_in_products(x, self._blocks)
        assert self._weight is not None
        if len(x) <= _FEW_ROWS and kernels.takes(x):
            return kernels.multiply_heads(x, self._weight)
        return torch.bmm(x.transpose(0, 1), self._weight).transpose(0, 1)


def stack(layers: Sequence[Linear | Int8Linear]) -> tuple[Array, ...] | None:
    """What `loops` reads of layers of one shape: where each one's blocks are, the first's, and the rest side by side.

    The layers must outlive it. None where one of them has nothing for `loops`, or lies in memory in another way.
    """
    rows = [layer.rows for layer in layers if layer.rows is not None]
    if len(rows) < len(layers) or len({blocks.shape for blocks, *_ in rows}) > 1:
        return None
    blocks, *rest = zip(*rows, strict=True)
    return np.array([block.ctypes.data for block in blocks]), blocks[0], *(np.stack(parts) for parts in rest)


@dataclass(frozen=True, slots=True)
class Linears:
    """Makes the linear layers of a model."""

    quantization: Quantization | None = None

    def make(self, weight: Tensor, bias: Tensor | None = None) -> Linear | Int8Linear:
        return Linear(weight, bias) if self.quantization is None else Int8Linear(weight, bias)

    @property
    def max_rows(self) -> int:
        """Rows that `loops` multiplies with them."""
        return MAX_ROWS if self.quantization is None else MAX_INT8_ROWS

    def fuse(self, *linears: nn.Linear) -> Linear | Int8Linear:
        """One layer that gives the outputs of several, side by side."""
        weight = torch.cat(tuple(linear.weight for linear in linears))
        if all(linear.bias is None for linear in linears):
            return self.make(weight)
        zeros = (weight.new_zeros(len(linear.weight)) for linear in linears)
        biases = tuple(
            zero if linear.bias is None else linear.bias for linear, zero in zip(linears, zeros, strict=True)
        )
        return self.make(weight, torch.cat(biases))
