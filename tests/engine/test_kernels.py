"""The compiled loops compute what torch's operations do, in both types and on several threads."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from engine import kernels, loops
from engine.linear import Linear
from engine.loop import Engine
from engine.request import Output
from engine.sampler import unpacked
from tests.engine.recorder import Recorder

LOOPS: tuple[Any, ...] = (
    loops.rms_norm, loops.add_rms_norm, loops.swiglu, loops.rotate, loops.linear_rows, loops.see_tile,
    loops.multiply_heads, loops.see_shared, loops.choose, loops.to_int8, loops.linear_rows_int8, loops.see,
    loops.experts_of_rows, loops.see_latents_in_products, loops.multiply_heads_in_products,
)  # fmt: skip
DTYPES = (torch.float32, torch.bfloat16)
only_with_tiles = pytest.mark.skipif(not loops.HAS_TILES, reason="no AMX")
ALONE = np.empty((0, 2), np.int64), np.empty(0, np.int64)
"""Sequences that have nothing in common."""


@pytest.fixture(params=[1, 3], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """To rounding: 2⁻⁸ of a bfloat16, and some units of a float32."""
    close = {torch.float32: (1e-5, 1e-6), torch.bfloat16: (2**-7, 1e-6)}
    rtol, atol = close[actual.dtype]
    torch.testing.assert_close(actual.float(), expected.float(), rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 5, 64])
def test_norms(dtype: torch.dtype, num_rows: int) -> None:
    x, change = (torch.randn(num_rows, 1100).to(dtype) for _ in range(2))
    weight = torch.randn(1100).to(dtype)

    def normed(x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (1100,), weight.float(), 1e-6)

    assert_close(kernels.rms_norm(x, weight, 1e-6), normed(x))
    total, out = kernels.add_rms_norm(x, change, weight, 1e-6)
    assert torch.equal(total, x + change)
    assert_close(out, normed(total))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 40])
def test_gates(dtype: torch.dtype, num_rows: int) -> None:
    gate_up = 4 * torch.randn(num_rows, 2 * 1000)
    gate_up[0, :8] = torch.tensor([0.0, -0.0, 1e-30, -90.0, 90.0, -1e4, 1e4, -1e-3])
    gate_up = gate_up.to(dtype)
    gate, up = gate_up.double().chunk(2, dim=-1)
    assert_close(kernels.swiglu(gate_up), F.silu(gate) * up)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 70])
def test_rotations(dtype: torch.dtype, num_rows: int) -> None:
    x = torch.randn(num_rows, 12, 64).to(dtype)
    angles = torch.randn(num_rows, 1, 32)
    cos, sin = (torch.cat((part, part), dim=-1).to(dtype) for part in (angles.cos(), angles.sin()))
    sin[..., :32] *= -1
    pairs = torch.complex(*(part.double() for part in x[:, :9].chunk(2, dim=-1)))
    turn = torch.complex(cos[..., 32:].double(), sin[..., 32:].double())
    turned = pairs * turn
    actual = kernels.rotate(x, 9, cos, sin)
    # A sum of two products: what cancels leaves the rounding of the larger.
    error = (actual.double() - torch.cat((turned.real, turned.imag), dim=-1)).abs().max()
    assert error < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_heads", "num_query_heads", "dim", "value_dim"),
    [(3, 3, 64, 64), (2, 8, 64, 64), (2, 4, 24, 24), (1, 5, 128, 128), (2, 2, 96, 64)],
)
def test_attention(dtype: torch.dtype, num_heads: int, num_query_heads: int, dim: int, value_dim: int) -> None:
    lengths = np.array([1, 2, 3, 4, 77, 600])
    starts = np.array([640, 8, 16, 32, 64, 1000])
    keys, values = (torch.randn(num_heads, 1700, size).to(dtype) for size in (dim, value_dim))
    query = torch.randn(len(lengths), num_query_heads + 1, dim).to(dtype)[:, :num_query_heads]  # part of a wider tensor
    key, value = (torch.randn(len(lengths), num_heads, size).to(dtype) for size in (dim, value_dim))
    before = keys.clone(), values.clone()
    actual = kernels.attend(query, key, value, keys, values, starts, lengths, *ALONE, 0.3)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        for cached, new in ((before[0], key), (before[1], value)):
            cached[:, start + length - 1] = new[row]
        past_keys, past_values = (cached[:, start : start + length].float() for cached in before)
        grouped = query[row].float().view(num_heads, -1, dim)
        expected = (grouped @ past_keys.mT * 0.3).softmax(-1) @ past_values
        torch.testing.assert_close(
            actual[row].float(), expected.view(num_query_heads, value_dim), rtol=2 * torch.finfo(dtype).eps, atol=1e-5
        )
    assert torch.equal(keys, before[0])  # nothing else was written
    assert torch.equal(values, before[1])


@pytest.mark.parametrize(("num_heads", "num_query_heads", "dim", "value_dim"), [(3, 3, 64, 64), (1, 8, 96, 32)])
def test_rows_see_what_they_have_in_common_together(
    num_heads: int, num_query_heads: int, dim: int, value_dim: int
) -> None:
    """As each alone does, whose copies of it are then not looked at."""
    keys, values = (torch.randn(num_heads, 4000, size).bfloat16() for size in (dim, value_dim))
    starts, lengths = np.arange(8) * 500, np.array([65, 80, 400, 3, 209, 209, 209, 209])
    groups = np.array([[0, 64], [2000, 208]])
    group_of = np.array([0, 0, 0, -1, 1, 1, 1, 1])
    for row, group in enumerate(group_of):
        if group >= 0:
            start, num = groups[group]
            for cached in (keys, values):
                cached[:, starts[row] : starts[row] + num] = cached[:, start : start + num]
    query = torch.randn(8, num_query_heads, dim).bfloat16()
    key, value = (torch.randn(8, num_heads, size).bfloat16() for size in (dim, value_dim))
    alone = kernels.attend(query, key, value, keys, values, starts, lengths, *ALONE, 0.3)
    for row in (1, 2, 5, 6, 7):
        for cached in (keys, values):
            cached[:, starts[row] : starts[row] + groups[group_of[row], 1]] = torch.nan
    together = kernels.attend(query, key, value, keys, values, starts, lengths, groups, group_of, 0.3)
    assert torch.equal(together[3], alone[3])
    assert (together.float() - alone.float()).norm() < 0.01 * alone.float().norm()


@pytest.mark.parametrize(
    ("num_heads", "num_query_heads", "dim", "value_dim"), [(3, 3, 64, 64), (2, 8, 24, 24), (1, 5, 96, 64)]
)
@pytest.mark.parametrize(("num_rows", "num_cached"), [(1, 1), (2, 2), (7, 300), (128, 128), (300, 300), (300, 701)])
@pytest.mark.parametrize("in_tiles", [pytest.param(True, marks=only_with_tiles), False])
def test_attention_of_many_rows(
    num_heads: int, num_query_heads: int, dim: int, value_dim: int, num_rows: int, num_cached: int, in_tiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(loops, "HAS_TILES", in_tiles)
    query = torch.randn(num_rows, num_query_heads, dim).bfloat16()
    # Part of a cache, in which others' tokens are next to it: they shall not be looked at, not even times zero.
    keys, values = (torch.full((num_heads, 1000, size), torch.nan).bfloat16() for size in (dim, value_dim))
    keys, values = (cached[:, 100 : 100 + num_cached].normal_() for cached in (keys, values))
    actual = kernels.see(query, keys, values, 0.3)
    expected = F.scaled_dot_product_attention(
        query.double().transpose(0, 1)[None],
        keys.double()[None],
        values.double()[None],
        attn_mask=torch.ones(num_rows, num_cached, dtype=torch.bool).tril(num_cached - num_rows),
        scale=0.3,
        enable_gqa=True,
    )[0].transpose(0, 1)
    assert actual.shape == expected.shape
    assert (actual - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("dim", [1, 32])
def test_high_scores_after_low_ones(dim: int) -> None:
    """Of tiles that are seen one after the other, the last can make all before it count for nothing."""
    scores = F.pad(torch.arange(600.0).bfloat16().view(1, -1, 1), (0, dim - 1))
    query = F.pad(torch.tensor([1.0, -1.0]).bfloat16().view(1, 2, 1), (0, dim - 1))
    mixed = kernels.see(query, scores, scores, 1.0)
    assert mixed[..., 0].flatten().tolist() == pytest.approx([598.5, 0.58], rel=0.01)
    assert not mixed[..., 1:].any()


@pytest.mark.parametrize("dim", [24, 32])
def test_rows_that_are_not_numbers_see_none(dim: int) -> None:
    query, keys, values = (torch.randn(shape).bfloat16() for shape in ((50, 2, dim), (2, 50, dim), (2, 50, dim)))
    query[40, 1, 3] = torch.nan
    found = kernels.see(query, keys, values, 1.0).isnan().all(-1)
    assert found.nonzero().tolist() == [[40, 1]]


def blocks(weight: Tensor, block: int) -> NDArray[np.uint32]:
    """A weight as oneDNN lays it out."""
    in_words = weight.view(len(weight) // block, block, -1, 4 // weight.itemsize).transpose(1, 2).contiguous()
    return in_words.view(torch.int32)[..., 0].numpy().view(np.uint32)


@pytest.mark.parametrize("block", loops.BLOCKS)
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(64, 64), (64, 10), (192, 640), (192, 1100), (2048, 2048)])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 16])
def test_products_of_few_rows(num_rows: int, num_outputs: int, num_inputs: int, block: int) -> None:
    if num_rows > loops.MAX_ROWS:
        pytest.skip("this CPU has neither tiles nor products of bfloat16")
    if loops.HAS_TILES and num_rows > 4 and num_inputs % loops.INPUTS_UNIT:
        pytest.skip("tiles are whole")
    weight, x = torch.randn(num_outputs, num_inputs).bfloat16(), torch.randn(num_rows, num_inputs).bfloat16()
    bias = torch.randn(num_outputs).bfloat16()
    out = kernels.linear_rows(x, blocks(weight, block), kernels.array(bias))
    expected = F.linear(x.double(), weight.double(), bias.double())
    assert (out - expected).norm() < 0.003 * expected.norm()


@pytest.mark.parametrize("block", loops.INT8_BLOCKS)
@pytest.mark.parametrize("num_rows", range(1, loops.MAX_INT8_ROWS + 1))
def test_products_of_few_rows_in_8_bits(num_rows: int, block: int) -> None:
    """What is in 8 bits already comes out exactly, the largest numbers too."""
    weight, x = torch.randint(-127, 128, (192, 2304)), torch.randint(-127, 128, (num_rows, 2304))
    weight[:2], x[:, 1:65] = torch.tensor([[127], [-127]]), 127
    bias, factors = torch.randn(192), torch.full((192,), 2.0**-10)
    packed = blocks(weight.to(torch.int8), block)
    offsets = (-loops.INT8_ZERO * weight.sum(1)).to(torch.int32)
    out = kernels.linear_rows_int8(x.float(), packed, *map(kernels.array, (factors, offsets, bias)))
    torch.testing.assert_close(out, (x @ weight.T).float() * 2.0**-10 + bias, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("width", [64, 32])
@pytest.mark.parametrize("num_rows", [1, 2, 4])
def test_products_in_vectors_which_every_cpu_has(num_rows: int, width: int) -> None:
    add = loops._adder(num_rows, width)

    @njit
    def multiply(weights: Any, rows: Any, totals: Any) -> None:
        sizes = rows.strides[0], len(weights)
        add(weights.ctypes.data, weights.strides[0], rows.ctypes.data, *sizes, totals.ctypes.data, totals.strides[0])

    weight, x = torch.randn(width, 42).bfloat16(), torch.randn(num_rows, 42).bfloat16()
    totals = torch.ones(num_rows, width)
    multiply(blocks(weight, width)[0], x.float().numpy(), totals.numpy())
    assert_close(totals, F.linear(x.float(), weight.float()) + 1)


@pytest.mark.skipif(not loops.HAS_PRODUCTS, reason="no products of bfloat16")
def test_products_of_a_row_are_the_same_whatever_is_multiplied_with_it() -> None:
    weight, x = torch.randn(128, 1100).bfloat16(), torch.randn(16, 1100).bfloat16()
    packed, bias = blocks(weight, 64), kernels.array(torch.zeros(128).bfloat16())
    together = kernels.linear_rows(x, packed, bias)
    for num_rows in range(1, 16):
        assert torch.equal(kernels.linear_rows(x[:num_rows], packed, bias), together[:num_rows])


def test_products_of_no_rows() -> None:
    weight, bias = torch.randn(64, 64).bfloat16(), kernels.array(torch.zeros(64).bfloat16())
    assert kernels.linear_rows(torch.empty(0, 64).bfloat16(), blocks(weight, loops.BLOCKS[-1]), bias).shape == (0, 64)
    for layer in (Linear(weight), Linear(weight.float())):
        assert layer(torch.empty(0, 64, dtype=layer._weight.dtype)).shape == (0, 64)


def test_products_read_nothing_that_is_freed() -> None:
    """Numba frees an array after its last use, and knows nothing of addresses; freed memory is overwritten here."""
    program = """
