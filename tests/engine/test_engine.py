"""The engine on small random checkpoints, held against transformers' `generate`, in float32."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.errors import EngineStopped, InvalidRequest, StepFailed
from engine.loop import Engine
from tests.checkpoints import EOS, VOCAB_SIZE, configs, generate, train_tokenizer
from tests.engine.recorder import Recorder, run

StartEngine = Callable[..., Engine]
TOKENIZER = train_tokenizer()
PROMPT = TOKENIZER.encode("def configs() -> dict:")


@pytest.mark.parametrize("architecture", list(configs()))
def test_mixed_requests_with_cancels_equal_generate(
    architecture: str, start_engine: StartEngine, checkpoints: dict[str, Path]
) -> None:
    engine = start_engine(architecture, max_sequences=8, max_step_tokens=32)
    model = AutoModelForCausalLM.from_pretrained(checkpoints[architecture], dtype=torch.float32)
    numbers = random.Random(0)
    cases = []
    for _ in range(32):
        prompt = [numbers.randrange(2, VOCAB_SIZE) for _ in range(numbers.choice([1, 2, 17, 70, 150]))]
        cases.append(Recorder(prompt, temperature=0, max_tokens=numbers.choice([1, 7, 40, 80])))
    for case in cases[3::8]:
        engine.cancel(case.request)
    submitter = threading.Thread(target=lambda: [engine.submit(case.request) for case in cases])
    submitter.start()
    cases[5].has_output.wait(60)
    engine.cancel(cases[5].request)
    for i, case in enumerate(cases):
        case.wait()
        expected = generate(model, TOKENIZER, case.request.prompt.tokens, case.request.params.max_tokens or 0)
        if i % 8 == 3 or i == 5:
            assert case.finish_reasons[0] in ("cancelled", "length", "stop")
            assert expected.startswith(case.text().rstrip("\ufffd"))
        else:
            assert case.text() == expected
    submitter.join()
    assert [case.finish_reasons[0] for case in cases[3::8]] == ["cancelled"] * 4


@pytest.mark.parametrize("architecture", list(configs()))
def test_answers_with_a_shared_prompt_equal_generate(
    architecture: str, start_engine: StartEngine, checkpoints: dict[str, Path]
) -> None:
    engine = start_engine(architecture, max_step_tokens=32)
    model = AutoModelForCausalLM.from_pretrained(checkpoints[architecture], dtype=torch.float32)
    numbers = random.Random(1)
    shared = [numbers.randrange(2, VOCAB_SIZE) for _ in range(70)]
    cases = [Recorder(shared + [3 + i] * numbers.choice([1, 5, 40]), temperature=0, max_tokens=12) for i in range(8)]
    for case in cases:
        engine.submit(case.request)
    for case in cases:
        expected = generate(model, TOKENIZER, case.request.prompt.tokens, 12)
        assert case.wait().text() == expected
    assert [case.request.num_cached_tokens for case in cases] == [0] + [64] * 7
    said = TOKENIZER.encode(cases[0].text())
    turn = cases[0].request.prompt.tokens + said + [5] * 40
    case = run(engine, turn, temperature=0, max_tokens=12)
    assert case.text() == generate(model, TOKENIZER, turn, 12)
    assert case.request.num_cached_tokens >= 64


def test_without_the_prefix_cache_everything_is_computed(start_engine: StartEngine) -> None:
    engine = start_engine(prefix_cache=False)
    first, second = (run(engine, [5] * 50, temperature=0, max_tokens=4) for _ in range(2))
    assert first.text() == second.text()
    assert second.request.num_cached_tokens == 0


def test_a_seeded_request_is_the_same_alone_and_among_others(start_engine: StartEngine) -> None:
    engine = start_engine()
    params = {"seed": 7, "temperature": 0.9, "top_p": 0.9, "max_tokens": 30}
    alone = run(engine, PROMPT, **params)
    others = [Recorder([3 + i] * (5 + i), max_tokens=40) for i in range(10)]
    among = Recorder(PROMPT, **params)
    for recorder in [*others[:5], among, *others[5:]]:
        engine.submit(recorder.request)
    for recorder in [*others, among]:
        recorder.wait()
    assert among.text() == alone.text()


def test_choices_differ_and_a_seed_repeats_them(start_engine: StartEngine) -> None:
    engine = start_engine()
    first = run(engine, PROMPT, n=3, seed=1, max_tokens=12)
    again = run(engine, PROMPT, n=3, seed=1, max_tokens=12)
    assert len({first.text(choice) for choice in range(3)}) == 3
    assert [first.text(choice) for choice in range(3)] == [again.text(choice) for choice in range(3)]
    assert set(first.finish_reasons) == {0, 1, 2}


def greedy(engine: Engine, **params: object) -> Recorder:
    return run(engine, PROMPT, **{"temperature": 0, "max_tokens": 24, "ignore_eos": True, **params})


def test_stop_string_across_tokens_never_shows(start_engine: StartEngine) -> None:
    engine = start_engine()
    full = greedy(engine).text()
    stop = full[8:14]
    stopped = greedy(engine, stop=[stop])
    assert stopped.finish_reasons[0] == "stop"
    assert stopped.text() == full[: full.index(stop)]
    assert stopped.outputs[-1].stop_string == stop
    assert greedy(engine, stop=[full + "more"]).text() == full  # held back to the end, then shown


def test_stop_token_and_the_end_token(start_engine: StartEngine) -> None:
    engine = start_engine()
    ids = TOKENIZER.encode(greedy(engine).text())
    token = next(token for token in ids if engine_says(engine, token))
    stopped = greedy(engine, stop_token_ids=[token])
    assert stopped.finish_reasons[0] == "stop"
    assert stopped.num_tokens() < 24
    end = TOKENIZER.convert_tokens_to_ids(EOS)
    ended = greedy(engine, logit_bias={str(end): 100}, ignore_eos=False)
    assert (ended.text(), ended.num_tokens(), ended.finish_reasons[0]) == ("", 1, "stop")
    assert ended.outputs[-1].stop_string is None
    assert greedy(engine, logit_bias={str(end): 100}).finish_reasons[0] == "length"
    late = greedy(engine, logit_bias={str(end): 100}, ignore_eos=False, min_tokens=5)
    assert (late.num_tokens(), late.finish_reasons[0]) == (6, "stop")


def engine_says(engine: Engine, token: int) -> bool:
    return greedy(engine, stop_token_ids=[token]).finish_reasons[0] == "stop"


def test_logprobs_come_with_each_token_of_the_text(start_engine: StartEngine) -> None:
    recorder = greedy(start_engine(), logprobs=2, max_tokens=6)
    logprobs = [output.logprob for output in recorder.outputs]
    assert all(logprob and len(logprob.top) == 2 for logprob in logprobs)
    assert TOKENIZER.decode([logprob.token_id for logprob in logprobs if logprob]) == recorder.text()


def test_penalties_change_the_text(start_engine: StartEngine) -> None:
    engine = start_engine()
    texts = {greedy(engine, **p).text() for p in ({}, {"frequency_penalty": -2}, {"repetition_penalty": 10})}
    assert len(texts) == 3


def test_max_tokens_defaults_to_the_rest_of_the_context(start_engine: StartEngine) -> None:
    recorder = run(start_engine(max_context=40), PROMPT, ignore_eos=True)
    assert recorder.num_tokens() == 40 - len(PROMPT)
    assert recorder.finish_reasons[0] == "length"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"max_tokens": 1000}, "max_tokens"),
        ({"min_tokens": 1000}, "min_tokens"),
        ({"stop_token_ids": [VOCAB_SIZE]}, "stop_token_ids"),
        ({"logit_bias": {str(VOCAB_SIZE): 1}}, "logit_bias"),
        ({"n": 100}, "n"),
    ],
)
def test_what_could_never_be_served_is_refused(start_engine: StartEngine, params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        run(start_engine(), PROMPT, **params)
    assert caught.value.field == field


def test_a_full_engine_makes_the_next_wait_its_turn(start_engine: StartEngine) -> None:
    engine = start_engine(max_sequences=2)
    first = [Recorder(PROMPT, max_tokens=200, ignore_eos=True) for _ in range(2)]
    for recorder in first:
        engine.submit(recorder.request)
    third = Recorder(PROMPT, max_tokens=1)
    submitter = threading.Thread(target=engine.submit, args=(third.request,))
    submitter.start()
    third.wait()
    assert any(recorder.finish_reasons for recorder in first)
    submitter.join()
    for recorder in first:
        recorder.wait()


def test_cancel_reaches_a_request_that_waits_for_room(start_engine: StartEngine) -> None:
    engine = start_engine(max_sequences=1)
    first = Recorder(PROMPT, max_tokens=200, ignore_eos=True)
    engine.submit(first.request)
    waiting = Recorder(PROMPT, n=1)
    submitter = threading.Thread(target=engine.submit, args=(waiting.request,))
    submitter.start()
    engine.cancel(waiting.request)
    assert waiting.wait().finish_reasons == {0: "cancelled"}
    submitter.join()
    assert first.wait().finish_reasons == {0: "length"}


def test_a_failing_step_fails_its_requests_alone(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = start_engine()
    expected = greedy(engine).text()
    run_step = engine._runner.run

    def fail(*_: Any) -> Any:
        monkeypatch.setattr(engine._runner, "run", run_step)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._runner, "run", fail)
    failed = run(engine, PROMPT, n=2)
    assert [type(error) for error in failed.errors] == [StepFailed]
    assert "out of memory" not in str(failed.errors[0])
    assert "out of memory" in caplog.text
    assert greedy(engine).text() == expected


def test_stop_ends_whatever_is_unfinished(start_engine: StartEngine) -> None:
    engine = start_engine(max_sequences=2)
    recorders = [Recorder(PROMPT, ignore_eos=True) for _ in range(4)]

    def submit_all() -> None:
        for recorder in recorders:
            engine.submit(recorder.request)

    submitter = threading.Thread(target=submit_all)
    submitter.start()
    recorders[0].has_output.wait(60)
    engine.stop()
    submitter.join()
    for recorder in recorders:
        recorder.wait()
    assert all(type(error) is EngineStopped for recorder in recorders for error in recorder.errors)
    assert any(recorder.errors for recorder in recorders)
