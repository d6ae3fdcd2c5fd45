"""The loops of `engine.kernels`, compiled for this CPU by numba: over rows `first … last` of numpy arrays.

All in this file, because numba compiles anew what it keeps on disk when the file has changed.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of float32, or of the bits of bfloat16 in uint16: numpy has no such type."""
Loop = Callable[..., Any]

# Sums may be taken in any order; what is not a number stays so.
_OPTIONS: dict[str, Any] = {
    "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}
}  # fmt: skip


_KNOWS_TILES, _KNOWS_INT8_TILES, _KNOWS_PRODUCTS, _KNOWS_INT8_PRODUCTS = (
    bool(binding.get_host_cpu_features().get(name)) for name in ("amx-bf16", "amx-int8", "avx512bf16", "avx512vnni")
)


def _may_use_tiles() -> bool:
    """Ask Linux for them, for this process: see arch_prctl(2)."""
    arch_prctl, request, tile_data = 158, 0x1023, 18
    return _KNOWS_TILES and ctypes.CDLL(None).syscall(arch_prctl, request, tile_data) == 0


HAS_TILES = _may_use_tiles()
"""AMX's, which this process may use."""


def _loop(function: Loop) -> Loop:
    """Compile when first called, and keep that on disk for the next process where a folder can be written.

    What is kept is for CPUs that know the same; not where this process may not use what its CPU knows.
    """
    try:
        return njit(cache=HAS_TILES == _KNOWS_TILES, **_OPTIONS)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


# Where an index is a sum, the loops take slices: one that might be negative is not computed in vectors.

# Into each caller, so that the compiler knows the numbers it is called with.
_inlined: Callable[[Loop], Loop] = njit(inline="always", **_OPTIONS)
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


def _prefetch(builder: Any, address: Any) -> None:
    """Begin to bring 64 bytes from memory; any address will do."""
    pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
    how = [ir.Constant(ir.IntType(32), number) for number in (0, 3, 1)]  # to read, into all caches, data
    signature = ir.FunctionType(ir.VoidType(), [pointer.type, *(number.type for number in how)])
    builder.call(builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], signature), [pointer, *how])


def _pointer(builder: Any, kind: Any, *parts: Any) -> Any:
    """To the address which is the sum of the parts."""
    return builder.inttoptr(functools.reduce(builder.add, parts), kind.as_pointer())


def _amx(builder: Any, name: str, *values: Any) -> None:
    """Call an instruction of AMX; tiles are numbers of 8 bits."""
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(_cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), values)