import numpy as np
from engine import loops
block = loops.BLOCKS[-1]
ones = np.full((1, 40, block), 0x3F803F80, np.uint32)
for num_rows in range(1, loops.MAX_ROWS + 1):
    x, out = np.full((num_rows, 80), 0x3F80, np.uint16), np.zeros((num_rows, block), np.uint16)
    loops.linear_rows(0, 1, x, ones, np.zeros(block, np.uint16), out)
    multiplied = 64 if loops.HAS_TILES and num_rows > 4 else 80  # tiles are whole
    assert (out == np.float32(multiplied).view(np.uint32) >> 16).all(), (num_rows, out)
block = loops.INT8_BLOCKS[-1]
ones, scales = np.full((1, 32, block), 0x01010101, np.uint32), np.ones(block, np.float32)
for num_rows in range(1, loops.MAX_INT8_ROWS + 1):
    x, row_scales = np.full((num_rows, 128), loops.INT8_ZERO + 1, np.uint8), np.ones(num_rows, np.float32)
    offsets, out = np.full(block, -128 * loops.INT8_ZERO, np.int32), np.zeros((num_rows, block), np.float32)
    loops.linear_rows_int8(0, 1, x, row_scales, ones, scales, offsets, np.zeros(block, np.float32), out)
    assert (out == 128).all(), (num_rows, out)
