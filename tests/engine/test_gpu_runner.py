"""The runner for GPUs, on CPU: nothing is recorded, and a plain loop stands for the kernel that only GPUs have."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AutoModelForCausalLM

from engine.attention import KVCache, Segment, StepAttention
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.gpu_runner import DecodeStep, GpuRunner
from engine.linear import Linears
from engine.loop import Engine
from engine.models.feed_forward import Experts, GroupedExperts
from engine.runner import Step
from tests.checkpoints import VOCAB_SIZE, configs, generate, train_tokenizer
from tests.engine.recorder import Recorder, run

StartEngine = Callable[..., Engine]
TOKENIZER = train_tokenizer()


def plain_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: Tensor,
) -> Tensor:
    """What torch's kernel says it does, one sequence after the other."""
    assert window_size == ((-1, -1) if max_q == 1 else (-1, 0))
    assert enable_gqa == (query.shape[1] != key.shape[1])
    outputs = []
    for i, num_keys in enumerate(seqused_k.tolist()):
        rows = query[cu_seq_q[i] : cu_seq_q[i + 1]].transpose(0, 1)
        start = int(cu_seq_k[i])
        keys, values = (part[start : start + num_keys].transpose(0, 1) for part in (key, value))
        keys, values = (part.repeat_interleave(len(rows) // len(part), 0) for part in (keys, values))
        assert rows.shape[1] <= max_q
        assert num_keys <= max_k
        mask = torch.ones(rows.shape[1], num_keys, dtype=torch.bool).tril(num_keys - rows.shape[1])
        scores = (rows @ keys.mT * scale).masked_fill(~mask, -torch.inf)
        outputs.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(outputs)


def on_gpu_runner(engine: Engine) -> GpuRunner:
    """Let an engine that has done nothing yet compute as on a GPU."""
    runner = engine._runner
    runner._decoder.waits = False  # as with the experts that GPUs have
    engine._runner = GpuRunner(runner._decoder, runner._cache, plain_varlen, engine.max_context)
    engine._runs_ahead = True
    return engine._runner


@pytest.mark.parametrize("architecture", list(configs()))
def test_it_says_what_generate_says(start_engine: StartEngine, checkpoints: dict[str, Path], architecture: str) -> None:
    engine = start_engine(architecture, max_step_tokens=48, max_sequences=8)
    runner = on_gpu_runner(engine)
    model = AutoModelForCausalLM.from_pretrained(checkpoints[architecture], dtype=torch.float32).eval()
    rng = random.Random(0)
    cases = []
    for _ in range(12):
        prompt = [rng.randrange(2, VOCAB_SIZE) for _ in range(rng.choice([1, 17, 70, 150]))]
        cases.append(Recorder(prompt, temperature=0, max_tokens=rng.choice([30, 50, 70])))
        engine.submit(cases[-1].request)
    for case in cases:
        prompt, max_tokens = case.request.prompt.tokens, case.request.params.max_tokens
        assert case.wait().text() == generate(model, TOKENIZER, prompt, max_tokens or 0)
    assert {4, 8} <= {num_rows for num_rows, _ in runner._steps}


def test_steps_are_recorded_before_the_first_request(start_engine: StartEngine) -> None:
    runner = on_gpu_runner(start_engine("llama", max_sequences=5))
    with torch.inference_mode():
        runner.warm_up(5)
    assert [num_rows for num_rows, _ in runner._steps] == [1, 2, 4, 8]


def test_what_cannot_be_recorded_is_computed_as_it_comes(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = run(start_engine(), list(range(30, 50)), temperature=0, max_tokens=20).text()
    waiting, full = start_engine(), start_engine()
    on_gpu_runner(waiting)._decoder.waits = True
    runner = on_gpu_runner(full)

    def no_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("engine.gpu_runner.DecodeStep", no_memory)
    for engine in (waiting, full):
        assert run(engine, list(range(30, 50)), temperature=0, max_tokens=20).text() == expected
    assert list(runner._steps.values()) == [None]
    assert caplog.text.count("no memory to record") == 1


def test_grouped_experts_are_the_experts(checkpoints: dict[str, Path]) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoints["deepseek_v2"], dtype=torch.float32)
    module = model.model.layers[-1].mlp
    x = torch.randn(7, model.config.hidden_size)
    with torch.inference_mode():
        torch.testing.assert_close(GroupedExperts(module, Linears())(x), Experts(module, Linears())(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("architecture", list(configs()))
def test_recorded_steps_compute_what_plain_ones_do(checkpoints: dict[str, Path], architecture: str) -> None:
    settings = EngineConfig(checkpoint=str(checkpoints[architecture]), dtype="bfloat16", device="cuda")
    decoder = load_checkpoint(settings).decoder
    cache = KVCache(decoder.cache_shape, 2048, torch.bfloat16, torch.device("cuda"))
    torch.manual_seed(0)
    cache.keys.normal_()
    cache.values.normal_()
    step = Step(
        tokens=[7, 8, 9], positions=[40, 3, 100], cache_positions=[40, 515, 1124],
        segments=[Segment(1, 0, 41), Segment(1, 512, 4), Segment(1, 1024, 101)], last_rows=[0, 1, 2],
    )  # fmt: skip
    with torch.inference_mode():
        recorded = DecodeStep(decoder, cache, varlen_attn, num_rows=4, max_cached=1024)
        plain = recorded.run(step).clone()
        recorded.record(None)
        torch.testing.assert_close(recorded.run(step), plain)
        attention = StepAttention(cache, torch.tensor(step.cache_positions, device="cuda"), step.segments)
        tokens, positions = (torch.tensor(part, device="cuda") for part in (step.tokens, step.positions))
        slow = decoder.logits(decoder.forward(decoder.embed(tokens), positions, attention)).float()
        torch.testing.assert_close(plain, slow, rtol=0.05, atol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("architecture", list(configs()))
def test_nothing_waits_for_the_device_but_reading(checkpoints: dict[str, Path], architecture: str) -> None:
    config = EngineConfig(checkpoint=str(checkpoints[architecture]), dtype="bfloat16", device="cuda", cache_gib=0.1)
    checkpoint = load_checkpoint(config)
    if checkpoint.decoder.waits:
        pytest.skip("this GPU waits for the sizes of groups of experts")
    engine = Engine(checkpoint, config)
    engine.start()
    kinds: list[dict[str, Any]] = [{"temperature": 0}, {"seed": 1, "top_k": 20}, {"seed": 2, "logit_bias": {"7": 2}}]
    torch.cuda.set_sync_debug_mode("error")  # a step that waits fails
    try:
        cases = [Recorder(list(range(20, 90)), max_tokens=30, ignore_eos=True, **kind) for kind in kinds]
        for case in cases:
            engine.submit(case.request)
        assert [case.wait().num_tokens() for case in cases] == [30] * len(kinds)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        engine.stop()