@_intrinsic
def _fetch(_: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        _prefetch(builder, values[0])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


_LANES = 16
_BLOCK, _STRIP = 64, 32
"""Outputs of a linear layer that are computed at once: where memory is read in order so, and where few numbers fit."""
_MAX_IN_VECTORS, _MAX_IN_TILES = 4, 16
"""Rows that are multiplied in vectors, and in AMX's tiles; with more, oneDNN is as fast."""
_NUM_SUMS = 8
"""Vectors that are summed apart, so that none waits for another."""
_FETCHES = not str(binding.get_host_cpu_name()).startswith("znver")
"""Whether the CPU has to be told what to bring from memory: AMD's do better by themselves."""
_FETCHED_AHEAD = 96 * 64
"""Bytes of weights between what is fetched and what is multiplied: the CPU by itself looks less far ahead."""


def _adder(num_rows: int, width: int = _STRIP) -> Any:
    """Multiply rows with a strip of a block of weights, and add that to totals: as fast as memory is read.

    In vectors by hand, since numba would write the totals to memory for each turn. Addresses, and bytes to the next:

    - weights: `[num_pairs, width, 2]` in bfloat16: of two inputs, the weights of each output.
    - rows: `[num_rows, num_pairs, 2]` in float32.
    - totals: `[num_rows, width]` in float32.
    """
    vectors = width // _LANES
    parts = max(1, _NUM_SUMS // (num_rows * vectors))
    """Sums of each row and vector."""
    num_at_once = max(1, parts // 2)
    """Pairs of inputs in a turn."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        float_type, word_type = ir.FloatType(), ir.IntType(32)
        floats, words = ir.VectorType(float_type, _LANES), ir.VectorType(word_type, _LANES)
        multiply_add = _cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(floats, [floats] * 3), f"llvm.fma.v{_LANES}f32"
        )
        weights, next_pair, rows, next_row, num_pairs, totals, next_totals = values

        def number(value: int) -> Any:
            return ir.Constant(num_pairs.type, value)

        def constant(value: int) -> Any:
            return ir.Constant(words, [value] * _LANES)

        def at(address: Any, kind: Any, offset: Any) -> Any:
            return builder.inttoptr(builder.add(address, offset), kind.as_pointer())

        def in_all_lanes(value: Any) -> Any:
            first = builder.insert_element(ir.Constant(floats, ir.Undefined), value, ir.Constant(word_type, 0))
            return builder.shuffle_vector(first, first, constant(0))

        zeros = ir.Constant(floats, [0.0] * _LANES)
        sums = {
            (row, i, part): _cgutils.alloca_once_value(builder, zeros)
            for row in range(num_rows) for i in range(vectors) for part in range(parts)
        }  # fmt: skip

        def add(pair: Any, turn: int) -> None:
            begin, inputs = builder.mul(pair, next_pair), builder.mul(pair, number(8))
            pointers = [at(weights, words, builder.add(begin, number(64 * i))) for i in range(vectors)]
            for pointer in pointers if _FETCHES else ():
                _prefetch(builder, builder.add(builder.ptrtoint(pointer, weights.type), number(_FETCHED_AHEAD)))
            both = [builder.load(pointer, align=4) for pointer in pointers]
            for half in range(2):
                lanes = [
                    builder.and_(word, constant(0xFFFF0000)) if half else builder.shl(word, constant(16))
                    for word in both
                ]
                for row in range(num_rows):
                    place = builder.add(builder.mul(next_row, number(row)), builder.add(inputs, number(4 * half)))
                    value = in_all_lanes(builder.load(at(rows, float_type, place)))
                    for i, lane in enumerate(lanes):
                        total = sums[row, i, (2 * turn + half) % parts]
                        product = [value, builder.bitcast(lane, floats), builder.load(total)]
                        builder.store(builder.call(multiply_add, product), total)

        num_turns = builder.udiv(num_pairs, number(num_at_once))
        with _cgutils.for_range(builder, num_turns) as loop:
            first = builder.mul(loop.index, number(num_at_once))
            for turn in range(num_at_once):
                add(builder.add(first, number(turn)), turn)
        with _cgutils.for_range(builder, num_pairs, start=builder.mul(num_turns, number(num_at_once))) as loop:
            add(loop.index, 0)
        for (row, i, _), total in sums.items():
            place = at(totals, floats, builder.add(builder.mul(next_totals, number(row)), number(64 * i)))
            builder.store(builder.fadd(builder.load(place, align=4), builder.load(total)), place, align=4)
        return context.get_dummy_value()

    def add_strip(
        _: Any, weights: Any, next_pair: Any, rows: Any, next_row: Any, num_pairs: Any, totals: Any, next_totals: Any
    ) -> Any:
        return types.void(*[types.intp] * 7), generate

    return _intrinsic(add_strip)


_add_1, _add_2, _add_4 = (_adder(num_rows) for num_rows in (1, 2, _MAX_IN_VECTORS))
_add_block_1, _add_block_2, _add_block_4 = (_adder(num_rows, _BLOCK) for num_rows in (1, 2, _MAX_IN_VECTORS))

_TILE_PAIRS = 16
"""Pairs of inputs in a tile."""


_HAS_INT8_TILES = HAS_TILES and _KNOWS_INT8_TILES
HAS_PRODUCTS, HAS_INT8_PRODUCTS = _KNOWS_PRODUCTS and not HAS_TILES, _KNOWS_INT8_PRODUCTS and not _HAS_INT8_TILES
"""AVX-512's of bfloat16, and of 8 bits, where there are no tiles, which are faster for many rows."""
BLOCKS, INT8_BLOCKS = (
    (_BLOCK,) if has_products else (_BLOCK, _STRIP) for has_products in (HAS_PRODUCTS, HAS_INT8_PRODUCTS)
)
"""Outputs of a linear layer that are next to each other in oneDNN's layouts: without AMX and with it."""
MAX_INT8_ROWS = _MAX_IN_TILES if _HAS_INT8_TILES or HAS_INT8_PRODUCTS else 0
"""Rows that `linear_rows_int8` takes, of a multiple of `INT8_INPUTS_UNIT` inputs."""
INT8_ZERO = 128
"""Of a row's numbers in 8 bits, which these products take unsigned."""
MAX_ROWS = _MAX_IN_TILES if HAS_TILES or HAS_PRODUCTS else _MAX_IN_VECTORS
"""Rows that `linear_rows` takes; in tiles, which take more than `_MAX_IN_VECTORS`, of a multiple of `INPUTS_UNIT`."""
INPUTS_UNIT, INT8_INPUTS_UNIT = 2 * _TILE_PAIRS, 4 * _TILE_PAIRS
_PRODUCT_ROWS = _MAX_IN_TILES if HAS_TILES else _MAX_IN_VECTORS
"""Rows that are multiplied at once where there are always so many, of zeros if need be."""


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat16, which llvmlite has not."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def _product_adder(num_rows: int) -> Any:
    """The same as `_adder`'s for a whole block, by AVX-512's products; compiled to nothing for a CPU without.

    `like` is an array of the totals' type. Of float32, rows and weights are bfloat16. Of int32 they are 8 bits, rows
    unsigned: what is said of pairs of inputs is of four then. A row's sums are the same whatever rows are with it.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        is_int8 = signature.args[-1].dtype == types.int32
        if not (_KNOWS_INT8_PRODUCTS if is_int8 else _KNOWS_PRODUCTS):
            return context.get_dummy_value()
        word_type = ir.IntType(32)
        words = ir.VectorType(word_type, _LANES)
        numbers = words if is_int8 else ir.VectorType(ir.FloatType(), _LANES)
        inputs_type = words if is_int8 else ir.VectorType(_BFloat(), 2 * _LANES)
        multiply_add = _cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(numbers, [numbers, inputs_type, inputs_type]),
            "llvm.x86.avx512.vpdpbusd.512" if is_int8 else "llvm.x86.avx512bf16.dpbf16ps.512",
        )
        weights, next_pair, rows, next_row, num_pairs, totals, next_totals, _ = values

        def number(value: int) -> Any:
            return ir.Constant(num_pairs.type, value)

        def place(row: int, i: int) -> Any:
            return _pointer(builder, numbers, totals, builder.mul(next_totals, number(row)), number(64 * i))

        sums = {
            (row, i): _cgutils.alloca_once_value(builder, builder.load(place(row, i), align=4))
            for row in range(num_rows) for i in range(_BLOCK // _LANES)
        }  # fmt: skip
        with _cgutils.for_range(builder, num_pairs) as loop:
            begin, inputs = builder.mul(loop.index, next_pair), builder.mul(loop.index, number(4))
            pointers = [_pointer(builder, inputs_type, weights, begin, number(64 * i)) for i in range(_BLOCK // _LANES)]
            for pointer in pointers if _FETCHES else ():
                _prefetch(builder, builder.add(builder.ptrtoint(pointer, weights.type), number(_FETCHED_AHEAD)))
            lines = [builder.load(pointer, align=4) for pointer in pointers]
            for row in range(num_rows):
                source = _pointer(builder, word_type, rows, builder.mul(next_row, number(row)), inputs)
                word = builder.load(source, align=1)
                first = builder.insert_element(ir.Constant(words, ir.Undefined), word, ir.Constant(word_type, 0))
                in_all_lanes = builder.bitcast(_shuffled(builder, first, first, [0] * _LANES), inputs_type)
                for i, line in enumerate(lines):
                    product = [builder.load(sums[row, i]), in_all_lanes, line]
                    builder.store(builder.call(multiply_add, product), sums[row, i])
        for (row, i), total in sums.items():
            builder.store(builder.load(total), place(row, i), align=4)
        return context.get_dummy_value()

    def add_block(
        _: Any, weights: Any, next_pair: Any, rows: Any, next_row: Any, num_pairs: Any, totals: Any, next_totals: Any,
        like: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.intp] * 7, like), generate

    return _intrinsic(add_block)


_multiply_1, _multiply_2, _multiply_4, _multiply_6 = map(_product_adder, (1, 2, 4, 6))
_PAIRS_AT_ONCE = 512
"""Of a block's, which are multiplied with all rows while they are in a cache."""


def _tile_adder(product: str, is_known: bool) -> Any:
    """The same as `_adder`'s in AMX's tiles, by one of its products; compiled to nothing for a CPU without.

    `tdpbf16ps` is for rows and weights in bfloat16, totals in float32. `tdpbusd` is for rows and weights in 8 bits,
    rows unsigned, totals in 32: what is said of pairs of inputs is of four then.

    - config: the tiles' sizes, as `_sizes` gives them.
    - num_tiles: of weights, one below the other.
    """

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        if not is_known:
            return context.get_dummy_value()
        config, weights, next_pair, rows, next_row, num_tiles, totals, next_totals = values
        byte = ir.IntType(8)
        at, amx = functools.partial(_pointer, builder, byte), functools.partial(_amx, builder)

        def number(value: int) -> Any:
            return ir.Constant(num_tiles.type, value)

        tiles = [ir.Constant(byte, index) for index in range(5)]
        sums, row_tile, weight_tiles = tiles[:2], tiles[2], tiles[3:]
        places = [number(64 * i) for i in range(2)]
        amx("ldtilecfg", at(config))
        for total, place in zip(sums, places, strict=True):
            amx("tileloadd64", total, at(totals, place), next_totals)
        with _cgutils.for_range(builder, num_tiles) as loop:
            begin = builder.mul(builder.mul(loop.index, number(_TILE_PAIRS)), next_pair)
            ahead = builder.add(builder.add(weights, begin), number(_FETCHED_AHEAD))
            for pair in range(_TILE_PAIRS):
                for place in places:
                    offset = builder.add(builder.mul(next_pair, number(pair)), place)
                    _prefetch(builder, builder.add(ahead, offset))
            amx("tileloadd64", row_tile, at(rows, builder.mul(loop.index, number(64))), next_row)
            for weight, place in zip(weight_tiles, places, strict=True):
                amx("tileloadd64", weight, at(weights, builder.add(begin, place)), next_pair)
            for total, weight in zip(sums, weight_tiles, strict=True):
                amx(product, total, row_tile, weight)
        for total, place in zip(sums, places, strict=True):
            amx("tilestored64", total, at(totals, place), next_totals)
        amx("tilerelease")
        return context.get_dummy_value()

    def add_tiles(
        _: Any, config: Any, weights: Any, next_pair: Any, rows: Any, next_row: Any, num_tiles: Any, totals: Any,
        next_totals: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.intp] * 8), generate

    return _intrinsic(add_tiles)


@_intrinsic
def _multiply_tiles(
    _: Any, config: Any, rows: Any, next_row: Any, weights: Any, next_pair: Any, next_strip: Any, num_tiles: Any,
    num_strips: Any, totals: Any, next_totals: Any, adds: Any,
) -> Any:  # fmt: skip
    """Multiply 32 rows with strips of weights, all in bfloat16, into totals in float32, or `adds` to them.

    As `_tile_adder`'s, for what lies in the CPU's caches: four tiles of sums share what is read for them. Where lines
    of 64 bytes begin, rows of all three should, or it takes twice as long.

    - next_strip: bytes to the next 32 columns of weights.
    - num_tiles: of weights, one below the other.
    """

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        if not _KNOWS_TILES:
            return context.get_dummy_value()
        config, rows, next_row, weights, next_pair, next_strip, *sizes, totals, next_totals, adds = values
        num_tiles, num_strips = sizes
        byte, size = ir.IntType(8), num_tiles.type
        at, amx = functools.partial(_pointer, builder, byte), functools.partial(_amx, builder)

        def times(number: Any, factor: int) -> Any:
            return builder.mul(number, ir.Constant(size, factor))

        tiles = [ir.Constant(byte, index) for index in range(8)]
        sums, row_tiles, weight_tiles = (tiles[:2], tiles[2:4]), tiles[4:6], tiles[6:]
        halves = [ir.Constant(size, 64 * i) for i in range(2)]
        amx("ldtilecfg", at(config))
        with _cgutils.for_range(builder, num_strips) as strip:
            first_weights = builder.add(weights, builder.mul(strip.index, next_strip))
            first_total = builder.add(totals, times(strip.index, 4 * _STRIP))
            places = [[at(first_total, times(next_totals, 16 * i), half) for half in halves] for i in range(2)]
            with builder.if_else(adds) as (then, otherwise):
                with then:
                    for i, j in np.ndindex(2, 2):
                        amx("tileloadd64", sums[i][j], places[i][j], next_totals)
                with otherwise:
                    for i, j in np.ndindex(2, 2):
                        amx("tilezero", sums[i][j])
            with _cgutils.for_range(builder, num_tiles) as loop:
                inputs = times(loop.index, 64)
                for i in range(2):
                    amx("tileloadd64", row_tiles[i], at(rows, times(next_row, 16 * i), inputs), next_row)
                begin = builder.mul(times(loop.index, _TILE_PAIRS), next_pair)
                for j in range(2):
                    amx("tileloadd64", weight_tiles[j], at(first_weights, begin, halves[j]), next_pair)
                for i, j in np.ndindex(2, 2):
                    amx("tdpbf16ps", sums[i][j], row_tiles[i], weight_tiles[j])
            for i, j in np.ndindex(2, 2):
                amx("tilestored64", sums[i][j], places[i][j], next_totals)
        amx("tilerelease")
        return context.get_dummy_value()

    return types.void(*[types.intp] * 10, types.boolean), generate


def _shuffled(builder: Any, first: Any, second: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


@_intrinsic
def _transpose(_: Any, rows: Any, next_row: Any, columns: Any, next_column: Any) -> Any:
    """Transpose 16 rows of 16 words: addresses, and bytes to the next."""

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        rows, next_row, columns, next_column = values
        words = ir.VectorType(ir.IntType(32), _LANES)

        def at(address: Any, step: Any, index: int) -> Any:
            return _pointer(builder, words, address, builder.mul(step, ir.Constant(step.type, index)))

        lines = [builder.load(at(rows, next_row, i), align=4) for i in range(_LANES)]
        for size in (8, 4, 2, 1):  # of the blocks that change places
            low = [lane if not lane & size else lane - size + _LANES for lane in range(_LANES)]
            high = [lane + size if not lane & size else lane + _LANES for lane in range(_LANES)]
            for i in range(_LANES):
                if not i & size:
                    pair = lines[i], lines[i + size]
                    lines[i], lines[i + size] = _shuffled(builder, *pair, low), _shuffled(builder, *pair, high)
        for i, line in enumerate(lines):
            builder.store(line, at(columns, next_column, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


@_intrinsic
def _weigh_scores(
    _: Any, scores: Any, num_vectors: Any, scale: Any, shares: Any, top: Any, totals: Any, mix: Any, num_mixed: Any
) -> Any:
    """Make of a row's scores, vectors of 16, what each counts, and count what it saw before anew if one is higher.

    Addresses, but for:

    - shares: powers of 2 to `scale` times the scores, below the highest; written in bfloat16.
    - top: the highest of all seen so far, times `scale`.
    - totals: a vector, which sums all shares.
    - mix: vectors, `num_mixed`, of what was seen before.
    """

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        scores, num_vectors, scale, shares, top, totals, mix, num_mixed = values
        float_type, size = ir.FloatType(), num_vectors.type
        floats, words = ir.VectorType(float_type, _LANES), ir.VectorType(ir.IntType(32), _LANES)
        halves = ir.VectorType(ir.IntType(16), _LANES)

        def constant(value: float) -> Any:
            return ir.Constant(floats, [value] * _LANES)

        def word(value: int) -> Any:
            return ir.Constant(words, [value] * _LANES)

        def call(name: str, *values: Any) -> Any:
            kind = ir.FunctionType(floats, [floats] * len(values))
            return builder.call(_cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v16f32"), values)

        def at(address: Any, index: Any, kind: Any, item_size: int) -> Any:
            return _pointer(builder, kind, address, builder.mul(index, ir.Constant(size, item_size * _LANES)))

        def higher(first: Any, second: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", first, second), first, second)

        def in_all_lanes(value: Any) -> Any:
            first = builder.insert_element(ir.Constant(floats, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return _shuffled(builder, first, first, [0] * _LANES)

        def power_of_2(power: Any) -> Any:
            """Of at most 0, to a ten thousandth; of -inf, where a row may not look, next to nothing but not 0."""
            is_low = builder.fcmp_ordered("<", power, constant(-126))  # what is not a number stays so
            power = builder.select(is_low, constant(-126), power)
            whole = call("floor", power)
            rest = builder.fsub(power, whole)
            series = constant(0.0778774)
            for factor in (0.2259240, 0.6960796, 0.9998812):
                series = call("fma", series, rest, constant(factor))
            exponent = builder.shl(builder.fptosi(whole, words), word(23))
            return builder.bitcast(builder.add(builder.bitcast(series, words), exponent), floats)

        zero = ir.Constant(size, 0)
        scales, top_place = in_all_lanes(scale), builder.inttoptr(top, float_type.as_pointer())
        before = in_all_lanes(builder.load(top_place))
        highest = _cgutils.alloca_once_value(builder, constant(float("-inf")))
        with _cgutils.for_range(builder, num_vectors) as loop:
            line = builder.load(at(scores, loop.index, floats, 4), align=4)
            builder.store(higher(line, builder.load(highest)), highest)
        now = builder.load(highest)
        for distance in (8, 4, 2, 1):
            now = higher(now, _shuffled(builder, now, now, [lane ^ distance for lane in range(_LANES)]))
        now = higher(builder.fmul(now, scales), before)
        builder.store(builder.extract_element(now, ir.Constant(ir.IntType(32), 0)), top_place)
        fade = power_of_2(builder.fsub(before, now))
        total_place = at(totals, zero, floats, 4)
        total = _cgutils.alloca_once_value(builder, builder.fmul(builder.load(total_place, align=4), fade))
        below = builder.fneg(now)
        with _cgutils.for_range(builder, num_vectors) as loop:
            line = builder.load(at(scores, loop.index, floats, 4), align=4)
            share = power_of_2(call("fma", line, scales, below))
            builder.store(builder.fadd(share, builder.load(total)), total)
            rounded = builder.lshr(builder.add(builder.bitcast(share, words), word(0x8000)), word(16))
            builder.store(builder.trunc(rounded, halves), at(shares, loop.index, halves, 2), align=2)
        builder.store(builder.load(total), total_place, align=4)
        with _cgutils.for_range(builder, num_mixed) as loop:
            place = at(mix, loop.index, floats, 4)
            builder.store(builder.fmul(builder.load(place, align=4), fade), place, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, *[types.intp] * 5), generate


_add_tiles = _tile_adder("tdpbf16ps", _KNOWS_TILES)
_add_int8_tiles = _tile_adder("tdpbusd", _KNOWS_INT8_TILES)


@_intrinsic
def _count(_: Any, bits: Any) -> Any:
    """How many are 1."""
    return types.uint32(types.uint32), lambda context, builder, _, values: builder.ctpop(values[0])


_KNOWS_COMPRESSION = bool(binding.get_host_cpu_features().get("avx512f"))


@_intrinsic
def _pick(_: Any, numbers: Any, bits: Any, place: Any) -> Any:
    """Put together those of 32 float32 whose bit is 1, where there is room for all of them; how many. From addresses.

    Compiled to nothing for a CPU without AVX-512.
    """

    def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
        numbers, bits, place = values
        if not _KNOWS_COMPRESSION:
            return ir.Constant(place.type, 0)
        floats, flags = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.IntType(1), _LANES)
        compress = _cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(floats, [floats, floats, flags]),
            f"llvm.x86.avx512.mask.compress.v{_LANES}f32",
        )
        count = ir.Constant(place.type, 0)
        for half in range(2):
            chosen = builder.trunc(builder.lshr(bits, ir.Constant(bits.type, _LANES * half)), ir.IntType(_LANES))
            offset = ir.Constant(numbers.type, 4 * _LANES * half)
            lanes = builder.load(builder.inttoptr(builder.add(numbers, offset), floats.as_pointer()), align=4)
            packed = builder.call(compress, [lanes, ir.Constant(floats, None), builder.bitcast(chosen, flags)])
            end = builder.add(place, builder.mul(count, ir.Constant(place.type, 4)))
            builder.store(packed, builder.inttoptr(end, floats.as_pointer()), align=4)
            count = builder.add(count, builder.zext(builder.ctpop(chosen), place.type))
        return count

    return types.intp(types.uintp, types.uint32, types.uintp), generate


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
    """Begin to bring a row of a matrix from memory, which takes longer than to compute, where that must be told."""
    for offset in range(0, rows.shape[1] * rows.itemsize if _FETCHES else 0, 64):
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
def _aligned(numbers: Array) -> Array:
    """Without the first few, such that they begin where a line of 64 bytes does, and as many less at the end."""
    skipped = -numbers.ctypes.data % 64 // numbers.itemsize
    return numbers[skipped : len(numbers) - 64 // numbers.itemsize + skipped]


@_loop
def _highest(row: Array) -> Any:
    """The highest number."""
    highest = _highest_ordered(row)
    return _as_float(np.uint32(highest ^ ((highest >> np.int32(31)) & np.int32(0x7FFFFFFF))))


@_loop
def _highest_ordered(row: Array) -> Any:
    """The highest number as an integer: numbers which may be NaN are not compared in vectors."""
    highest = _ordered(-np.float32(np.inf))
    for i in range(len(row)):
        highest = max(highest, _ordered(_read(row[i])))
    return highest


@_loop
def _ordered(number: Any) -> Any:
    """The bits of a float32 as an integer of the same order."""
    bits = np.int32(_as_bits(number))
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@_loop
def choose(
    first: int,
    last: int,
    x: Array,
    masks: Array,
    mask_of: Array,
    temperatures: Array,
    top_ks: Array,
    top_ps: Array,
    min_ps: Array,
    points: Array,
    tokens: Array,
) -> None:
    """Over rows of logits `x [num_rows, size]`: the token at a point of 0 to 1 of the row's distribution.

    The most likely one where the temperature is 0, or logits are not finite. A row that has one of
    `masks [num_masks, num_words]` is given a token whose bit is 1, or 0 where none of them can come.
    """
    size = x.shape[1]
    weights, allowed = np.empty(size, np.float32), np.empty(size + 32, np.float32)
    for row in range(first, last):
        logits, is_held = x[row], mask_of[row] >= 0
        if is_held:
            logits = _allow(logits, masks[mask_of[row]], allowed)
        token = _best(logits)
        if temperatures[row] > 0 and len(logits) > 0 and abs(logits[token]) < np.inf:
            total = _weigh(logits, logits[token], np.float32(1) / temperatures[row], min_ps[row], weights)
            if total < np.inf:
                lowest: Any = np.float32(0)
                num_lowest = 0
                if top_ks[row] < size or top_ps[row] < 1:
                    lowest, num_lowest, total = _cut(weights[: len(logits)], top_ks[row], top_ps[row], total)
                token = _at(weights[: len(logits)], lowest, num_lowest, points[row] * total)
        if is_held:
            is_any = len(logits) > 0 and logits[token] != -np.inf
            token = _token(masks[mask_of[row]], token) if is_any else 0
        tokens[row] = token


@_loop
def _allow(logits: Array, mask: Array, allowed: Array) -> Array:
    """What has a bit in `mask`, together in `allowed`, so that only that is looked at.

    Where the CPU can't do so in vectors, all logits, with -inf where the bit is 0.
    """
    num: Any = 0
    source, target = logits.ctypes.data, allowed.ctypes.data
    for word in range(min(len(mask), (len(logits) + 31) // 32)):
        bits, begin = np.uint32(mask[word]), 32 * word
        if _KNOWS_COMPRESSION and begin + 32 <= len(logits):
            if bits:
                num += _pick(np.uintp(source + 4 * begin), bits, np.uintp(target + 4 * num))
            continue
        for bit in range(min(32, len(logits) - begin)):
            may_come = (bits >> np.uint32(bit)) & np.uint32(1)
            if _KNOWS_COMPRESSION:
                allowed[num] = logits[begin + bit]
                num += np.int64(may_come)
            elif not may_come:
                logits[begin + bit] = -np.inf
    return allowed[:num] if _KNOWS_COMPRESSION else logits


@_loop
def _token(mask: Array, place: Any) -> Any:
    """The token that `_allow` put in a place."""
    if not _KNOWS_COMPRESSION:
        return place
    for word in range(len(mask)):
        bits = np.uint32(mask[word])
        num = np.int64(_count(bits))
        if place < num:
            for _ in range(place):
                bits &= bits - np.uint32(1)  # without its lowest 1
            return 32 * word + np.int64(_count(~bits & (bits - np.uint32(1))))
        place -= num
    return 0


@_loop
def _best(row: Array) -> int:
    """The first index of the highest number, which is looked for where it lies."""
    part_size = 1024
    begin, highest = 0, _ordered(-np.float32(np.inf))
    for part in range(0, len(row), part_size):
        here = _highest_ordered(row[part : part + part_size])
        if here > highest:
            begin, highest = part, here
    while begin < len(row) - 1 and _ordered(_read(row[begin])) != highest:
        begin += 1
    return begin


@_loop
def _weigh(logits: Array, highest: Any, sharpness: Any, floor: Any, weights: Array) -> Any:
    """Relative to the highest, which weighs 1; what weighs less than `floor` weighs nothing. Returns their sum."""
    total: Any = 0.0
    part_size = 1024
    for begin in range(0, len(logits), part_size):
        part, out = logits[begin : begin + part_size], weights[begin : begin + part_size]
        part_sum = np.float32(0)
        for i in range(len(part)):
            power = min((part[i] - highest) * sharpness, np.float32(0))  # rounded or not, none weighs more than 1
            weight = _exp(power)
            weight = np.float32(0) if (power < np.float32(-80)) | (weight < floor) else weight
            out[i] = weight
            part_sum += weight
        total += part_sum
    return total


@_loop
def _cut(weights: Array, top_k: int, top_p: float, total: float) -> Any:
    """The lowest weight among the `top_k` highest, and of those the fewest that hold `top_p` of their sum.

    Returns it, how many of that weight are among them, and what they hold. The weights, of 0 to 1, are counted in
    classes of a 16th of an octave, and only those of the class where the cut is are sorted.
    """
    counts, sums = np.zeros(2048, np.int64), np.zeros(2048)
    for weight in weights:
        if weight > 0:
            index = _class(weight)
            counts[index] += 1
            sums[index] += weight
    lowest, num_lowest = np.float32(0), 0
    if top_k < counts.sum():
        index, num_kept, kept = 0, 0, 0.0
        while num_kept + counts[index] < top_k:
            num_kept += counts[index]
            kept += sums[index]
            index += 1
        best = _of_class(weights, index, counts[index])[: top_k - num_kept]
        lowest, num_lowest, total = best[-1], (best == best[-1]).sum(), kept + best.sum()
    if top_p < 1:
        index, kept = 0, 0.0
        while index < len(sums) - 1 and (kept + sums[index] < top_p * total or not counts[index]):
            kept += sums[index]
            index += 1
        if not counts[index]:  # rounded: all of them are wanted
            return lowest, num_lowest, total
        best = _of_class(weights, index, counts[index])
        num_best = 1
        while num_best < len(best) and kept + best[num_best - 1] < top_p * total:
            kept += best[num_best - 1]
            num_best += 1
        best = best[:num_best]
        lowest, num_lowest, total = best[-1], (best == best[-1]).sum(), kept + best[-1]
    return lowest, num_lowest, total


@_loop
def _class(weight: Any) -> Any:
    """0 for the weight 1, higher for lower ones."""
    return (np.uint32(0x3F800000) - _as_bits(weight)) >> np.uint32(19)


@_loop
def _of_class(weights: Array, index: int, count: int) -> Array:
    """All weights of a class, the highest first."""
    found, num_found = np.empty(count, np.float32), 0
    for weight in weights:
        if weight > 0 and _class(weight) == index:
            found[num_found] = weight
            num_found += 1
    return np.sort(found)[::-1]


@_loop
def _at(weights: Array, lowest: Any, num_lowest: int, target: float) -> int:
    """Where the sum of all weights above the lowest, and of some that equal it, passes a target."""
    part_size = 1024
    passed, begin, left, num_left = 0.0, 0, target, num_lowest
    for part in range(0, len(weights), part_size):
        above, num_equal = _above(weights[part : part + part_size], lowest)
        num_equal = min(num_equal, num_lowest)
        here = above + num_equal * lowest
        if here > 0:  # where no part passes the target, because it is rounded, the last one does
            begin, left, num_left = part, target - passed, num_lowest
            passed += here
            num_lowest -= num_equal
            if passed > target:
                break
    return begin + int(_at_once(weights[begin : begin + part_size], lowest, num_left, left))


@_loop
def _above(weights: Array, lowest: Any) -> Any:
    """The sum of all weights above the lowest, and how many equal it."""
    above, num_equal = np.float32(0), np.float32(0)  # numbers of one size, for vectors of them
    for i in range(len(weights)):
        above += weights[i] if weights[i] > lowest else np.float32(0)
        num_equal += np.float32(1) if weights[i] == lowest else np.float32(0)
    return above, int(num_equal)


@_loop
def _at_once(weights: Array, lowest: Any, num_lowest: int, target: float) -> int:
    """The same for a few weights, one after the other."""
    passed, token = 0.0, 0
    for i in range(len(weights)):
        weight = weights[i]
        if weight < lowest or weight == 0 or (weight == lowest and num_lowest == 0):
            continue
        num_lowest -= weight == lowest
        passed += weight
        token = i
        if passed > target:
            break
    return token


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
        gates, ups = gate_up[row, :size], gate_up[row, size:]
        for i in range(size):
            gate = _read(gates[i])
            out[row, i] = _rounded(gate / (np.float32(1) + _exp(-gate)) * _read(ups[i]), out)


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
def _sizes(num_rows: int) -> Array:
    """Of the tiles of `_add_tiles`: two of sums, one of rows and the others of weights, each row of 64 bytes."""
    config = np.zeros(64, np.uint8)
    config[0] = 1  # of the kinds of configurations
    for tile in range(8):
        config[16 + 2 * tile] = 64
        config[48 + tile] = num_rows if tile < 3 else _TILE_PAIRS
    return config


@_loop
def _add_products(x: Array, weights: int, next_pair: int, totals: Array) -> None:
    """Add rows `x [num_rows, num_inputs]` times a block of weights to `totals [num_rows, _BLOCK]`.

    `x` is bfloat16 with totals in float32, 8 bits and unsigned with totals in int32.
    """
    num_rows, num_pairs = len(x), x.shape[1] * x.itemsize // 4
    next_row, next_totals = x.strides[0], totals.strides[0]
    for pair in range(0, num_pairs, _PAIRS_AT_ONCE):
        num, part, row = min(_PAIRS_AT_ONCE, num_pairs - pair), weights + pair * next_pair, 0
        while row < num_rows:
            # Taken in each turn: numba frees an array after its last use, and knows nothing of addresses.
            inputs, sums = x.ctypes.data + row * next_row + 4 * pair, totals.ctypes.data + row * next_totals
            left = num_rows - row
            if left >= 6:
                _multiply_6(part, next_pair, inputs, next_row, num, sums, next_totals, totals)
                row += 6
            elif left >= 4:
                _multiply_4(part, next_pair, inputs, next_row, num, sums, next_totals, totals)
                row += 4
            elif left >= 2:
                _multiply_2(part, next_pair, inputs, next_row, num, sums, next_totals, totals)
                row += 2
            else:
                _multiply_1(part, next_pair, inputs, next_row, num, sums, next_totals, totals)
                row += 1


@_loop
def linear_rows(first: int, last: int, x: Array, weight: Array, bias: Array, out: Array) -> None:
    """Over blocks of `weight [num_blocks, num_pairs, block]`, words of two weights each; `block` is one of `BLOCKS`."""
    num_rows, (num_pairs, block) = len(x), weight.shape[1:]
    if num_rows == 0:  # a part of a prompt that nothing is sampled from
        return
    in_tiles = HAS_TILES and num_rows > _MAX_IN_VECTORS
    is_widened = not in_tiles and not HAS_PRODUCTS
    room = num_rows if not is_widened or num_rows <= 2 else _MAX_IN_VECTORS
    totals, rows = np.empty((room, block), np.float32), np.zeros((room if is_widened else 0, x.shape[1]), np.float32)
    for row in range(min(num_rows, len(rows))):
        for i in range(x.shape[1]):
            rows[row, i] = _read(x[row, i])
    next_row, next_totals, config = rows.strides[0], totals.strides[0], _sizes(num_rows)
    for begin in range(first * block, last * block, block):
        biases = bias[begin : begin + block]
        for row in range(room):
            for i in range(block):
                totals[row, i] = _read(biases[i])
        weights, next_pair = weight.ctypes.data + begin // block * weight.strides[0], weight.strides[1]
        if HAS_PRODUCTS:
            _add_products(x, weights, next_pair, totals)
        in_strips = in_tiles or block < _BLOCK
        for strip in range(0, 0 if HAS_PRODUCTS else block, _STRIP if in_strips else _BLOCK):
            # Taken in each turn: numba frees an array after its last use, and knows nothing of addresses.
            inputs = rows.ctypes.data
            sums, part = totals.ctypes.data + strip * totals.itemsize, weights + strip * weight.itemsize
            if in_tiles:
                num_tiles = num_pairs // _TILE_PAIRS
                _add_tiles(
                    config.ctypes.data, part, next_pair, x.ctypes.data, x.strides[0], num_tiles, sums, next_totals
                )
            elif in_strips and room == 1:
                _add_1(part, next_pair, inputs, next_row, num_pairs, sums, next_totals)
            elif in_strips and room == 2:
                _add_2(part, next_pair, inputs, next_row, num_pairs, sums, next_totals)
            elif in_strips:
                _add_4(part, next_pair, inputs, next_row, num_pairs, sums, next_totals)
            elif room == 1:
                _add_block_1(part, next_pair, inputs, next_row, num_pairs, sums, next_totals)
            elif room == 2:
                _add_block_2(part, next_pair, inputs, next_row, num_pairs, sums, next_totals)
            else:
                _add_block_4(part, next_pair, inputs, next_row, num_pairs, sums, next_totals)
        for row in range(num_rows):
            outputs = out[row, begin : begin + block]
            for i in range(block):
                outputs[i] = _rounded(totals[row, i], out)


@_loop
def to_int8(first: int, last: int, x: Array, out: Array, scales: Array) -> None:
    """Over rows of `x [num_rows, dim]`: unsigned 8 bits with `INT8_ZERO` for 0, and what a step of 1 stands for."""
    for row in range(first, last):
        highest = np.int32(0)
        for i in range(x.shape[1]):
            highest = max(highest, np.int32(_as_bits(_read(x[row, i])) & np.uint32(0x7FFFFFFF)))
        scale = max(_as_float(np.uint32(highest)), np.float32(1e-12)) / np.float32(127)
        scales[row] = scale
        for i in range(x.shape[1]):
            out[row, i] = np.uint8(np.int32(np.floor(_read(x[row, i]) / scale + np.float32(INT8_ZERO + 0.5))))


@_loop
def linear_rows_int8(
    first: int, last: int, x: Array, row_scales: Array, weight: Array, scales: Array, offsets: Array, bias: Array,
    out: Array,
) -> None:  # fmt: skip
    """Over blocks of `weight [num_blocks, num_quads, block]`, words of four weights of 8 bits.

    Rows `x [num_rows, in_features]` are as `to_int8` makes them, and `offsets` what makes up for its `INT8_ZERO`;
    `block` is one of `INT8_BLOCKS`.
    """
    num_rows, (num_quads, block) = len(x), weight.shape[1:]
    if num_rows == 0:
        return
    totals, config = np.empty((num_rows, block), np.int32), _sizes(num_rows)
    for begin in range(first * block, last * block, block):
        for row in range(num_rows):
            totals[row] = offsets[begin : begin + block]
        weights, next_quad = weight.ctypes.data + begin // block * weight.strides[0], weight.strides[1]
        if HAS_INT8_PRODUCTS:
            _add_products(x, weights, next_quad, totals)
        else:
            for strip in range(0, block, _STRIP):
                _add_int8_tiles(
                    config.ctypes.data, weights + strip * weight.itemsize, next_quad, x.ctypes.data, x.strides[0],
                    num_quads // _TILE_PAIRS, totals.ctypes.data + strip * totals.itemsize, totals.strides[0],
                )  # fmt: skip
        block_scales, biases = scales[begin : begin + block], bias[begin : begin + block]
        for row in range(num_rows):
            outputs = out[row, begin : begin + block]
            for i in range(block):
                number = np.float32(totals[row, i]) * row_scales[row] * block_scales[i] + _read(biases[i])
                outputs[i] = _rounded(number, out)


def _linear(x: Array, linear: tuple[Array, ...], out: Array) -> None:
    """Multiply rows with a linear layer: what `linear_rows` takes of it, or the more that `linear_rows_int8` does."""


@_overload(_linear)
def _linear_either(x: Any, linear: Any, out: Any) -> Any:
    def multiplied(x: Any, linear: Any, out: Any) -> None:
        linear_rows(0, len(linear[0]), x, *linear, out)

    def multiplied_in_int8(x: Any, linear: Any, out: Any) -> None:
        rows, scales = np.empty(x.shape, np.uint8), np.empty(len(x), np.float32)
        to_int8(0, len(x), x, rows, scales)
        linear_rows_int8(0, len(linear[0]), rows, scales, *linear, out)

    return multiplied if len(linear) == 2 else multiplied_in_int8


_words_pointer: Any = types.CPointer(types.uint32)  # type: ignore[no-untyped-call]


@_intrinsic
def _words_at(_: Any, address: Any) -> Any:
    return _words_pointer(types.intp), lambda context, builder, _, values: builder.inttoptr(
        values[0], ir.IntType(32).as_pointer()
    )


def _of_stack(layers: tuple[Array, ...], index: int) -> Any:
    """One of the linear layers that `engine.linear.stack` puts together, for `_linear`."""


@_overload(_of_stack)
def _of_stack_either(layers: Any, index: Any) -> Any:
    def plain(layers: Any, index: Any) -> Any:
        addresses, like, biases = layers
        return carray(_words_at(addresses[index]), like.shape), biases[index]

    def in_int8(layers: Any, index: Any) -> Any:
        addresses, like, scales, offsets, biases = layers
        return carray(_words_at(addresses[index]), like.shape), scales[index], offsets[index], biases[index]

    return plain if len(layers) == 3 else in_int8


@_loop
def experts_of_rows(x: Array, chosen: Array, gate_up: tuple[Array, ...], down: tuple[Array, ...], out: Array) -> None:
    """What the experts that are `chosen [num_rows, num_chosen]`, a row's all different, make of `x`.

    The rows of each expert are computed together; the others' weights are not touched.

    Args:
        x: `[num_rows, hidden_size]`.
        gate_up, down: stacks of the experts' layers.
        out: `[num_rows · num_chosen, hidden_size]`, row by row, written.
    """
    experts, num_chosen = chosen.ravel(), chosen.shape[1]
    places = np.empty(len(experts), np.int64)
    for expert in range(len(gate_up[0])):
        num = 0
        for place in range(len(experts)):
            if experts[place] == expert:
                places[num] = place
                num += 1
        if num == 0:
            continue
        rows = np.empty((num, x.shape[1]), x.dtype)
        for i in range(num):
            rows[i] = x[places[i] // num_chosen]
        both = np.empty((num, gate_up[-1].shape[1]), x.dtype)
        _linear(rows, _of_stack(gate_up, expert), both)
        gated = np.empty((num, both.shape[1] // 2), x.dtype)
        swiglu(0, num, both, gated)
        _linear(gated, _of_stack(down, expert), rows)
        for i in range(num):
            out[places[i]] = rows[i]


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


_SEEN_ROWS, _SEEN_TOKENS = 32, 256
"""Rows of a prompt, and tokens of its sequence, that are multiplied all with all at once."""


@_loop
def see(first: int, last: int, query: Array, keys: Array, values: Array, scale: Any, out: Array) -> None:
    """Over query heads: let the last tokens of a sequence see it, each what comes before it and itself, in AMX's tiles.

    Args:
        first, last: of the heads.
        query: `[num_rows, num_query_heads, key_dim]`, bfloat16 like the rest; both dims multiples of `_STRIP`.
        keys, values: `[num_heads, num_cached, dim]`, the rows' own at the end; query heads share these heads evenly.
        scale: factor on the scores.
        out: `[num_rows, num_query_heads, value_dim]`, written.
    """
    num_rows, (num_cached, key_dim), value_dim = len(query), keys.shape[1:], values.shape[2]
    num_shared = query.shape[1] // len(keys)
    num_strips = (num_cached + _STRIP - 1) // _STRIP
    config, line = _sizes(_MAX_IN_TILES), 64
    key_words = _aligned(np.zeros(num_strips * _STRIP * key_dim // 2 + line // 4, np.uint32))
    strips = key_words.reshape(num_strips, key_dim // 2, _STRIP)
    value_words = _aligned(np.zeros(num_strips * _STRIP * value_dim // 2 + line // 4, np.uint32))
    pairs = value_words.reshape(num_strips * _STRIP // 2, value_dim)
    rows = _aligned(np.zeros(_SEEN_ROWS * key_dim + line // 2, np.uint16)).reshape(_SEEN_ROWS, key_dim)
    scores = _aligned(np.empty(_SEEN_ROWS * _SEEN_TOKENS + line // 4, np.float32)).reshape(_SEEN_ROWS, _SEEN_TOKENS)
    shares = _aligned(np.empty(_SEEN_ROWS * _SEEN_TOKENS + line // 2, np.uint16)).reshape(_SEEN_ROWS, _SEEN_TOKENS)
    mix = _aligned(np.empty(_SEEN_ROWS * value_dim + line // 4, np.float32)).reshape(_SEEN_ROWS, value_dim)
    tops, totals = np.empty(_SEEN_ROWS, np.float32), np.empty((_SEEN_ROWS, _LANES), np.float32)
    scale *= np.float32(1.4426950408889634)  # shares are powers of 2
    packed = -1
    for query_head in range(first, last):
        head = query_head // num_shared
        if head != packed:
            packed = head
            _pack_keys(keys[head], strips)
            _pack_values(values[head], pairs)
        for begin_row in range(0, num_rows, _SEEN_ROWS):
            num_here = min(_SEEN_ROWS, num_rows - begin_row)
            for row in range(num_here):
                row_query, row_out = query[begin_row + row, query_head], rows[row]
                for i in range(key_dim):
                    row_out[i] = row_query[i]
            num_before = num_cached - num_rows + begin_row
            end = num_before + num_here
            tops[:], totals[:], mix[:] = -np.inf, 0, 0
            for begin in range(0, end, _SEEN_TOKENS):
                width = (min(_SEEN_TOKENS, end - begin) + _STRIP - 1) // _STRIP
                strip = strips[begin // _STRIP :]
                _multiply_tiles(
                    config.ctypes.data, rows.ctypes.data, rows.strides[0], strip.ctypes.data, strip.strides[1],
                    strip.strides[0], key_dim // _STRIP, width, scores.ctypes.data, scores.strides[0], False,
                )  # fmt: skip
                for row in range(num_here):
                    row_scores, row_shares = scores[row], shares[row]
                    num_seen = min(max(num_before + row + 1 - begin, 0), width * _STRIP)
                    num_vectors = (num_seen + _LANES - 1) // _LANES
                    row_scores[num_seen : num_vectors * _LANES] = -np.inf
                    row_shares[num_vectors * _LANES : width * _STRIP] = 0
                    if num_vectors:
                        _weigh_scores(
                            row_scores.ctypes.data, num_vectors, scale, row_shares.ctypes.data,
                            tops.ctypes.data + row * tops.itemsize, totals.ctypes.data + row * totals.strides[0],
                            mix.ctypes.data + row * mix.strides[0], value_dim // _LANES,
                        )  # fmt: skip
                pair = pairs[begin // 2 :]
                _multiply_tiles(
                    config.ctypes.data, shares.ctypes.data, shares.strides[0], pair.ctypes.data, pair.strides[0],
                    4 * _STRIP, width, value_dim // _STRIP, mix.ctypes.data, mix.strides[0], True,
                )  # fmt: skip
            for row in range(num_here):
                row_mix, row_out, factor = mix[row], out[begin_row + row, query_head], np.float32(1) / totals[row].sum()
                for i in range(value_dim):
                    row_out[i] = _rounded(row_mix[i] * factor, row_out)


@_loop
def _pack_keys(keys: Array, words: Array) -> None:
    """`[num_tokens, dim]` to `[num_strips, dim / 2, width]`: of each token, a word for two of its numbers."""
    width = words.shape[2]
    padded = np.zeros((_LANES, keys.shape[1]), keys.dtype)
    for token in range(0, len(keys), _LANES):
        rows = keys[token : token + _LANES]
        part = rows.ctypes.data, rows.strides[0]
        if len(rows) < _LANES:
            padded[: len(rows)] = rows
            part = padded.ctypes.data, padded.strides[0]
        columns = words[token // width, :, token % width :]
        for begin in range(0, len(columns), _LANES):
            column = columns.ctypes.data + begin * columns.strides[0]
            _transpose(part[0] + begin * columns.itemsize, part[1], column, columns.strides[0])


@_loop
def _pack_values(values: Array, words: Array) -> None:
    """The first numbers of tokens to `[num_tokens / 2, dim]` words: of two tokens, a number of each."""
    num_pairs = len(values) // 2
    for pair in range(num_pairs):
        even, odd, both = values[2 * pair], values[2 * pair + 1], words[pair]
        for i in range(len(both)):
            both[i] = np.uint32(even[i]) | np.uint32(odd[i]) << np.uint32(16)
    if len(values) > 2 * num_pairs:
        words[num_pairs] = values[2 * num_pairs, : words.shape[1]]


@_inlined
def _see(
    row: Array, keys: Array, values: Array, next_keys: Array, shares: Array, mix: Array, highest: Any, total: Any,
    key_dim: int, value_dim: int,
) -> None:  # fmt: skip
    """Mix the values by how much the row looks at their keys; `shares` is room for a number for each of them.

    `mix` holds what it has seen elsewhere, as `see_shared` leaves it.
    """
    before = highest
    for token in range(len(keys)):
        _fetch_row(values, token)
        score = np.float32(0)
        for i in range(key_dim):
            score += row[i] * _read(keys[token, i])
        shares[token] = score
        highest = max(highest, score)
    fade = _exp(before - highest)
    total *= fade
    for token in range(len(keys)):
        share = _exp(shares[token] - highest)
        shares[token] = share
        total += share
    for i in range(value_dim):
        mix[i] *= fade
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


@_inlined
def _attend(
    first: int, last: int, query: Array, key: Array, value: Array, keys: Array, values: Array, starts: Array,
    lengths: Array, groups: Array, group_of: Array, scale: Any, highest: Array, totals: Array, mixes: Array, out: Array,
    key_dim: int, value_dim: int,
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
        is_grouped = len(groups) > 0 and group_of[sequence] >= 0
        if is_grouped:
            begin += groups[group_of[sequence], 1]
        past_keys, past_values = keys[head, begin:end], values[head, begin:end]
        next_keys = keys[min(head + 1, num_heads - 1), begin:end]
        for query_head in range(head * num_shared, (head + 1) * num_shared):
            for i in range(key_dim):
                row[i] = _read(query[sequence, query_head, i]) * scale
            top, total = -np.float32(np.inf), np.float32(0)
            mix[:] = 0
            if is_grouped:
                top, total = highest[sequence, query_head], totals[sequence, query_head]
                mix[:] = mixes[sequence, query_head]
            _see(row, past_keys, past_values, next_keys, shares, mix, top, total, key_dim, value_dim)
            for i in range(value_dim):
                out[sequence, query_head, i] = _rounded(mix[i], out)


@cache
def attend(key_dim: int, value_dim: int) -> Any:
    """The loop over pairs of a sequence and a head of the cache; the compiler knows the lengths, and unrolls them."""

    @_loop
    def loop(
        first: int, last: int, query: Array, key: Array, value: Array, keys: Array, values: Array, starts: Array,
        lengths: Array, groups: Array, group_of: Array, scale: Any, highest: Array, totals: Array, mixes: Array,
        out: Array,
    ) -> None:  # fmt: skip
        _attend(
            first, last, query, key, value, keys, values, starts, lengths, groups, group_of, scale, highest, totals,
            mixes, out, key_dim, value_dim,
        )  # fmt: skip

    return loop


_SHARED_TILE = 64
"""Tokens of a shared beginning that are seen at once."""


@_inlined
def _add_product(x: Array, weights: Array, strip: int, totals: Array, config: Array, widened: Array) -> None:
    """Add `x [num_rows, 2 · num_pairs]` times a strip of `weights [num_pairs, width]` to `totals [num_rows, _STRIP]`.

    Args:
        x: bfloat16; a multiple of 4 rows, of 16 where there are tiles.
        weights: words of two inputs' weights each.
        strip: first of the `_STRIP` columns.
        totals: float32.
        config: sizes of tiles of 16 rows.
        widened: room for 4 rows in float32, where there are no tiles.
    """
    num_pairs, next_pair, next_totals = len(weights), weights.strides[0], totals.strides[0]
    for row in range(0, len(x), _PRODUCT_ROWS):
        address = weights.ctypes.data + strip * weights.itemsize
        inputs, sums = x.ctypes.data + row * x.strides[0], totals.ctypes.data + row * next_totals
        if _PRODUCT_ROWS == _MAX_IN_TILES:
            num_tiles = num_pairs // _TILE_PAIRS
            _add_tiles(config.ctypes.data, address, next_pair, inputs, x.strides[0], num_tiles, sums, next_totals)
        else:
            for i in range(_MAX_IN_VECTORS):
                for j in range(x.shape[1]):
                    widened[i, j] = _read(x[row + i, j])
            _add_4(address, next_pair, widened.ctypes.data, widened.strides[0], num_pairs, sums, next_totals)


@_loop
def see_shared(
    first: int, last: int, query: Array, keys: Array, values: Array, groups: Array, group_of: Array, scale: Any,
    highest: Array, totals: Array, mixes: Array,
) -> None:  # fmt: skip
    """Over pairs of a group and a head of the cache: let the rows of sequences that begin alike see that together.

    It is read once for all of them, and multiplied as matrices; `attend` goes on behind it.

    Args:
        first, last: of the pairs.
        query: `[num_sequences, num_query_heads, key_dim]`, bfloat16 like the cache; both dims multiples of `_STRIP`.
        keys, values: `[num_heads, max_tokens, dim]`, the cache.
        groups: `[num_groups, 2]`, where in the cache a beginning lies, and of how many tokens it is, a multiple of 16.
        group_of: `[num_sequences]`, or -1.
        scale: factor on the scores.
        highest, totals: `[num_sequences, num_query_heads]`, written: the highest score, the sum of all shares of it.
        mixes: `[num_sequences, num_query_heads, value_dim]`, written: the values mixed by these shares.
    """
    num_heads, key_dim, value_dim = len(keys), keys.shape[2], values.shape[2]
    num_shared = query.shape[1] // num_heads
    config, widened = _sizes(_MAX_IN_TILES), np.empty((_MAX_IN_VECTORS, max(key_dim, _SHARED_TILE)), np.float32)
    packed = np.empty((key_dim // 2, _STRIP), np.uint32)
    scores = np.empty((_SHARED_TILE, _STRIP), np.float32)
    shares, pairs = np.empty((_STRIP, _SHARED_TILE), np.uint16), np.empty((_SHARED_TILE // 2, value_dim), np.uint32)
    mix = np.empty((_STRIP, value_dim), np.float32)
    top, total, fade = np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32)
    members = np.empty(len(query) * num_shared, np.int64)
    for pair in range(first, last):
        group, head = pair // num_heads, pair % num_heads
        start, num_tokens = groups[group]
        num_members = 0
        for sequence in range(len(query)):
            if group_of[sequence] == group:
                for query_head in range(head * num_shared, (head + 1) * num_shared):
                    members[num_members] = sequence * query.shape[1] + query_head
                    num_members += 1
        for begin in range(0, num_members, _STRIP):
            rows = members[begin : min(begin + _STRIP, num_members)]
            num_rows = min((len(rows) + _PRODUCT_ROWS - 1) // _PRODUCT_ROWS * _PRODUCT_ROWS, _STRIP)
            packed[:] = 0
            for i, member in enumerate(rows):
                part = query[member // query.shape[1], member % query.shape[1]]
                for j in range(key_dim // 2):
                    packed[j, i] = np.uint32(part[2 * j]) | np.uint32(part[2 * j + 1]) << np.uint32(16)
            top[:], total[:], mix[:] = -np.inf, 0, 0
            for token in range(start, start + num_tokens, _SHARED_TILE):
                num = min(_SHARED_TILE, start + num_tokens - token)
                scores[:] = 0
                _add_product(keys[head, token : token + num], packed, 0, scores, config, widened)
                for i in range(_STRIP):
                    fade[i] = top[i]
                for j in range(num):
                    for i in range(_STRIP):
                        scores[j, i] *= scale
                        top[i] = scores[j, i] if scores[j, i] > top[i] else top[i]
                for i in range(_STRIP):
                    fade[i] = _exp(fade[i] - top[i])
                    total[i] *= fade[i]
                for j in range(num):
                    for i in range(_STRIP):
                        scores[j, i] = _exp(scores[j, i] - top[i])
                        total[i] += scores[j, i]
                shares[:, num:] = 0
                pairs[num // 2 :] = 0
                for j in range(num):
                    for i in range(num_rows):
                        shares[i, j] = _rounded(scores[j, i], shares)
                for j in range(num // 2):
                    even, odd = values[head, token + 2 * j], values[head, token + 2 * j + 1]
                    for i in range(value_dim):
                        pairs[j, i] = np.uint32(even[i]) | np.uint32(odd[i]) << np.uint32(16)
                for strip in range(0, value_dim, _STRIP):
                    strip_mix = mix[:num_rows, strip : strip + _STRIP]
                    for i in range(num_rows):
                        row_mix, factor = strip_mix[i], fade[i]
                        for j in range(_STRIP):
                            row_mix[j] *= factor
                    _add_product(shares[:num_rows], pairs, strip, strip_mix, config, widened)
            for i, member in enumerate(rows):
                sequence, query_head = member // query.shape[1], member % query.shape[1]
                highest[sequence, query_head], totals[sequence, query_head] = top[i], total[i]
                mixes[sequence, query_head] = mix[i]


@_loop
def multiply_heads(first: int, last: int, x: Array, weight: Array, out: Array) -> None:
    """Over heads of `x [num_rows, num_heads, in_dim]`, each with its own `weight [num_heads, in_dim, out_dim]`."""
    in_dim, out_dim = weight.shape[1:]
    totals = np.empty(out_dim, np.float32)
    for head in range(first, last):
        for row in range(len(x)):
            totals[:] = 0
            for begin in range(0, in_dim - in_dim % 4, 4):
                a, b = _read(x[row, head, begin]), _read(x[row, head, begin + 1])
                c, d = _read(x[row, head, begin + 2]), _read(x[row, head, begin + 3])
                for i in range(out_dim):
                    first_two = a * _read(weight[head, begin, i]) + b * _read(weight[head, begin + 1, i])
                    last_two = c * _read(weight[head, begin + 2, i]) + d * _read(weight[head, begin + 3, i])
                    totals[i] += first_two + last_two
            for begin in range(in_dim - in_dim % 4, in_dim):
                a = _read(x[row, head, begin])
                for i in range(out_dim):
                    totals[i] += a * _read(weight[head, begin, i])
            for i in range(out_dim):
                out[row, head, i] = _rounded(totals[i], out)


@_loop
def multiply_heads_in_products(first: int, last: int, x: Array, weight: Array, out: Array) -> None:
    """The same in bfloat16, by AVX-512's products, with words of two inputs' weights.

    Args:
        first, last: of the heads.
        x: `[num_rows, num_heads, in_dim]`; the numbers of a head are next to each other.
        weight: `[num_heads, out_dim / 64, in_dim / 2, 64]`.
        out: `[num_rows, num_heads, out_dim]`, written.
    """
    totals = np.empty((len(x), _BLOCK), np.float32)
    for head in range(first, last):
        for block in range(weight.shape[1]):
            words = weight[head, block]
            totals[:] = 0
            _add_products(x[:, head], words.ctypes.data, words.strides[0], totals)
            for row in range(len(x)):
                outputs = out[row, head, block * _BLOCK : (block + 1) * _BLOCK]
                for i in range(_BLOCK):
                    outputs[i] = _rounded(totals[row, i], out)


@_inlined
def _widen(rows: Array, size: int, out: Array) -> int:
    """Write the first `size` numbers of rows in float32 to `out`; return how many rows they are."""
    for row in range(len(rows)):
        for i in range(size):
            out[row, i] = _read(rows[row, i])
    return len(rows)


@_loop
def see_latents_in_products(
    first: int, last: int, query: Array, keys: Array, starts: Array, lengths: Array, scale: Any, out: Array
) -> None:
    """The same as `see_latents` in bfloat16, by AVX-512's products: what all heads see is packed once for all of them.

    Keys are of a multiple of 32 numbers, values of 64.
    """
    num_heads, key_dim, rank = query.shape[1], query.shape[2], out.shape[2]
    words, pairs = np.empty((1, key_dim // 2, _BLOCK), np.uint32), np.empty((_BLOCK // 2, rank), np.uint32)
    scores, shares = np.empty((num_heads, _BLOCK), np.float32), np.empty((num_heads, _BLOCK), np.uint16)
    mix = np.empty((num_heads, rank), np.float32)
    tops, totals = np.empty(num_heads, np.float32), np.empty((num_heads, _LANES), np.float32)
    scale *= np.float32(1.4426950408889634)  # shares are powers of 2
    for sequence in range(first, last):
        past = keys[starts[sequence] : starts[sequence] + lengths[sequence]]
        tops[:], totals[:], mix[:] = -np.inf, 0, 0
        for begin in range(0, len(past), _BLOCK):
            tile = past[begin : begin + _BLOCK]
            num_vectors = (len(tile) + _LANES - 1) // _LANES
            _pack_keys(tile, words)
            pairs[len(tile) // 2 :] = 0  # what another sequence left may not be numbers
            _pack_values(tile, pairs)
            scores[:] = 0
            _add_products(query[sequence], words.ctypes.data, words.strides[1], scores)
            scores[:, len(tile) :] = -np.inf
            shares[:] = 0
            for head in range(num_heads):
                _weigh_scores(
                    scores.ctypes.data + head * scores.strides[0], num_vectors, scale,
                    shares.ctypes.data + head * shares.strides[0], tops.ctypes.data + head * tops.itemsize,
                    totals.ctypes.data + head * totals.strides[0], mix.ctypes.data + head * mix.strides[0],
                    rank // _LANES,
                )  # fmt: skip
            for block in range(0, rank, _BLOCK):
                part = pairs.ctypes.data + block * pairs.itemsize
                _add_products(shares, part, pairs.strides[0], mix[:, block : block + _BLOCK])
        for head in range(num_heads):
            factor = np.float32(1) / totals[head].sum()
            for i in range(rank):
                out[sequence, head, i] = _rounded(mix[head, i] * factor, out)


@cache
def see_latents(key_dim: int, rank: int) -> Any:
    """The loop over sequences of one row, whose heads all see the same keys; these begin with the values."""
    tile = 32  # tokens, made float32 once for all heads

    @_loop
    def loop(
        first: int, last: int, query: Array, keys: Array, starts: Array, lengths: Array, scale: Any, out: Array
    ) -> None:
        num_heads = query.shape[1]
        shares = np.empty((num_heads, lengths.max()), np.float32)
        rows, mix = np.empty((num_heads, key_dim), np.float32), np.empty((num_heads, rank), np.float32)
        widened = np.empty((tile, key_dim), np.float32)
        for sequence in range(first, last):
            num_tokens = lengths[sequence]
            past = keys[starts[sequence] : starts[sequence] + num_tokens]
            for head in range(num_heads):
                for i in range(key_dim):
                    rows[head, i] = _read(query[sequence, head, i]) * scale
            for begin in range(0, num_tokens, tile):
                num = _widen(past[begin : begin + tile], key_dim, widened)
                for head in range(num_heads):
                    for token in range(num):
                        score = np.float32(0)
                        for i in range(key_dim):
                            score += rows[head, i] * widened[token, i]
                        shares[head, begin + token] = score
            for head in range(num_heads):
                top = _highest(shares[head, :num_tokens])
                total = np.float32(0)
                for token in range(num_tokens):
                    share = _exp(shares[head, token] - top)
                    shares[head, token] = share
                    total += share
                for token in range(num_tokens):
                    shares[head, token] /= total
            mix[:] = 0
            for begin in range(0, num_tokens, tile):
                num = _widen(past[begin : begin + tile], rank, widened)
                for head in range(num_heads):
                    part, four = shares[head, begin : begin + num], num - num % 4
                    for token in range(0, four, 4):
                        a, b, c, d = part[token], part[token + 1], part[token + 2], part[token + 3]
                        for i in range(rank):
                            mix[head, i] += (
                                a * widened[token, i] + b * widened[token + 1, i]
                                + c * widened[token + 2, i] + d * widened[token + 3, i]
                            )  # fmt: skip
                    for token in range(four, num):
                        for i in range(rank):
                            mix[head, i] += part[token] * widened[token, i]
            for head in range(num_heads):
                for i in range(rank):
                    out[sequence, head, i] = _rounded(mix[head, i], out)

    return loop


@cache
def layer_of_rows(head_dim: int) -> Any:
    """The loop over what a layer of a decoder does with the rows of sequences that decode, bfloat16.

    It takes the residual stream `x [num_rows, hidden_size]` and what the last layer adds to it, and leaves there the
    same of this layer.
    """

    @_loop
    def loop(
        x: Array, change: Array, cos: Array, sin: Array, starts: Array, lengths: Array, groups: Array,
        group_of: Array, keys: Array, values: Array, scale: Any, input_norm: Array, input_eps: Any,
        qkv: tuple[Array, ...], out: tuple[Array, ...], post_norm: Array, post_eps: Any, gate_up: tuple[Array, ...],
        down: tuple[Array, ...],
    ) -> None:  # fmt: skip
        num_rows, num_kv_heads = len(x), len(keys)
        normed = np.empty_like(x)
        add_rms_norm(0, num_rows, x, change, x, input_norm, input_eps, normed)
        parts = np.empty((num_rows, len(qkv[-1]) // head_dim, head_dim), x.dtype)
        _linear(normed, qkv, parts.reshape(num_rows, -1))
        num_rotated = parts.shape[1] - num_kv_heads
        rotated = np.empty((num_rows, num_rotated, head_dim), x.dtype)
        rotate(0, num_rows, parts, cos, sin, rotated)
        query, key, value = rotated[:, :-num_kv_heads], rotated[:, -num_kv_heads:], parts[:, num_rotated:]
        seen = np.empty((num_rows, num_rotated - num_kv_heads, head_dim), x.dtype)
        num_in_groups = num_rows if len(groups) else 0
        highest, totals = np.empty((2, num_in_groups, query.shape[1]), np.float32)
        mixes = np.empty((num_in_groups, query.shape[1], head_dim), np.float32)
        see_shared(
            0, len(groups) * num_kv_heads, query, keys, values, groups, group_of, scale, highest, totals, mixes
        )  # fmt: skip
        _attend(
            0, num_rows * num_kv_heads, query, key, value, keys, values, starts, lengths, groups, group_of, scale,
            highest, totals, mixes, seen, head_dim, head_dim,
        )  # fmt: skip
        _linear(seen.reshape(num_rows, -1), out, change)
        add_rms_norm(0, num_rows, x, change, x, post_norm, post_eps, normed)
        both = np.empty((num_rows, len(gate_up[-1])), x.dtype)
        _linear(normed, gate_up, both)
        gated = np.empty((num_rows, len(gate_up[-1]) // 2), x.dtype)
        swiglu(0, num_rows, both, gated)
        _linear(gated, down, change)

    return loop
