"""The loops of `engine.kernels`, compiled for this CPU by numba: over rows `first … last` of numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of float32, or of the bits of bfloat16 in uint16: numpy has no such type."""
Loop = Callable[..., Any]

# Sums may be taken in any order; what is not a number stays so.
_loop: Callable[[Loop], Loop] = njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
_intrinsic: Callable[[Loop], Loop] = intrinsic
_overload: Callable[[Loop], Callable[[Loop], Loop]] = overload
_cgutils: Any = cgutils


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


_LANES = 16
BLOCK = 4 * _LANES
"""Outputs of a linear layer that are next to each other in oneDNN's layout."""


@_intrinsic
def _add_block(_: Any, weights: Any, row: Any, num_pairs: Any, totals: Any) -> Any:
    """Multiply a row with a block of weights, and add that to `BLOCK` totals. All but `num_pairs` are addresses.

    In vectors by hand, since numba would write the totals to memory for each turn: as fast as memory is read.

    Args:
        weights: `[num_pairs, BLOCK, 2]` in bfloat16: of two inputs, the weights of each output.
        row: `[num_pairs, 2]` in float32.
        num_pairs: half the number of inputs.
        totals: `[BLOCK]` in float32.
    """

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        float_type, word_type = ir.FloatType(), ir.IntType(32)
        floats, words = ir.VectorType(float_type, _LANES), ir.VectorType(word_type, _LANES)
        multiply_add = _cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(floats, [floats] * 3), f"llvm.fma.v{_LANES}f32"
        )

        def constant(number: int) -> Any:
            return ir.Constant(words, [number] * _LANES)

        def at(address: Any, kind: Any, index: Any) -> Any:
            return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index])

        def in_all_lanes(number: Any) -> Any:
            first = builder.insert_element(ir.Constant(floats, ir.Undefined), number, ir.Constant(word_type, 0))
            return builder.shuffle_vector(first, first, constant(0))

        weights, row, num_pairs, totals = values
        index_type = num_pairs.type
        # Lower and higher halves are summed apart: more sums that need not wait for each other.
        vectors = BLOCK // _LANES
        sums = [_cgutils.alloca_once_value(builder, ir.Constant(floats, [0.0] * _LANES)) for _ in range(2 * vectors)]
        with _cgutils.for_range(builder, num_pairs) as loop:
            first = builder.mul(loop.index, ir.Constant(index_type, 2))
            pair = [
                in_all_lanes(builder.load(at(row, float_type, builder.add(first, ir.Constant(index_type, i)))))
                for i in (0, 1)
            ]
            begin = builder.mul(loop.index, ir.Constant(index_type, vectors))
            for i in range(vectors):
                both = builder.load(at(weights, words, builder.add(begin, ir.Constant(index_type, i))), align=4)
                halves = builder.shl(both, constant(16)), builder.and_(both, constant(0xFFFF0000))
                for number, half, total in zip(pair, halves, sums[2 * i : 2 * i + 2], strict=True):
                    product = [number, builder.bitcast(half, floats), builder.load(total)]
                    builder.store(builder.call(multiply_add, product), total)
        for i in range(vectors):
            place = at(totals, floats, ir.Constant(index_type, i))
            for total in sums[2 * i : 2 * i + 2]:
                builder.store(builder.fadd(builder.load(place, align=4), builder.load(total)), place, align=4)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.intp, types.uintp), generate


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
def _highest(row: Array) -> Any:
    """The highest number, compared as integers: numbers which may be NaN are not compared in vectors."""
    highest = _ordered(-np.float32(np.inf))
    for i in range(len(row)):
        highest = max(highest, _ordered(_read(row[i])))
    return _as_float(np.uint32(highest ^ ((highest >> np.int32(31)) & np.int32(0x7FFFFFFF))))


@_loop
def _ordered(number: Any) -> Any:
    """The bits of a float32 as an integer of the same order."""
    bits = np.int32(_as_bits(number))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


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


