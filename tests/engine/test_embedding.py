"""Embeddings, held against transformers' own hidden states, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import StepFailed
from engine.request import Prompt
from tests.engine.peer import StartEngine, each_architecture, load, serve_beside_texts, start_chunked
from tests.engine.recorder import Recorder, run
from tests.engine.test_gpu_runner import on_gpu_runner


def embedded(tokens: list[int]) -> Recorder:
    return Recorder(Prompt(tokens, is_embedded=True))


def expected(model: Any, tokens: list[int]) -> Any:
    """The mean of the last hidden states, normalised."""
    with torch.inference_mode():
        mean = model.get_decoder()(torch.tensor([tokens])).last_hidden_state[0].mean(0)
    return (mean / mean.norm()).numpy()


def matches(case: Recorder, model: Any) -> None:
    assert case.wait().finish_reasons == {0: "stop"}
    assert (case.text(), case.num_tokens(), case.request.num_cached_tokens) == ("", 0, 0)
    embedding = case.request.embedding
    assert embedding is not None
    assert embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected(model, case.request.prompt.tokens), atol=2e-5)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


@each_architecture
def test_it_equals_transformers_hidden_states(
    start_engine: StartEngine, checkpoints: dict[str, Path], architecture: str, on_gpu: bool
) -> None:
    """In one step or in chunks, alone or beside others that embed and that generate."""
    engine, prompts = start_chunked(start_engine, architecture, on_gpu)
    model = load(checkpoints, architecture)
    for prompt in prompts:
        alone = embedded(prompt)
        engine.submit(alone.request)
        matches(alone, model)
    among = [embedded(prompt) for prompt in prompts * 2]
    serve_beside_texts(engine, prompts, among)
    for case in among:
        matches(case, model)


def test_what_is_cached_of_a_prompt_is_computed_all_the_same(
    start_engine: StartEngine, checkpoints: dict[str, Path]
) -> None:
    engine = start_engine("llama")
    prompt = [2 + i for i in range(100)]
    assert run(engine, prompt, max_tokens=1).request.num_cached_tokens == 0
    assert run(engine, prompt, max_tokens=1).request.num_cached_tokens == 96
    case = embedded(prompt)
    engine.submit(case.request)
    matches(case, load(checkpoints, "llama"))


@pytest.mark.parametrize("on_gpu", [False, True], ids=["cpu", "as on a gpu"])
def test_a_cancelled_one_ends_and_leaves_nothing(start_engine: StartEngine, on_gpu: bool) -> None:
    engine = start_engine("llama", max_step_tokens=16)
    if on_gpu:
        on_gpu_runner(engine)
    cases = [embedded([5 + i] * 250) for i in range(6)]
    for case in cases[::2]:
        engine.cancel(case.request)
    for case in cases:
        engine.submit(case.request)
    engine.cancel(cases[1].request)
    for i, case in enumerate(cases):
        reason = case.wait().finish_reasons[0]
        assert reason in ({"cancelled"} if i % 2 == 0 else {"stop", "cancelled"} if i == 1 else {"stop"})
        assert (case.request.embedding is None) == (reason == "cancelled")


def test_a_step_that_fails_ends_it_with_an_error(
    start_engine: StartEngine, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine("llama")

    def broken(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("engine.embedding.HiddenMean.read", broken)
        case = embedded([5] * 20)
        engine.submit(case.request)
        assert isinstance(case.wait().errors[0], StepFailed)
    after = embedded([5] * 20)
    engine.submit(after.request)
    matches(after, load(checkpoints, "llama"))
