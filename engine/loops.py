"""The loops of `engine.kernels`, compiled for this CPU by numba: over rows `first … last` of numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of float32, or of the bits of bfloat16 in uint16: numpy has no such type."""
Loop = Callable[..., Any]

# Sums may be taken in any order; what is not a number stays so.
_loop: Callable[[Loop], Loop] = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
_intrinsic: Callable[[Loop], Loop] = intrinsic
_overload: Callable[[Loop], Callable[[Loop], Loop]] = overload


@_intrinsic
def _as_float(_: Any, bits: Any) -> Any:
    return types.float32(types.uint32), lambda context, builder, _, values: builder.bitcast(
        values[0], context.get_value_type(types.float32)
    )


@_intrinsic
def _as_bits(_: Any, number: Any) -> Any:
    return types.uint32(types.float32), lambda context, builder, _, values: builder.bitcast(
        values[0], context.get_value_type(types.uint32)
    )


@_intrinsic
def _fetch(_: Any, address: Any) -> Any:
    """Begin to bring 64 bytes from memory; any address will do."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(8).as_pointer())
        how = [ir.Constant(ir.IntType(32), number) for number in (0, 3, 1)]  # to read, into all caches, data
        signature = ir.FunctionType(ir.VoidType(), [pointer.type, *(number.type for number in how)])
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], signature), [pointer, *how])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


def _read(number: Any) -> Any:
    """A number of an array in float32."""


@_overload(_read)
def _read_either(number: Any) -> Any:
    def widened(number: Any) -> Any:
        return _as_float(np.uint32(number) << np.uint32(16))

    def same(number: Any) -> Any:
        return number

    return widened if number == types.uint16 else same


def _rounded(number: Any, like: Any) -> Any:
    """A number in float32 for an array, to nearest even."""


@_overload(_rounded)
def _rounded_either(number: Any, like: Any) -> Any:
    def rounded(number: Any, like: Any) -> Any:
        bits = _as_bits(number)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    def same(number: Any, like: Any) -> Any:
        return number

    return rounded if like.dtype == types.uint16 else same


@_loop
def _fetch_row(rows: Array, index: int) -> None:
    """Begin to bring a row of a matrix from memory, which takes longer than to compute with it."""
    for offset in range(0, rows.shape[1] * rows.itemsize, 64):
        _fetch(np.uintp(rows.ctypes.data + index * rows.strides[0] + offset))


@_loop
def _exp(x: Any) -> Any:
    """e to the power of a float32, to 2 units in the last place: the library's is a call for each number."""
    power = min(max(x * np.float32(1.4426950408889634), np.float32(-126)), np.float32(127))
    whole = np.floor(power + np.float32(0.5))
    rest = (power - whole) * np.float32(0.6931471805599453)
    series = np.float32(1 / 720)
    series = series * rest + np.float32(1 / 120)
    series = series * rest + np.float32(1 / 24)
    series = series * rest + np.float32(1 / 6)
    series = series * rest + np.float32(0.5)
    series = series * rest + np.float32(1)
    series = series * rest + np.float32(1)
    return series * _as_float(np.uint32(np.int32(whole) + np.int32(127)) << np.uint32(23))


@_loop
def rms_norm(first: int, last: int, x: Array, weight: Array, eps: Any, out: Array) -> None:
    dim = x.shape[1]
    for row in range(first, last):
        total = np.float32(0)
        for i in range(dim):
            number = _read(x[row, i])
            total += number * number
        factor = np.float32(1) / np.sqrt(total / np.float32(dim) + eps)
        for i in range(dim):
            out[row, i] = _rounded(_read(x[row, i]) * factor * _read(weight[i]), out)


@_loop
def add_rms_norm(
    first: int, last: int, x: Array, change: Array, total: Array, weight: Array, eps: Any, out: Array
) -> None:
    for row in range(first, last):
        for i in range(x.shape[1]):
            total[row, i] = _rounded(_read(x[row, i]) + _read(change[row, i]), total)
    rms_norm(first, last, total, weight, eps, out)