@_loop
def linear_row(first: int, last: int, x: Array, weight: Array, bias: Array, out: Array) -> None:
    """Over blocks of `weight [num_blocks, num_pairs, BLOCK]`, words of two weights each."""
    row, totals = np.empty(len(x), np.float32), np.empty(BLOCK, np.float32)
    for i in range(len(x)):
        row[i] = _read(x[i])
    for block in range(first, last):
        for i in range(BLOCK):
            totals[i] = _read(bias[block * BLOCK + i])
        begin = np.uintp(weight.ctypes.data + block * weight.strides[0])
        _add_block(begin, np.uintp(row.ctypes.data), weight.shape[1], np.uintp(totals.ctypes.data))
        for i in range(BLOCK):
            out[block * BLOCK + i] = _rounded(totals[i], out)


@_loop
def see_tile(
    first: int, last: int, scores: Array, begin: int, end: int, num_rows: int, scale: Any, highest: Array,
    totals: Array, mix: Array,
) -> None:  # fmt: skip
    """Make of scores with a tile of keys what each counts, and count what was seen before anew where these are higher.

    Row `i` of every `num_rows` sees the keys before `end - num_rows + 1 + i`, of which the tile's begin at `begin`.
    """
    for row in range(first, last):
        num_seen = min(max(end - num_rows + 1 + row % num_rows - begin, 0), scores.shape[1])
        top = max(highest[row], _highest(scores[row, :num_seen]) * scale)
        fade = _exp(highest[row] - top)
        total = np.float32(0)
        for i in range(num_seen):
            share = _exp(_read(scores[row, i]) * scale - top)
            scores[row, i] = _rounded(share, scores)
            total += share
        scores[row, num_seen:] = 0
        for i in range(mix.shape[1]):
            mix[row, i] *= fade
        totals[row] = totals[row] * fade + total
        highest[row] = top


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


@cache
def layer_of_row(head_dim: int) -> Any:
    """The loop over what a layer of a decoder does with one row, everything `[1, dim]`, bfloat16.

    It takes the residual stream `x` and what the last layer adds to it, and leaves there the same of this layer.
    """
    see = attend(head_dim, head_dim)

    @_loop
    def loop(
        x: Array, change: Array, cos: Array, sin: Array, starts: Array, lengths: Array, keys: Array, values: Array,
        scale: Any, input_norm: Array, input_eps: Any, qkv: Array, qkv_bias: Array, out: Array, out_bias: Array,
        post_norm: Array, post_eps: Any, gate_up: Array, gate_up_bias: Array, down: Array, down_bias: Array,
    ) -> None:  # fmt: skip
        normed = np.empty_like(x)
        add_rms_norm(0, 1, x, change, x, input_norm, input_eps, normed)
        parts = np.empty((1, len(qkv_bias) // head_dim, head_dim), x.dtype)
        linear_row(0, len(qkv), normed[0], qkv, qkv_bias, parts.reshape(-1))
        num_kv_heads = len(keys)
        num_rotated = parts.shape[1] - num_kv_heads
        rotated = np.empty((1, num_rotated, head_dim), x.dtype)
        rotate(0, 1, parts, cos, sin, rotated)
        query, key, value = rotated[:, :-num_kv_heads], rotated[:, -num_kv_heads:], parts[:, num_rotated:]
        seen = np.empty((1, num_rotated - num_kv_heads, head_dim), x.dtype)
        see(0, num_kv_heads, query, key, value, keys, values, starts, lengths, scale, seen)
        linear_row(0, len(out), seen.reshape(-1), out, out_bias, change[0])
        add_rms_norm(0, 1, x, change, x, post_norm, post_eps, normed)
        both = np.empty((1, len(gate_up_bias)), x.dtype)
        linear_row(0, len(gate_up), normed[0], gate_up, gate_up_bias, both[0])
        gated = np.empty((1, len(gate_up_bias) // 2), x.dtype)
        swiglu(0, 1, both, gated)
        linear_row(0, len(down), gated[0], down, down_bias, change[0])

    return loop
