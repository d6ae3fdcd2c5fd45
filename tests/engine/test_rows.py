"""Rows that go through whole layers at once come out as they do operation by operation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from engine import kernels, linear
from engine.attention import CacheShape, KVCache, Segment, StepAttention
from engine.config import Quantization
from engine.linear import Linears
from engine.loops import MAX_INT8_ROWS, MAX_ROWS
from engine.models.fused import FusedDecoder
from engine.models.rows import RowLayers

only_with_int8 = pytest.mark.skipif(MAX_INT8_ROWS == 0, reason="this CPU has no products of 8 bits")
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


def decoder(
    config: PretrainedConfig, quantization: Quantization | None = None, dtype: torch.dtype = torch.bfloat16
) -> FusedDecoder:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.inference_mode():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
        return FusedDecoder(model, 64, Linears(quantization))


def step_by_step(decoder: FusedDecoder, num_sequences: int) -> Tensor:
    """The last states of 20 tokens of some sequences, which are not of one length."""
    cache = KVCache(decoder.cache_shape, 40 * num_sequences, torch.bfloat16, torch.device("cpu"))
    rows = []
    with torch.inference_mode():
        for step in range(20):
            positions = torch.tensor([max(0, step - i) for i in range(num_sequences)])
            starts = [8 + 40 * i for i in range(num_sequences)]
            segments = [Segment(1, start, at + 1) for start, at in zip(starts, positions.tolist(), strict=True)]
            attention = StepAttention(cache, positions + torch.tensor(starts), segments)
            rows.append(decoder.forward(decoder.embed(positions + 3), positions, attention))
    return torch.cat(rows)


def step(*num_rows: int) -> StepAttention:
    cache = KVCache(CacheShape(3, 2, 32, 32), 40, torch.bfloat16, torch.device("cpu"))
    return StepAttention(cache, torch.arange(sum(num_rows)), [Segment(num, 0, num) for num in num_rows])


@pytest.mark.parametrize(
    ("quantization", "num_sequences"),
    [
        *((None, num) for num in (1, 2, 3, MAX_ROWS)),
        *(pytest.param("int8", num, marks=only_with_int8) for num in (1, 2, 3, MAX_INT8_ROWS)),
    ],
)
@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), Qwen2Config(**SIZES, use_sliding_window=False)])
def test_same_numbers(
    config: PretrainedConfig, num_sequences: int, quantization: Quantization | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = decoder(config, quantization)
    assert model._row_layers.take(step(*[1] * num_sequences))
    at_once = step_by_step(model, num_sequences)
    monkeypatch.setattr(RowLayers, "take", lambda *_: False)
    assert torch.equal(at_once, step_by_step(model, num_sequences))


def test_rows_that_are_not_sampled_from_are_left_out() -> None:
    model, at = decoder(LlamaConfig(**SIZES)), torch.tensor([0, 0])
    with torch.inference_mode():
        both, second, none = (
            model.forward(model.embed(at + 3), at, step(1, 1), rows)
            for rows in (None, torch.tensor([1]), torch.tensor([], dtype=torch.int64))
        )
    assert torch.equal(second, both[1:]) and len(none) == 0


def test_other_layers_and_steps_go_on_operation_by_operation() -> None:
    assert not decoder(Qwen3Config(**SIZES))._row_layers.take(step(1))  # its heads are normed
    model = decoder(LlamaConfig(**SIZES))
    for num_rows in ([2], [1, 2], [1] * (MAX_ROWS + 1)):
        assert not model._row_layers.take(step(*num_rows))
    torch.set_num_threads(2)
    assert not model._row_layers.take(step(1))
    torch.set_num_threads(1)
    for precise in (decoder(LlamaConfig(**SIZES), kind, torch.float32) for kind in (None, "int8")):
        assert not precise._row_layers.take(step(1))


@pytest.mark.parametrize(("quantization", "max_rows"), [(None, 2), pytest.param("int8", 3, marks=only_with_int8)])
def test_no_more_rows_than_the_kind_of_layers_takes(
    quantization: Quantization | None, max_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "MAX_ROWS", 2)
    monkeypatch.setattr(linear, "MAX_INT8_ROWS", 3)
    model = decoder(LlamaConfig(**SIZES), quantization)
    assert model._row_layers.take(step(*[1] * max_rows))
    assert not model._row_layers.take(step(*[1] * (max_rows + 1)))