"""
    environment = {**os.environ, "MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.parametrize("bias", [None, torch.randn(192).bfloat16()])
def test_what_onednn_packed_is_multiplied(bias: Tensor | None) -> None:
    weight, x = torch.randn(192, 640).bfloat16(), torch.randn(2, 640).bfloat16()
    if not kernels.onednn_multiplies(weight):
        pytest.skip("oneDNN has no bfloat16 on this CPU")
    layer = Linear(weight, bias)
    assert layer.rows is not None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert (layer(x) - expected).norm() < 0.003 * expected.norm()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 3])
def test_products_of_heads(num_rows: int, dtype: torch.dtype) -> None:
    x, weight = torch.randn(num_rows, 4, 22, dtype=dtype), torch.randn(4, 22, 40, dtype=dtype)
    expected = torch.einsum("rhi,hio->rho", x.float(), weight.float()).to(dtype)
    assert_close(kernels.multiply_heads(x, weight), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("key_dim", "rank"), [(40, 32), (96, 64), (160, 128)])
def test_latents_are_keys_and_values(key_dim: int, rank: int, dtype: torch.dtype) -> None:
    cached = torch.full((600, key_dim), torch.nan, dtype=dtype)  # others' tokens, which are not to be looked at
    starts, lengths = np.array([3, 120, 60, 200, 400]), np.array([50, 1, 33, 128, 161])
    for start, length in zip(starts, lengths, strict=True):
        cached[start : start + length].normal_()
    query = torch.randn(5, 8, key_dim, dtype=dtype)
    out = kernels.see_latents(query, cached, starts, lengths, rank, 0.2)
    for rows, start, length, seen in zip(query.float(), starts, lengths, out, strict=True):
        past = cached[start : start + length].float()
        expected = ((rows @ past.T) * 0.2).softmax(-1) @ past[:, :rank]
        torch.testing.assert_close(seen.float(), expected, rtol=2**-7, atol=1e-2 if dtype == torch.bfloat16 else 1e-5)
    cached[3:53] = torch.nan  # which does no harm to the shorter ones that follow
    again = kernels.see_latents(query, cached, starts, lengths, rank, 0.2)
    assert again[0].isnan().all()
    assert torch.equal(again[1:], out[1:])


GREEDY = (0.0, 0, 1.0, 0.0, 0.0)


def test_highest_numbers() -> None:
    x = torch.randn(9, 5000)
    x[0], x[1], x[2, -1], x[3, :2], x[4], x[5, 1024] = -torch.inf, 0, 9, 9, -x[4].abs(), torch.inf
    found = kernels.choose(x, [GREEDY] * 9).tolist()
    assert found[:4] == [0, 0, 4999, 0] and found[5] == 1024
    assert [x[row, at] for row, at in enumerate(found)] == x.amax(-1).tolist()
    x[6, 2000] = torch.nan
    assert kernels.choose(x, [GREEDY] * 9)[6] == 2000
    assert len(kernels.choose(x[:0], [])) == 0


@pytest.mark.parametrize("num_kept", [4000, 3])
def test_what_is_drawn_is_where_the_point_is(num_kept: int) -> None:
    """In a vocabulary of several parts, of which some have nothing."""
    logits = torch.full((5000,), -torch.inf)
    kept = torch.randperm(5000)[:num_kept]
    logits[kept] = torch.randn(num_kept)
    points = [0.0, *torch.rand(300, dtype=torch.float64).tolist(), 1 - 2**-53]
    tokens = kernels.choose(logits.repeat(len(points), 1), [(1.0, 5000, 1.0, 0.0, point) for point in points])
    assert set(tokens.tolist()) <= set(kept.tolist())
    ends = logits.double().softmax(-1).cumsum(-1)
    begins = torch.cat([torch.zeros(1), ends[:-1]])
    for token, point in zip(tokens.tolist(), points, strict=True):
        assert begins[token] - 1e-6 <= point <= ends[token] + 1e-6


def test_far_scores_do_not_overflow() -> None:
    keys = torch.tensor([[[3e4], [-3e4], [3e4]]])
    values = torch.tensor([[[1.0], [5.0], [0.0]]])
    one = torch.ones(1, 1, 1)
    starts, lengths = np.array([0]), np.array([3])
    out = kernels.attend(one, one * 3e4, one * 3, keys, values, starts, lengths, *ALONE, 1.0)
    assert out.item() == 2.0


def test_what_is_not_a_number_stays_so() -> None:
    x = torch.ones(2, 8)
    x[1, 3] = torch.nan
    for out in (kernels.rms_norm(x, torch.ones(8), 1e-6), kernels.swiglu(x)):
        assert torch.equal(out.isnan().any(dim=-1), torch.tensor([False, True]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_types_are_left_to_torch(dtype: torch.dtype) -> None:
    assert not kernels.takes(torch.zeros(1, dtype=dtype))


def test_one_process_compiles_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "loops.py"  # others may compile at the same time
    own.touch()
    monkeypatch.setattr(loops, "__file__", str(own))
    with own.open() as file:
        with kernels.compiling(), pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("architecture", "head_dim"), [
    ("llama", 16), ("deepseek_v2", 24), ("wide llama", 32), ("wide deepseek_v2", 32)
])  # fmt: skip
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_nothing_is_compiled_while_requests_are_served(
    start_engine: Callable[..., Engine], architecture: str, head_dim: int, dtype: str, quantization: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    at_once = []
    """Calls of loops for many operations."""
    experts_of_rows, layer_of_rows = kernels.experts_of_rows, loops.layer_of_rows
    monkeypatch.setattr(kernels, "experts_of_rows", lambda *parts: at_once.append(1) or experts_of_rows(*parts))
    monkeypatch.setattr(loops, "layer_of_rows", cache(lambda dim: at_once.append(1) or layer_of_rows(dim)))
    for make in (loops.attend, layer_of_rows, loops.see_latents):
        make.cache_clear()
    engine = start_engine(architecture, dtype=dtype, quantization=quantization, max_step_tokens=65)

    def num_compiled() -> int:
        latents = loops.see_latents(32 + 8, 32), loops.see_latents(64 + 32, 64)
        made = loops.attend(head_dim, head_dim), layer_of_rows(head_dim), *latents
        return sum(len(loop.signatures) for loop in (*made, *LOOPS))

    before = num_compiled()
    others = [Recorder(list(range(20, 20 + length)), temperature=0, max_tokens=20) for length in (63, 40, 3)]

    class First(Recorder):
        def on_output(self, output: Output) -> None:
            """The others come together, while this one decodes: the second's first part is one token, behind 64."""
            if not self.outputs:
                for other in others:
                    engine.submit(other.request)
            super().on_output(output)

    first = First([20], temperature=0, max_tokens=20)
    engine.submit(first.request)
    for case in (first, *others):
        case.wait()
    assert num_compiled() == before > 0
    if architecture.startswith("wide") and dtype == "bfloat16" and torch.get_num_threads() == 1:
        has_loops = loops.MAX_INT8_ROWS > 0 if quantization else kernels.onednn_multiplies(torch.empty(1).bfloat16())
        assert bool(at_once) == has_loops


