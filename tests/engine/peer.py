"""What is computed of whole prompts, beside transformers' own model, in float32."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.loop import Engine
from tests.checkpoints import VOCAB_SIZE, configs
from tests.engine.recorder import Recorder, run
from tests.engine.test_gpu_runner import on_gpu_runner

StartEngine = Callable[..., Engine]


def load(checkpoints: dict[str, Path], architecture: str = "llama") -> Any:
    return AutoModelForCausalLM.from_pretrained(checkpoints[architecture], dtype=torch.float32).eval()


def each_architecture(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test of an `architecture` with each of them, `on_gpu` or not."""
    test = pytest.mark.parametrize("on_gpu", [False, True], ids=["cpu", "as on a gpu"])(test)
    return pytest.mark.parametrize("architecture", list(configs()))(test)


def start_chunked(start_engine: StartEngine, architecture: str, on_gpu: bool) -> tuple[Engine, list[list[int]]]:
    """An engine with steps of 48 tokens, and prompts shorter and longer than that."""
    engine = start_engine(architecture, max_step_tokens=48, max_sequences=8)
    if on_gpu:
        on_gpu_runner(engine)
    numbers = random.Random(0)
    return engine, [[numbers.randrange(2, VOCAB_SIZE) for _ in range(length)] for length in (1, 2, 40, 150, 255)]


def serve_beside_texts(engine: Engine, prompts: list[list[int]], cases: list[Recorder]) -> None:
    """Serve cases to their ends, beside texts that come to what they come to alone."""
    greedy = {"temperature": 0, "max_tokens": 30, "ignore_eos": True}
    texts = [Recorder(prompt[:20], **greedy) for prompt in prompts]
    for recorder in [*texts[:3], *cases[:6], *texts[3:], *cases[6:]]:
        engine.submit(recorder.request)
    for case in cases:
        case.wait()
    for text in texts:
        assert text.wait().text() == run(engine, text.request.prompt.tokens, **greedy).text()
