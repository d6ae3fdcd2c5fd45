"""Operations on CPU tensors that torch has not, or only as several passes over memory.

A decode step has few rows, and every operation of torch costs it microseconds whatever it computes; torch's attention
is made for many rows of one sequence. The first call for each kind of tensors compiles, for up to a second.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count, pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine import loops
from engine.loops import INPUTS_UNIT, Array

_ROWS_TILE, _KEYS_TILE = 128, 256
"""Rows and keys of which `see` multiplies all with all at once."""
_MIN_SHARE = 1 << 15
"""Numbers from which on a thread of its own pays."""


def takes(x: Tensor) -> bool:
    """Whether these loops are for a tensor."""
    return x.is_cpu and x.dtype in (torch.float32, torch.bfloat16)


def onednn_multiplies(x: Tensor) -> bool:
    """Whether oneDNN has products for a tensor: of bfloat16, on a CPU with instructions for it."""
    return x.is_cpu and x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last dimension of `[num_rows, dim]`."""
    out = torch.empty_like(x)
    _in_parts(loops.rms_norm, len(x), x.numel(), array(x), array(weight), np.float32(eps), array(out))
    return out


def add_rms_norm(x: Tensor, change: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x + change`, and the norm of that sum, all `[num_rows, dim]`."""
    total, out = torch.empty_like(x), torch.empty_like(x)
    arrays = array(x), array(change), array(total), array(weight)
    _in_parts(loops.add_rms_norm, len(x), x.numel(), *arrays, np.float32(eps), array(out))
    return total, out


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of `[num_rows, 2 · size]`, where all of gate comes first: `[num_rows, size]`."""
    out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    _in_parts(loops.swiglu, len(gate_up), gate_up.numel(), array(gate_up), array(out))
    return out


def rotate(x: Tensor, num_heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of the first heads of `[num_tokens, heads, dim]`: `[num_tokens, num_heads, dim]`.

    `cos` and `sin` are `[num_tokens, 1, dim]`; each pair is half of `dim` apart, the sign of its turn in the sine.
    """
    out = x.new_empty(len(x), num_heads, x.shape[-1])
    _in_parts(loops.rotate, len(x), out.numel(), array(x), array(cos), array(sin), array(out))
    return out


def linear_rows(x: Tensor, weight: Array, bias: Array) -> Tensor:
    """`x @ weight.T + bias` for up to `MAX_ROWS` rows: `[num_rows, in_features]` to `[num_rows, out_features]`.

    All in bfloat16; `weight` is `[out_features / block, in_features / 2, block]`, two inputs' weights in each 32 bits.
    """
    out = x.new_empty(len(x), len(bias))
    _in_parts(loops.linear_rows, len(weight), weight.size * len(x), array(x), weight, bias, array(out))
    return out


def choose(
    x: Tensor,
    how: Sequence[tuple[float, int, float, float, float]],
    masks: Tensor | None = None,
    held: Sequence[int] = (),
) -> Tensor:
    """The next token of each row.

    Args:
        x: logits, `[num_rows, size]`, float32; changed in place.
        how: for each row the temperature, `top_k`, `top_p`, `min_p`, and the point of 0 to 1 that is drawn; where the
            temperature is 0, the most likely token is chosen.
        masks: `[len(held), num_words]`, int32, a bit for each token that may come.
        held: rows of which no more than those may come.

    Returns:
        `[num_rows]`, int64.
    """
    tokens, mask_of = torch.empty(len(x), dtype=torch.int64), np.full(len(x), -1)
    mask_of[list(held)] = range(len(held))
    bits = np.empty((0, 0), np.int32) if masks is None else array(masks)
    kinds = np.float32, np.int64, np.float64, np.float32, np.float64
    columns = np.array(how, np.float64).reshape(-1, len(kinds)).T
    numbers = [column.astype(kind) for column, kind in zip(columns, kinds, strict=True)]
    _in_parts(loops.choose, len(x), x.numel(), array(x), bits, mask_of, *numbers, array(tokens))
    return tokens


@contextmanager
def compiling() -> Iterator[None]:
    """Wait for other processes that compile: what one has compiled, the next one finds on disk."""
    with open(loops.__file__) as file:
        with suppress(OSError):  # not every file system has locks; then all compile
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def warm_up(keys: Tensor, values: Tensor) -> None:
    """Compile what a first step does not need, for a cache that is still empty: `[num_heads, max_tokens, dim]` each."""
    if takes(keys):
        choose(torch.zeros(1, 2), [(1.0, 1, 1.0, 0.0, 0.0)])
    if values.shape[-1] == 0 and keys.dtype == torch.bfloat16:  # latents: a prompt's keys and values are made
        for num_tokens in (1, 2):  # each lies in memory in its own way
            made = keys.new_zeros(num_tokens, 2, INPUTS_UNIT)
            see(made, made.transpose(0, 1), made.transpose(0, 1), 1.0)
    if sees_shared(keys, values):
        rows = [x.new_zeros(2, len(x) + 1, x.shape[2])[:, : len(x)] for x in (keys, values)]  # part of wider ones
        group, starts = np.array([[0, 1]]), np.zeros(2, np.int64)
        attend(rows[0], rows[0], rows[1], keys, values, starts, starts + 2, group, starts, 1.0)


def linear_rows_int8(x: Tensor, weight: Array, scales: Array, offsets: Array, bias: Array) -> Tensor:
    """`x @ (scales * weight).T + bias` for up to `MAX_INT8_ROWS` rows, each made 8 bits for it by its own scale.

    `weight` is `[out_features / block, in_features / 4, block]`, four inputs' weights in each 32 bits; the others are
    `[out_features]`: `scales` in float32, `offsets` the weights' sums times `-INT8_ZERO` in int32, `bias` in float32 or
    bfloat16.
    """
    rows, row_scales = np.empty(x.shape, np.uint8), np.empty(len(x), np.float32)
    _in_parts(loops.to_int8, len(x), x.numel(), array(x), rows, row_scales)
    out = x.new_empty(len(x), len(bias))
    arrays = rows, row_scales, weight, scales, offsets, bias, array(out)
    _in_parts(loops.linear_rows_int8, len(weight), weight.size * len(x), *arrays)
    return out


def experts_of_rows(x: Tensor, chosen: Tensor, gate_up: tuple[Array, ...], down: tuple[Array, ...]) -> Tensor:
    """What the experts that are chosen for each of a few rows make of it, on one thread.

    Args:
        x: `[num_rows, hidden_size]`, at most as many rows as the layers' loops take.
        chosen: `[num_rows, num_chosen]`, int64; a row's are all different.
        gate_up, down: `linear.stack` of the experts' layers.

    Returns:
        `[num_rows · num_chosen, hidden_size]`, row by row.
    """
    out = x.new_empty(chosen.numel(), x.shape[1])
    loops.experts_of_rows(array(x), array(chosen), gate_up, down, array(out))
    return out


def multiply_heads(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply what each head has of a few rows with a matrix of its own.

    `[num_rows, num_heads, in_dim]` and `[num_heads, in_dim, out_dim]` to `[num_rows, num_heads, out_dim]`.
    """
    out = x.new_empty(*x.shape[:2], weight.shape[2])
    _in_parts(loops.multiply_heads, len(weight), len(x) * weight.numel(), array(x), array(weight), array(out))
    return out


def multiply_heads_in_products(x: Tensor, weight: Array) -> Tensor:
    """The same for any number of rows in bfloat16, on a CPU that `HAS_PRODUCTS`.

    `weight` is `[num_heads, out_dim / 64, in_dim / 2, 64]`, two inputs' weights in each 32 bits.
    """
    num_heads, num_blocks, num_pairs, block = weight.shape
    assert x.dtype == torch.bfloat16 and x.shape[1:] == (num_heads, 2 * num_pairs) and x.stride(2) == 1
    out = x.new_empty(len(x), num_heads, num_blocks * block)
    _in_parts(loops.multiply_heads_in_products, num_heads, len(x) * weight.size, array(x), weight, array(out))
    return out


def see(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Let the last tokens of a sequence see it, each what comes before it and itself, in bfloat16.

    In AMX's tiles, else by oneDNN's products in tiles of few sizes, because it generates code for each.

    Args:
        query: `[num_rows, num_query_heads, key_dim]`.
        keys: `[num_heads, num_cached, key_dim]`, the rows' own at the end; query heads share these heads evenly.
        values: `[num_heads, num_cached, value_dim]`.
        scale: factor on the scores.

    Returns:
        `[num_rows, num_query_heads, value_dim]`.
    """
    if loops.HAS_TILES and query.shape[2] % INPUTS_UNIT == values.shape[2] % INPUTS_UNIT == 0:
        out = query.new_empty(*query.shape[:2], values.shape[2])
        arrays = array(query), array(keys), array(values), np.float32(scale), array(out)
        _in_parts(loops.see, query.shape[1], query.numel() * keys.shape[1], *arrays)
        return out
    num_rows, num_cached = len(query), keys.shape[1]
    key_tiles, value_tiles = (
        [_filled(tile) for tile in torch.split(cached, _KEYS_TILE, dim=1)] for cached in (keys, values)
    )
    outputs = []
    for first in range(0, num_rows, _ROWS_TILE):
        rows = query[first : first + _ROWS_TILE]
        end = num_cached - num_rows + first + len(rows)
        num_tiles = -(-end // _KEYS_TILE)
        outputs.append(_see_tiles(rows, key_tiles[:num_tiles], value_tiles[:num_tiles], end, scale))
    return torch.cat(outputs)


def _see_tiles(query: Tensor, keys: list[Tensor], values: list[Tensor], end: int, scale: float) -> Tensor:
    """The same for a tile of rows, of which the last sees `end` tokens."""
    num_rows, num_query_heads, _ = query.shape
    unit = next(size for size in (16, 32, 64, _ROWS_TILE) if size >= num_rows)
    rows = F.pad(query, (0, 0, 0, 0, unit - num_rows, 0)).transpose(0, 1).reshape(len(keys[0]), -1, query.shape[2])
    mix = torch.zeros(*rows.shape[:2], values[0].shape[2])
    highest, totals = np.full(mix[..., 0].numel(), -np.inf, np.float32), np.zeros(mix[..., 0].numel(), np.float32)
    for begin, key, value in zip(count(step=_KEYS_TILE), keys, values, strict=False):
        shares = torch.bmm(rows, key.mT)
        arrays = array(shares.flatten(0, 1)), begin, end, unit, np.float32(scale), highest, totals
        _in_parts(loops.see_tile, len(totals), shares.numel(), *arrays, array(mix.flatten(0, 1)))
        mix += torch.bmm(shares, value)
    mix /= torch.from_numpy(totals).view(*mix.shape[:2], 1)
    return mix.view(num_query_heads, unit, -1)[:, -num_rows:].transpose(0, 1).to(query.dtype)


def _filled(tile: Tensor) -> Tensor:
    """`[num_heads, num_tokens, dim]` with tokens of zeros up to a half or a whole tile."""
    missing = -tile.shape[1] % (_KEYS_TILE // 2)
    return F.pad(tile, (0, 0, 0, missing)) if missing else tile.contiguous()


def sees_shared(keys: Tensor, values: Tensor) -> bool:
    """Whether `attend` can let rows see a common beginning together, in a cache of `[…, dim]`."""
    return takes(keys) and keys.dtype == torch.bfloat16 and keys.shape[-1] % 32 == values.shape[-1] % 32 == 0


def attend(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, starts: Array, lengths: Array,
    groups: Array, group_of: Array, scale: float,
) -> Tensor:  # fmt: skip
    """Put the last token of some sequences into the cache, and let its row see all that is cached of its own.

    Args:
        query: `[num_sequences, num_query_heads, key_dim]`, in the cache's dtype like the next two.
        key: `[num_sequences, num_heads, key_dim]`.
        value: `[num_sequences, num_heads, value_dim]`.
        keys: `[num_heads, max_tokens, key_dim]`, the cache; query heads share its heads evenly.
        values: `[num_heads, max_tokens, value_dim]`.
        starts: `[num_sequences]`, where each sequence's tokens begin in the cache.
        lengths: `[num_sequences]`, how many they are, the last included.
        groups: `[num_groups, 2]`, beginnings that several of them have in common, which their rows see together: where
            one lies in the cache, and of how many tokens it is, a multiple of 16; none unless `sees_shared`.
        group_of: `[num_sequences]`, the group of each or -1.
        scale: factor on the scores.

    Returns:
        `[num_sequences, num_query_heads, value_dim]` in the query's dtype.
    """
    out = query.new_empty(*query.shape[:2], value.shape[2])
    loop, num_pairs = loops.attend(query.shape[2], value.shape[2]), key.shape[0] * key.shape[1]
    rows = len(query) if len(groups) else 0, query.shape[1]
    seen = np.empty(rows, np.float32), np.empty(rows, np.float32), np.empty((*rows, value.shape[2]), np.float32)
    q, cached, factor = array(query), (array(keys), array(values)), np.float32(scale)
    if len(groups):
        cost = int((groups[:, 1] * np.bincount(group_of[group_of >= 0])).sum()) * query.shape[1] * query.shape[2]
        _in_parts(loops.see_shared, len(groups) * keys.shape[0], cost, q, *cached, groups, group_of, factor, *seen)
    cost = int(lengths.sum()) * query.shape[1] * query.shape[2]
    arrays = q, array(key), array(value), *cached, starts, lengths, groups, group_of, factor, *seen, array(out)
    _in_parts(loop, num_pairs, cost, *arrays)
    return out


def sees_latents_in_products(query: Tensor, rank: int) -> bool:
    """Whether `see_latents` takes products of matrices, which are fast for long sequences too."""
    is_whole = query.shape[2] % INPUTS_UNIT == rank % loops.BLOCKS[0] == 0
    return loops.HAS_PRODUCTS and query.is_cpu and query.dtype == torch.bfloat16 and is_whole


def see_latents(query: Tensor, keys: Tensor, starts: Array, lengths: Array, rank: int, scale: float) -> Tensor:
    """Let the last token of some sequences see what is cached of its own, in keys that begin with the values.

    Args:
        query: `[num_sequences, num_heads, key_dim]`, in the cache's dtype.
        keys: `[max_tokens, key_dim]`, the cache, these tokens included; all heads see the same.
        starts: `[num_sequences]`, where each sequence's tokens begin in the cache.
        lengths: `[num_sequences]`, how many they are.
        rank: length of a value.
        scale: factor on the scores.

    Returns:
        `[num_sequences, num_heads, rank]` in the query's dtype.
    """
    out = query.new_empty(*query.shape[:2], rank)
    in_products = sees_latents_in_products(query, rank)
    loop = loops.see_latents_in_products if in_products else loops.see_latents(query.shape[2], rank)
    cost = int(lengths.sum()) * query.shape[1] * query.shape[2]
    _in_parts(loop, len(query), cost, array(query), array(keys), starts, lengths, np.float32(scale), array(out))
    return out


def array(x: Tensor) -> Array:
    """The same memory for numpy, bfloat16 as its bits."""
    x = x.detach()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _in_parts(loop: Callable[..., None], num_turns: int, cost: int, *arguments: Any) -> None:
    """Run a loop, on as many threads as torch may use and the work is worth."""
    num_threads = torch.get_num_threads()
    num_parts = min(num_threads, num_turns, cost // _MIN_SHARE)
    if num_parts <= 1:
        loop(0, num_turns, *arguments)
        return
    bounds = [num_turns * part // num_parts for part in range(num_parts + 1)]
    pool = _pool(num_threads - 1)
    others = [pool.submit(loop, first, last, *arguments) for first, last in pairwise(bounds[1:])]
    loop(0, bounds[1], *arguments)
    for other in others:
        other.result()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, "kernels")
