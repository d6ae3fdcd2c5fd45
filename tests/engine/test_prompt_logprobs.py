"""Log probabilities of prompts, held against transformers' own, in float32."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import embedding, prompt_logprobs
from engine.detokenizer import TokenBytes
from engine.device import Copied
from engine.embedding import HiddenMean
from engine.errors import InvalidRequest, StepFailed
from engine.flight import Flight
from engine.prompt_logprobs import PromptLogprobs
from engine.request import Output, Prompt, TokenLogprob
from engine.response import logprobs_json, merge
from tests.checkpoints import BOS, EOS, train_tokenizer
from tests.engine.peer import StartEngine, each_architecture, load, serve_beside_texts, start_chunked
from tests.engine.recorder import Recorder, run

TOKENIZER = train_tokenizer()
PROMPT = [2 + i for i in range(100)]


def scores_of(case: Recorder) -> list[TokenLogprob]:
    """They come alone, in parts, and before all that the first choice says."""
    parts = list(takewhile(lambda output: output.prompt_logprobs, [said for said in case.outputs if said.choice == 0]))
    assert [output for output in case.outputs if output.prompt_logprobs] == parts
    assert all(output == Output(0, "", 0, prompt_logprobs=output.prompt_logprobs) for output in parts)
    return [entry for output in parts for entry in output.prompt_logprobs or ()]


def matches(case: Recorder, model: Any) -> None:
    tokens, num_top = case.request.prompt.tokens, case.request.params.prompt_logprobs
    assert num_top is not None
    with torch.inference_mode():
        expected = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    assert case.errors == []
    first, *said = scores_of(case)
    assert (first.token_id, first.logprob, first.top) == (tokens[0], None, ())
    assert [entry.token_id for entry in said] == tokens[1:]
    assert [entry.logprob for entry in said] == pytest.approx(expected[range(len(said)), tokens[1:]].tolist(), abs=1e-4)
    for entry, row in zip(said, expected, strict=False):
        assert len(entry.top) == num_top
        assert [logprob for _, logprob in entry.top] == pytest.approx(row.topk(num_top).values.tolist(), abs=1e-4)
        assert [logprob for _, logprob in entry.top] == pytest.approx([float(row[i]) for i, _ in entry.top], abs=1e-4)


@each_architecture
def test_they_equal_transformers(
    start_engine: StartEngine, checkpoints: dict[str, Path], architecture: str, on_gpu: bool
) -> None:
    """In chunks, alone or beside others that are scored and that generate."""
    engine, prompts = start_chunked(start_engine, architecture, on_gpu)
    model = load(checkpoints, architecture)
    scored = [
        Recorder(prompt, prompt_logprobs=num_top, max_tokens=max_tokens, ignore_eos=True)
        for prompt in prompts
        for num_top, max_tokens in ((0, 0), (3, 1))
    ]
    serve_beside_texts(engine, prompts, scored)
    for case in scored:
        matches(case, model)
        assert (case.finish_reasons, case.num_tokens()) == ({0: "length"}, case.request.params.max_tokens)


def test_what_is_cached_of_a_prompt_is_computed_all_the_same(
    start_engine: StartEngine, checkpoints: dict[str, Path]
) -> None:
    engine, model = start_engine(), load(checkpoints)
    for num_cached in (0, 96):
        assert run(engine, PROMPT, max_tokens=1).request.num_cached_tokens == num_cached
        case = run(engine, PROMPT, prompt_logprobs=1, max_tokens=0)
        matches(case, model)
        assert case.request.num_cached_tokens == 0
    other = PROMPT[::-1]
    matches(run(engine, other, prompt_logprobs=1, max_tokens=0), model)
    assert run(engine, other, max_tokens=1).request.num_cached_tokens == 96


def test_no_step_holds_the_logits_of_a_whole_prompt(
    start_engine: StartEngine, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine(max_step_tokens=250)
    logits, nums_rows = engine._make_sequences._logits, list[int]()

    def watch(hidden: torch.Tensor) -> torch.Tensor:
        nums_rows.append(len(hidden))
        return logits(hidden)

    monkeypatch.setattr(engine._make_sequences, "_logits", watch)
    matches(run(engine, PROMPT * 2, prompt_logprobs=2, max_tokens=0), load(checkpoints))
    assert nums_rows == [64, 64, 64, 7]


@pytest.mark.parametrize("prefix_cache", [False, True])
def test_choices_have_one_prompt(start_engine: StartEngine, checkpoints: dict[str, Path], prefix_cache: bool) -> None:
    engine = start_engine(prefix_cache=prefix_cache, max_step_tokens=64)
    params = {"n": 3, "seed": 1, "max_tokens": 10}
    plain = run(engine, PROMPT, **params)
    case = run(engine, PROMPT, prompt_logprobs=1, **params)
    matches(case, load(checkpoints))
    assert [case.text(choice) for choice in range(3)] == [plain.text(choice) for choice in range(3)]
    unanswered = run(engine, PROMPT, prompt_logprobs=1, n=2, max_tokens=0)
    assert unanswered.finish_reasons == {0: "length", 1: "length"}


def test_a_generated_token_has_the_same_where_it_is_a_prompt_s(start_engine: StartEngine) -> None:
    engine = start_engine()
    params = {"temperature": 2.0, "seed": 3, "logit_bias": {"7": 5}, "repetition_penalty": 1.5, "ignore_eos": True}
    said = [output.logprob for output in run(engine, PROMPT, logprobs=2, max_tokens=20, **params).outputs]
    tokens = [logprob.token_id for logprob in said if logprob]
    scored = run(engine, PROMPT + tokens, prompt_logprobs=2, max_tokens=0, **params)
    for entry, expected in zip(scores_of(scored)[-20:], said, strict=True):
        assert expected is not None
        assert (entry.token_id, entry.logprob) == (expected.token_id, pytest.approx(expected.logprob, abs=1e-4))
        assert [token for token, _ in entry.top] == [token for token, _ in expected.top]


@pytest.mark.parametrize("is_ahead", [False, True])
def test_nothing_may_follow_a_prompt(start_engine: StartEngine, is_ahead: bool) -> None:
    engine = start_engine(max_step_tokens=32)
    engine._runs_ahead = is_ahead
    neighbour = Recorder(PROMPT[:20], temperature=0, max_tokens=50, ignore_eos=True)
    engine.submit(neighbour.request)
    for prompt, num_cached in (([5], 0), (PROMPT, 16), (PROMPT, 96)):
        case = run(engine, prompt, max_tokens=0)
        assert [*case.outputs] == [Output(0, "", 0, finish_reason="length")]
        assert case.request.num_cached_tokens == num_cached
    assert neighbour.wait().num_tokens() == 50


def test_a_prompt_may_fill_the_context(start_engine: StartEngine, checkpoints: dict[str, Path]) -> None:
    """Where nothing follows it."""
    engine = start_engine(max_context=64)
    prompt = PROMPT[:64]
    matches(run(engine, prompt, prompt_logprobs=1, max_tokens=0), load(checkpoints))
    assert run(engine, Prompt(prompt, is_embedded=True)).finish_reasons == {0: "stop"}
    for max_tokens in (None, 1):
        with pytest.raises(InvalidRequest, match=r"^max_tokens: .* the context of 64; shorten it"):
            engine.check(Recorder(prompt, max_tokens=max_tokens).request)


def test_the_token_that_ends_an_answer_has_one_too(start_engine: StartEngine) -> None:
    engine, end = start_engine(), TOKENIZER.convert_tokens_to_ids(EOS)
    params = {"logit_bias": {str(end): 100}, "temperature": 0, "max_tokens": 1, "logprobs": 0}
    for asked in ({}, {"prompt_logprobs": 0}):
        last = run(engine, PROMPT, **params, **asked).outputs[-1]
        assert last.finish_reason == "stop"
        assert last.logprob and (last.logprob.token_id, last.logprob.is_end) == (end, True)
        [piece] = merge([last]).values()
        assert (piece.logprobs, piece.text_logprobs) == ([last.logprob], [])


def test_what_cannot_be_read_fails_its_request_alone(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine()
    expected = run(engine, PROMPT, temperature=0, max_tokens=4).text()

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("engine.prompt_logprobs.PromptLogprobs.read", broken)
    cases = [
        Recorder(PROMPT, prompt_logprobs=1, max_tokens=0),
        Recorder(PROMPT, prompt_logprobs=1, n=2, max_tokens=4),
        Recorder(PROMPT, temperature=0, max_tokens=4),
    ]
    for case in cases:
        engine.submit(case.request)
    assert [[type(error) for error in case.wait().errors] for case in cases] == [[StepFailed], [StepFailed], []]
    assert cases[-1].text() == expected


def test_a_chunk_that_cannot_be_read_fails_its_request(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows would be told without it."""
    wait, failures = Flight.wait, [RuntimeError()]

    def fail_once(flight: Flight) -> None:
        if failures:
            raise failures.pop()
        wait(flight)

    engine = start_engine(max_step_tokens=48)
    monkeypatch.setattr(Flight, "wait", fail_once)
    case = Recorder(PROMPT, prompt_logprobs=1, max_tokens=1)
    engine.submit(case.request)
    assert [type(error) for error in case.wait().errors] == [StepFailed]