@pytest.mark.parametrize("size", [31, 32, 100, 5000])
def test_what_has_no_bit_is_as_if_it_were_infinitely_low(size: int) -> None:
    masks = torch.randint(-(2**31), 2**31, (3, (size + 31) // 32 + 1), dtype=torch.int64).to(torch.int32)
    masks[0], masks[1] = -1, 0
    masks[1, (size - 1) // 32] = torch.tensor(1 << (size - 1) % 32).to(torch.int32)
    held = [4, 0, 2]
    for how in (GREEDY, (0.7, 10_000, 0.9, 0.0, 0.6), (0.7, 3, 1.0, 0.0, 0.6), (2.0, 10_000, 1.0, 0.01, 0.99)):
        logits = torch.randn(5, size)
        expected = logits.clone()
        for row, may_come in zip(held, unpacked(masks, size), strict=True):
            expected[row, ~may_come] = -torch.inf
        assert torch.equal(kernels.choose(logits, [how] * 5, masks, held), kernels.choose(expected, [how] * 5))


def test_where_nothing_can_come_no_ruled_out_token_does() -> None:
    logits = torch.randn(2, 40)
    logits[0, 7] = -torch.inf
    masks = torch.tensor([[1 << 7, 0], [0, 1 << 20]], dtype=torch.int32)  # the second one has a token beyond the logits
    for how in (GREEDY, (1.0, 10_000, 1.0, 0.0, 0.5)):
        assert kernels.choose(logits.clone(), [how] * 2, masks, [0, 1]).tolist() == [0, 0]


def test_what_has_no_bit_is_infinitely_low_where_the_cpu_puts_nothing_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_KNOWS_COMPRESSION", False)
    mask = np.array([5, -1, 0], np.int32)
    allowed = loops._allow.py_func(np.ones(70, np.float32), mask, np.empty(0, np.float32))
    assert [int(i) for i in np.flatnonzero(allowed > 0)] == [0, 2, *range(32, 64)]
    assert loops._token.py_func(mask, 33) == 33
