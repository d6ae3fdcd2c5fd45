"""A row that goes through whole layers at once comes out as it does operation by operation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from engine import kernels
from engine.attention import KVCache, Segment, StepAttention
from engine.linear import Linears
from engine.models.fused import FusedDecoder
from engine.models.row import RowLayers

SIZES = {
    "vocab_size": 128,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    if not kernels.onednn_multiplies(torch.empty(1, dtype=torch.bfloat16)):
        pytest.skip("oneDNN has no bfloat16 on this CPU")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoder(config: PretrainedConfig) -> FusedDecoder:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.inference_mode():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
        return FusedDecoder(model, 64, Linears())


def one_by_one(decoder: FusedDecoder) -> Tensor:
    """The last states of 20 tokens."""
    cache = KVCache(decoder.cache_shape, 40, torch.bfloat16, torch.device("cpu"))
    rows = []
    with torch.inference_mode():
        for position in range(20):
            at = torch.tensor([position])
            attention = StepAttention(cache, at + 8, [Segment(1, 8, position + 1)])
            rows.append(decoder.forward(decoder.embed(at + 3), at, attention))
    return torch.cat(rows)


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), Qwen2Config(**SIZES, use_sliding_window=False)])
def test_same_numbers(config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder(config)
    assert model._row_layers.take(1)
    at_once = one_by_one(model)
    monkeypatch.setattr(RowLayers, "take", lambda *_: False)
    assert torch.equal(at_once, one_by_one(model))


def test_other_layers_go_on_operation_by_operation() -> None:
    assert not decoder(Qwen3Config(**SIZES))._row_layers.take(1)  # its heads are normed
    model = decoder(LlamaConfig(**SIZES))
    assert not model._row_layers.take(2)
    torch.set_num_threads(2)
    assert not model._row_layers.take(1)