def test_they_come_in_parts_as_they_are_computed(
    start_engine: StartEngine, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_logprobs, "_MAX_ENTRIES", 60)
    engine = start_engine(max_step_tokens=48)
    for is_ahead in (False, True):
        engine._runs_ahead = is_ahead
        case = run(engine, PROMPT, prompt_logprobs=2, max_tokens=3)
        matches(case, load(checkpoints))
        assert [len(output.prompt_logprobs or ()) for output in case.outputs][:6] == [20, 20, 9, 20, 20, 8]


def test_a_chunk_is_copied_when_it_is_added_and_read_behind_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the copy of a later one is behind the step that was just launched."""
    copies: list[Copied] = []
    waited: list[int] = []

    class Watched(Copied):
        def __init__(self, *tensors: torch.Tensor) -> None:
            super().__init__(*tensors)
            copies.append(self)

        def read(self) -> tuple[torch.Tensor, ...]:
            waited.append(copies.index(self))
            return super().read()

    for module in (prompt_logprobs, embedding):
        monkeypatch.setattr(module, "Copied", Watched)
    scores, mean = PromptLogprobs([*range(10)], 1, lambda hidden: hidden), HiddenMean()
    for start, end in ((0, 4), (4, 9)):
        scores.add(torch.randn(end - start, 10))
    assert (len(copies), waited) == (2, [])
    for num_tokens, expected in ((5, [0]), (5, [0, 1])):
        assert sum(map(len, scores.read())) == num_tokens
        assert waited == expected
    assert scores.is_read
    mean.add(torch.randn(4, 10))
    assert len(copies) == 3
    mean.read()
    assert waited == [0, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_they_are_read_while_the_next_step_runs() -> None:
    hidden = torch.randn(9, 10, device="cuda")
    scores, mean = PromptLogprobs([*range(10)], 1, lambda hidden: hidden), HiddenMean()
    scores.add(hidden)
    mean.add(hidden)
    torch.cuda._sleep(2_000_000_000)
    step = torch.cuda.current_stream().record_event()
    assert len([entry for part in scores.read() for entry in part]) == 10
    assert mean.read().shape == (10,)
    assert not step.query()


def test_how_they_are_spelled() -> None:
    logprobs = [
        TokenLogprob(0, None, ()),
        TokenLogprob(TOKENIZER.encode("a")[0], -0.5, ((0, -float("inf")),)),
    ]
    assert merge([Output(0, "", 0, prompt_logprobs=logprobs)])[0].prompt_logprobs == logprobs
    first, second = json.loads(logprobs_json(logprobs, TokenBytes(TOKENIZER.backend_tokenizer)))
    assert (first["token"], first["logprob"], first["top"]) == (BOS, None, [])
    assert (second["token"], second["bytes"], second["logprob"]) == ("a", [97], -0.5)
    assert [(top["token"], top["logprob"]) for top in second["top"]] == [(BOS, -9999.0)]
