"""Steps that are launched before the last one's tokens are read say what steps in turn do; on CPU, without overlap."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from engine import sampler
from engine.errors import StepFailed
from engine.loop import Engine
from engine.runner import Ahead, Step
from engine.scheduler import Batch
from tests.checkpoints import VOCAB_SIZE
from tests.engine.recorder import Recorder, run

StartEngine = Callable[..., Engine]
PROMPT = list(range(40, 60))


@pytest.fixture
def engines(start_engine: StartEngine) -> tuple[Engine, Engine]:
    """One that steps in turn, and one that runs ahead."""
    in_turn, ahead = (start_engine(max_step_tokens=48, max_sequences=8) for _ in range(2))
    ahead._runs_ahead = True
    return in_turn, ahead


def requests(seed: int) -> list[dict[str, Any]]:
    """Of all kinds: those whose next token needs what they said, and those whose does not."""
    rng = random.Random(seed)
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0, "ignore_eos": True},
        {"seed": 1, "temperature": 1.0},
        {"seed": 2, "temperature": 1.5, "top_p": 0.9, "n": 2},
        {"seed": 3, "temperature": 0.8, "top_k": 7, "min_tokens": 10, "max_tokens": 30},
        {"seed": 4, "temperature": 1.2, "min_p": 0.01, "logit_bias": {"5": 3}},
        {"seed": 5, "presence_penalty": 1.0, "frequency_penalty": 0.5},
        {"temperature": 0, "repetition_penalty": 1.3},
        {"temperature": 0, "no_repeat_ngram_size": 3, "no_repeat_ngram_window": 20},
        {"seed": 6, "logprobs": 2},
        {"temperature": 0, "stop": ["a", "e"]},
        {"seed": 7, "stop_token_ids": list(range(100, 150))},
        {"temperature": 0, "max_repetition_tokens": 8},
    ]
    return [
        {
            "prompt": [rng.randrange(2, VOCAB_SIZE) for _ in range(rng.choice([1, 17, 33, 70, 150]))],
            "max_tokens": rng.choice([1, 2, 30, 60]),
            **rng.choice(kinds),
        }
        for _ in range(40)
    ]


def outcomes(engine: Engine, cases: list[dict[str, Any]]) -> list[object]:
    recorders = [Recorder(**case) for case in cases]
    for recorder in recorders:
        engine.submit(recorder.request)
    for recorder in recorders:
        recorder.wait()
    return [
        [
            (recorder.text(i), recorder.num_tokens(i), recorder.finish_reasons[i])
            for i in range(recorder.request.params.n)
        ]
        for recorder in recorders
    ]


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_of_request_gets_the_same_answer(engines: tuple[Engine, Engine], seed: int) -> None:
    in_turn, ahead = (outcomes(engine, requests(seed)) for engine in engines)
    assert ahead == in_turn


def test_a_token_that_is_chosen_anew_is_computed_anew(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "_NUM_CANDIDATES", 2)
    cases = [{"prompt": PROMPT, "seed": seed, "temperature": 1.0, "top_p": 0.9, "max_tokens": 40} for seed in range(6)]
    in_turn, ahead = (outcomes(engine, cases) for engine in engines)
    assert ahead == in_turn
    assert len(set(map(str, ahead))) > 1


def test_a_step_is_launched_before_the_last_one_is_read_and_none_for_nothing(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ahead = engines
    run_step, unread = ahead._runner.run, []

    def watch(batch: Batch, last: Ahead | None) -> Any:
        unread.append(len(Step.of(batch, last).unread))
        return run_step(batch, last)

    monkeypatch.setattr(ahead._runner, "run", watch)
    run(ahead, PROMPT, temperature=0, ignore_eos=True, max_tokens=10)
    assert unread == [0] + [1] * 9
    unread.clear()
    run(ahead, PROMPT, temperature=0, ignore_eos=True, max_tokens=10, presence_penalty=0.1)
    assert unread == [0] * 10


def test_a_prompt_that_others_computed_is_found(engines: tuple[Engine, Engine]) -> None:
    _, ahead = engines
    prompt = [2 + i % 200 for i in range(90)]
    first = run(ahead, prompt, temperature=0, max_tokens=50)
    # What was said is known too, but for what was computed after the end.
    second = run(ahead, [*prompt, 7], temperature=0, max_tokens=5)
    assert second.request.num_cached_tokens == 80
    assert run(ahead, prompt, temperature=0, max_tokens=50).text() == first.text()


def test_who_has_gone_is_dropped_while_a_step_runs(engines: tuple[Engine, Engine]) -> None:
    _, ahead = engines
    kept, gone = (Recorder(PROMPT, temperature=0, ignore_eos=True, max_tokens=100) for _ in range(2))
    for recorder in (kept, gone):
        ahead.submit(recorder.request)
    gone.has_output.wait(60)
    ahead.cancel(gone.request)
    assert gone.wait().finish_reasons == {0: "cancelled"}
    assert kept.wait().finish_reasons == {0: "length"}
    assert kept.num_tokens() == 100


def test_a_failing_step_fails_its_requests_alone(
    engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ahead = engines
    run_step, num_steps = ahead._runner.run, 0

    def fail_once(*arguments: Any) -> Any:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 5:
            raise RuntimeError("out of memory")
        return run_step(*arguments)

    monkeypatch.setattr(ahead._runner, "run", fail_once)
    failed = run(ahead, PROMPT, temperature=0, ignore_eos=True, max_tokens=50)
    assert [type(error) for error in failed.errors] == [StepFailed]
    assert run(ahead, PROMPT, temperature=0, ignore_eos=True, max_tokens=50).num_tokens() == 50
