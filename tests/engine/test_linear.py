"""Linear layers in the machine's own layouts give what plain ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig, Quantization
from engine.linear import HeadLinear, Int8Linear, Linear, Linears, _pad
from engine.loop import Engine
from engine.prompt import PromptEncoder
from tests.engine.recorder import run

DEMO = Path(__file__).parents[2] / "demo" / "coder"


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("num_rows", [1, 3, 16, 40, 130])
@pytest.mark.parametrize("size", [96, 128, 32])
@pytest.mark.parametrize(("kind", "tolerance"), [(Linear, 0.005), (Int8Linear, 0.02)])
def test_close_to_float32(kind: type[nn.Module], tolerance: float, size: int, num_rows: int) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(size, 192), torch.randn(size), torch.randn(num_rows, 192)
    layer = kind(weight.bfloat16(), bias.bfloat16())
    found = layer(x.bfloat16())
    assert len(found) == num_rows
    assert error(found, x @ weight.T + bias) < tolerance


def test_few_numbers_of_rows_reach_onednn() -> None:
    padded = [len(_pad(torch.empty(num_rows, 1))) for num_rows in range(1, 1025)]
    assert padded[:32] == list(range(1, 33))
    assert all(num_rows <= size < 1.5 * num_rows for num_rows, size in enumerate(padded, 1))
    assert len(set(padded)) <= 60


def test_rows_of_int8_do_not_depend_on_each_other() -> None:
    torch.manual_seed(0)
    layer, x = Int8Linear(torch.randn(96, 64)), torch.randn(5, 64)
    x[1] *= 1000
    x[2] = 0
    together = layer(x)
    assert torch.equal(together, torch.cat([layer(row[None]) for row in x]))
    assert torch.equal(together[2], torch.zeros(96))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_int8_takes_rows_of_other_types(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(128, 192), torch.randn(3, 192)
    found = Int8Linear(weight.to(dtype))(x.to(dtype))
    assert found.dtype == dtype
    assert error(found, x @ weight.T) < 0.02


@pytest.mark.parametrize("sizes", [(3, 64, 128), (2, 42, 64), (1, 7, 24)])
@pytest.mark.parametrize("num_rows", [0, 1, 4, 5, 16, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_each_head_has_a_matrix_of_its_own(sizes: tuple[int, int, int], num_rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    num_heads, in_dim, _ = sizes
    weight, rows = torch.randn(sizes).to(dtype), torch.randn(num_rows, num_heads, in_dim + 3).to(dtype)
    x = rows[..., 3:]  # part of wider ones, as a query without its rotated part is
    found = HeadLinear(weight)(x)
    expected = torch.einsum("rhi,hio->rho", x.double(), weight.double())
    torch.testing.assert_close(found.double(), expected, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_fused_layers_stand_side_by_side(quantization: Quantization | None) -> None:
    torch.manual_seed(0)
    parts = [nn.Linear(32, 8, bias=True), nn.Linear(32, 24, bias=False)]
    x = torch.randn(4, 32)
    with torch.inference_mode():
        fused = Linears(quantization).fuse(*parts)(x)
        assert error(fused, torch.cat([part(x) for part in parts], dim=-1)) < 0.02


def test_a_model_in_int8_writes_code_that_runs() -> None:
    config = EngineConfig(checkpoint=str(DEMO), device="cpu", cache_gib=0.1, num_threads=1, quantization="int8")
    checkpoint = load_checkpoint(config)
    engine = Engine(checkpoint, config)
    encoder = PromptEncoder(checkpoint.tokenizer, checkpoint.vocab_size, engine.max_context)
    question = '{"messages": [{"role": "user", "content": "Write a Python function to reverse a string"}]}'
    engine.start()
    answer = run(engine, encoder.encode_chat(question.encode())[0], temperature=0, max_tokens=200).text()
    engine.stop()
    _, code, _ = answer.split("```")
    names: dict[str, Any] = {}
    exec(code.removeprefix("python"), names)
    assert names["reverse_string"]("stressed") == "desserts"