@_loop
def swiglu(first: int, last: int, gate_up: Array, out: Array) -> None:
    size = out.shape[1]
    for row in range(first, last):
        for i in range(size):
            gate = _read(gate_up[row, i])
            out[row, i] = _rounded(gate / (np.float32(1) + _exp(-gate)) * _read(gate_up[row, size + i]), out)


@_loop
def rotate(first: int, last: int, x: Array, cos: Array, sin: Array, out: Array) -> None:
    half = out.shape[2] // 2
    for row in range(first, last):
        for head in range(out.shape[1]):
            for i in range(half):
                low, high = _read(x[row, head, i]), _read(x[row, head, half + i])
                turned_low = low * _read(cos[row, 0, i]) + high * _read(sin[row, 0, i])
                turned_high = high * _read(cos[row, 0, half + i]) + low * _read(sin[row, 0, half + i])
                out[row, head, i] = _rounded(turned_low, out)
                out[row, head, half + i] = _rounded(turned_high, out)


@cache
def attend(key_dim: int, value_dim: int) -> Any:
    """The loop over pairs of a sequence and a head of the cache; the compiler knows the lengths, and unrolls them."""

    @_loop
    def see(row: Array, keys: Array, values: Array, next_keys: Array, shares: Array, mix: Array) -> None:
        """Mix the values by how much the row looks at their keys; `shares` is room for a number for each of them."""
        highest = np.float32(-np.inf)
        for token in range(len(keys)):
            _fetch_row(values, token)
            score = np.float32(0)
            for i in range(key_dim):
                score += row[i] * _read(keys[token, i])
            shares[token] = score
            highest = max(highest, score)
        total = np.float32(0)
        for token in range(len(keys)):
            share = _exp(shares[token] - highest)
            shares[token] = share
            total += share
        mix[:] = 0
        # Four at a time: the mix is written to memory and read again for each turn.
        num_grouped = len(keys) - len(keys) % 4
        for token in range(0, num_grouped, 4):
            for i in range(4):
                _fetch_row(next_keys, token + i)
            a, b, c, d = shares[token], shares[token + 1], shares[token + 2], shares[token + 3]
            for i in range(value_dim):
                first, second = _read(values[token, i]), _read(values[token + 1, i])
                third, fourth = _read(values[token + 2, i]), _read(values[token + 3, i])
                mix[i] += a * first + b * second + c * third + d * fourth
        for token in range(num_grouped, len(keys)):
            share = shares[token]
            for i in range(value_dim):
                mix[i] += share * _read(values[token, i])
        for i in range(value_dim):
            mix[i] /= total

    @_loop
    def loop(
        first: int, last: int, query: Array, key: Array, value: Array, keys: Array, values: Array, starts: Array,
        lengths: Array, scale: Any, out: Array,
    ) -> None:  # fmt: skip
        num_heads = keys.shape[0]
        num_shared = query.shape[1] // num_heads
        shares = np.empty(lengths.max(), np.float32)
        row, mix = np.empty(key_dim, np.float32), np.empty(value_dim, np.float32)
        for pair in range(first, last):
            sequence, head = pair // num_heads, pair % num_heads
            begin, end = starts[sequence], starts[sequence] + lengths[sequence]
            for i in range(key_dim):
                keys[head, end - 1, i] = key[sequence, head, i]
            for i in range(value_dim):
                values[head, end - 1, i] = value[sequence, head, i]
            past_keys, past_values = keys[head, begin:end], values[head, begin:end]
            next_keys = keys[min(head + 1, num_heads - 1), begin:end]
            for query_head in range(head * num_shared, (head + 1) * num_shared):
                for i in range(key_dim):
                    row[i] = _read(query[sequence, query_head, i]) * scale
                see(row, past_keys, past_values, next_keys, shares, mix)
                for i in range(value_dim):
                    out[sequence, query_head, i] = _rounded(mix[i], out)

    return loop
