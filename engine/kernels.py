"""Operations on CPU tensors that torch has not, or only as several passes over memory.

A decode step has few rows, and every operation of torch costs it microseconds whatever it computes; torch's attention
is made for many rows of one sequence. The first call for each kind of tensors compiles, for up to a second.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import loops
from engine.loops import Array

_MIN_SHARE = 1 << 15
"""Numbers from which on a thread of its own pays."""


def takes(x: Tensor) -> bool:
    """Whether these loops are for a tensor."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last dimension of `[num_rows, dim]`."""
    out = torch.empty_like(x)
    _in_parts(loops.rms_norm, len(x), x.numel(), _array(x), _array(weight), np.float32(eps), _array(out))
    return out


def add_rms_norm(x: Tensor, change: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x + change`, and the norm of that sum, all `[num_rows, dim]`."""
    total, out = torch.empty_like(x), torch.empty_like(x)
    arrays = _array(x), _array(change), _array(total), _array(weight)
    _in_parts(loops.add_rms_norm, len(x), x.numel(), *arrays, np.float32(eps), _array(out))
    return total, out


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(gate) * up` of `[num_rows, 2 · size]`, where all of gate comes first: `[num_rows, size]`."""
    out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    _in_parts(loops.swiglu, len(gate_up), gate_up.numel(), _array(gate_up), _array(out))
    return out


def rotate(x: Tensor, num_heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of the first heads of `[num_tokens, heads, dim]`: `[num_tokens, num_heads, dim]`.

    `cos` and `sin` are `[num_tokens, 1, dim]`; each pair is half of `dim` apart, the sign of its turn in the sine.
    """
    out = x.new_empty(len(x), num_heads, x.shape[-1])
    _in_parts(loops.rotate, len(x), out.numel(), _array(x), _array(cos), _array(sin), _array(out))
    return out


def attend(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, starts: Array, lengths: Array, scale: float
) -> Tensor:
    """Put the last token of some sequences into the cache, and let its row see all that is cached of its own.

    Args:
        query: `[num_sequences, num_query_heads, key_dim]`, in the cache's dtype like the next two.
        key: `[num_sequences, num_heads, key_dim]`.
        value: `[num_sequences, num_heads, value_dim]`.
        keys: `[num_heads, max_tokens, key_dim]`, the cache; query heads share its heads evenly.
        values: `[num_heads, max_tokens, value_dim]`.
        starts: `[num_sequences]`, where each sequence's tokens begin in the cache.
        lengths: `[num_sequences]`, how many they are, the last included.
        scale: factor on the scores.

    Returns:
        `[num_sequences, num_query_heads, value_dim]` in the query's dtype.
    """
    out = query.new_empty(*query.shape[:2], value.shape[2])
    arrays = (_array(x) for x in (query, key, value, keys, values))
    loop, num_pairs = loops.attend(query.shape[2], value.shape[2]), key.shape[0] * key.shape[1]
    cost = int(lengths.sum()) * query.shape[1] * query.shape[2]
    _in_parts(loop, num_pairs, cost, *arrays, starts, lengths, np.float32(scale), _array(out))
    return out


def _array(x: Tensor) -> Array:
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
