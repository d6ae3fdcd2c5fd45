"""The chosen experts in one compiled call give what they do one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DeepseekV2Config

from engine import kernels
from engine.config import Quantization
from engine.linear import Linears, stack
from engine.loops import MAX_INT8_ROWS
from engine.models.feed_forward import Experts

only_with_int8 = pytest.mark.skipif(MAX_INT8_ROWS == 0, reason="no products of 8 bits")
KINDS = [
    (None, torch.bfloat16),
    pytest.param("int8", torch.bfloat16, marks=only_with_int8),
    pytest.param("int8", torch.float32, marks=only_with_int8),
]
"""Layers with loops for few rows."""


@pytest.fixture(autouse=True)
def only_with_bfloat16() -> Iterator[None]:
    if not kernels.onednn_multiplies(torch.empty(1, dtype=torch.bfloat16)):
        pytest.skip("oneDNN has no bfloat16 on this CPU")
    before = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def experts(quantization: Quantization | None, dtype: torch.dtype = torch.bfloat16) -> Experts:
    config = DeepseekV2Config(
        vocab_size=64, hidden_size=128, intermediate_size=64, moe_intermediate_size=192, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, kv_lora_rank=32, q_lora_rank=None, qk_nope_head_dim=16,
        qk_rope_head_dim=16, v_head_dim=16, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
        first_k_dense_replace=0, n_group=1, topk_group=1,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.inference_mode():
        for parameter in model.model.layers[0].mlp.parameters():
            parameter.normal_(std=0.1)
        return Experts(model.model.layers[0].mlp, Linears(quantization))


@torch.inference_mode()
def computed(layer: Experts, x: Tensor, num_threads: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, bool]:
    """What the layer makes of rows, and whether in one call."""
    calls = []
    at_once = kernels.experts_of_rows
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "experts_of_rows", lambda *arguments: calls.append(1) or at_once(*arguments))
        torch.set_num_threads(num_threads)
        return layer(x), bool(calls)


@pytest.mark.parametrize(("quantization", "dtype"), KINDS)
def test_same_numbers(quantization: Quantization | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, max_rows = experts(quantization, dtype), Linears(quantization).max_rows
    for num_rows in (1, 2, 3, max_rows, max_rows + 1):
        x = torch.randn(num_rows, 128).to(dtype)
        at_once, in_one_call = computed(layer, x, 1, monkeypatch)
        one_by_one, never = computed(layer, x, 2, monkeypatch)
        assert (in_one_call, never) == (num_rows <= max_rows, False)
        assert torch.equal(at_once, one_by_one)
        assert at_once.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_has_no_loop_goes_one_by_one(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = experts(None, dtype)
    assert not computed(layer, torch.randn(2, 128, dtype=dtype), 1, monkeypatch)[1]


def test_a_stack_is_of_layers_with_loops_alone() -> None:
    linears = Linears()
    with_loops, without = linears.make(torch.randn(64, 64).bfloat16()), linears.make(torch.randn(64, 64))
    assert with_loops.rows is not None
    assert stack([with_loops, without]) is None
    assert stack([with_loops, linears.make(torch.randn(128, 64).bfloat16())]) is None
    layers = stack([with_loops, with_loops])
    assert layers is not None and layers[0].tolist() == [with_loops.rows[0].ctypes.data] * 2
