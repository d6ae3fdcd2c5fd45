"""Thoughts end where they have had their tokens, to the token, and the answers go on as if they had ended so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from engine import sampler
from engine.chat.answer import END_OF_THOUGHT, AnswerFormat, ThoughtReader
from engine.chat.schemas import Function
from engine.chat.thought_budget import ThoughtBudget
from engine.chat.tool_syntax import DEEPSEEK
from engine.detokenizer import TokenBytes, make_detokenizer
from engine.errors import InvalidRequest
from engine.guidance import Guidance
from engine.loop import Engine
from engine.request import Prompt
from engine.runner import Ahead, Step
from engine.sampling_params import SamplingParams
from engine.scheduler import Batch
from tests.checkpoints import VOCAB_SIZE, train_tokenizer
from tests.engine.chat_templates import R1_TOKENS
from tests.engine.recorder import Recorder

StartEngine = Callable[..., Engine]
TOKENIZERS = {"llama": train_tokenizer(), "reasoner": train_tokenizer(R1_TOKENS)}
"""One that writes `</think>` in pieces, and one that has a token for it."""
ENDS = {name: tokenizer.encode(END_OF_THOUGHT, add_special_tokens=False) for name, tokenizer in TOKENIZERS.items()}
BEGUN = Prompt([5, 6, 7], answer_format=AnswerFormat("begun"), may_think=True)
THINK, NO_END = {"2": 100}, {"3": -100}
"""Biases of the second's marks."""
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
HOT = {"temperature": 1.5, "ignore_eos": True, "logprobs": 0}


def ask_all(engine: Engine, prompt: Prompt, cases: list[dict[str, Any]]) -> list[Recorder]:
    """Together."""
    recorders = [Recorder(prompt, **case) for case in cases]
    for recorder in recorders:
        engine.check(recorder.request)
        engine.submit(recorder.request)
    return [recorder.wait() for recorder in recorders]


def ask(engine: Engine, prompt: Prompt = BEGUN, **params: Any) -> Recorder:
    [recorder] = ask_all(engine, prompt, [params])
    assert recorder.errors == []
    return recorder


def tokens_of(recorder: Recorder, choice: int = 0) -> list[int]:
    return [output.logprob.token_id for output in recorder.outputs if output.choice == choice and output.logprob]


def thought_of(recorder: Recorder) -> str:
    return "".join(output.reasoning for output in recorder.outputs)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_it_ends_to_the_token(start_engine: StartEngine, name: str) -> None:
    engine, end = start_engine(name), ENDS[name]
    hot = {**HOT, "seed": 1, "max_tokens": 40, "logit_bias": NO_END}
    free = tokens_of(ask(engine, **hot))
    for budget in (0, 1, 9):
        bound = ask(engine, **hot, thinking_token_budget=budget)
        tokens = tokens_of(bound)
        assert tokens[: budget + len(end)] == free[:budget] + end
        assert len(tokens) == 40
        assert bound.request.num_reasoning_tokens == budget + len(end)
        said = (tokens[budget + len(end) :], free[:budget])
        text, thought = (TOKENIZERS[name].decode(part, skip_special_tokens=True) for part in said)
        assert (bound.text(), thought_of(bound)) == (text.lstrip("\n"), thought.strip("\n"))


@pytest.mark.parametrize("budget", [None, -1, 40, 41])
def test_one_that_is_not_met_changes_nothing(start_engine: StartEngine, budget: int | None) -> None:
    hot = {**HOT, "seed": 1, "max_tokens": 40}
    engine = start_engine("reasoner")
    assert tokens_of(ask(engine, **hot, thinking_token_budget=budget)) == tokens_of(ask(engine, **hot))


def test_a_thought_that_ends_before_is_as_it_was(start_engine: StartEngine) -> None:
    engine, [end] = start_engine("reasoner"), ENDS["reasoner"]
    hot = {**HOT, "seed": 6, "max_tokens": 40, "logit_bias": {str(end): 6}}
    free = ask(engine, **hot)
    num_tokens = free.request.num_reasoning_tokens
    assert 2 < num_tokens < 20
    for budget in (num_tokens - 1, num_tokens, 30):
        bound = ask(engine, **hot, thinking_token_budget=budget)
        assert tokens_of(bound) == tokens_of(free)
        assert bound.request.num_reasoning_tokens == num_tokens
    assert tokens_of(ask(engine, **hot, thinking_token_budget=num_tokens - 2)) != tokens_of(free)


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0},
        {"top_k": 1},
        {"top_p": 0.1, "min_p": 0.5},
        {"presence_penalty": 2.0, "repetition_penalty": 5.0},
        {"min_tokens": 20, "stop_token_ids": ENDS["reasoner"], "ignore_eos": False},
        {"skip_special_tokens": False, "stop": ["</think>\n\nNo"]},
    ],
)
def test_nothing_is_against_it(start_engine: StartEngine, params: dict[str, Any]) -> None:
    options = {**HOT, "seed": 2, "max_tokens": 20, "logit_bias": NO_END, "thinking_token_budget": 6, **params}
    tokens = tokens_of(ask(start_engine("reasoner"), **options))
    assert (tokens[6:7], len(tokens)) == (ENDS["reasoner"], 20)


def test_an_end_is_forced_that_may_not_be_repeated(start_engine: StartEngine) -> None:
    """Its last token was said before."""
    end = ENDS["llama"]
    options = {**HOT, "seed": 2, "max_tokens": 20, "logit_bias": {str(end[-1]): 100}, "no_repeat_ngram_size": 1}
    tokens = tokens_of(ask(start_engine("llama"), **options, thinking_token_budget=6))
    assert (tokens[0], tokens[6 : 6 + len(end)]) == (end[-1], end)
    others = tokens[:6] + tokens[6 + len(end) :]
    assert len(set(others)) == len(others) == 20 - len(end)


def test_the_end_of_a_thought_may_be_the_answer_s(start_engine: StartEngine) -> None:
    engine, options = start_engine("reasoner"), {**HOT, "seed": 2, "max_tokens": 20, "thinking_token_budget": 6}
    for stop in ({"stop": [END_OF_THOUGHT]}, {"stop_token_ids": ENDS["reasoner"]}):
        case = ask(engine, **options, **stop, logit_bias=NO_END)
        assert (case.num_tokens(), case.finish_reasons) == (7, {0: "stop"})


def test_its_logprobs_are_the_model_s_own(start_engine: StartEngine) -> None:
    engine, [end] = start_engine("reasoner"), ENDS["reasoner"]
    case = ask(engine, **HOT, seed=3, max_tokens=8, logit_bias=NO_END, thinking_token_budget=5)
    before = Prompt(BEGUN.tokens + tokens_of(case)[:5])
    [asked] = ask(engine, before, max_tokens=1, logprobs=0, logit_bias={str(end): 100}).outputs
    assert asked.logprob and case.outputs[5].logprob
    assert asked.logprob.token_id == case.outputs[5].logprob.token_id == end
    assert case.outputs[5].logprob.logprob == pytest.approx(asked.logprob.logprob, abs=1e-3)
    assert case.outputs[5].logprob.logprob > -100


def test_the_model_goes_on_from_it(start_engine: StartEngine) -> None:
    engine, greedy = start_engine(), {"temperature": 0, "ignore_eos": True, "logprobs": 0}
    said = tokens_of(ask(engine, **greedy, max_tokens=60, thinking_token_budget=20))
    again = ask(engine, Prompt(BEGUN.tokens + said[:40]), **greedy, max_tokens=20)
    assert again.request.num_cached_tokens == 32
    assert tokens_of(again) == said[40:]


def test_each_has_its_own(start_engine: StartEngine) -> None:
    engine = start_engine("reasoner", max_sequences=16)
    budgets = (0, 3, None, 11, 5)
    cases = [
        {**HOT, "seed": seed, "max_tokens": 30, "logit_bias": NO_END, "thinking_token_budget": budget}
        for seed, budget in enumerate(budgets)
    ]
    alone = [tokens_of(ask(engine, **case)) for case in cases]
    assert [tokens_of(case) for case in ask_all(engine, BEGUN, cases)] == alone
    for tokens, budget in zip(alone, budgets, strict=True):
        assert [i for i, token in enumerate(tokens) if [token] == ENDS["reasoner"]] == (
            [] if budget is None else [budget]
        )
    choices = ask(engine, **{**cases[1], "n": 3})
    assert len({tuple(tokens_of(choices, i)) for i in range(3)}) == 3
    assert all(tokens_of(choices, i)[3:4] == ENDS["reasoner"] for i in range(3))
    assert choices.request.num_reasoning_tokens == 3 * 4


@pytest.mark.parametrize("budget", [0, 1, 6])
def test_one_that_the_model_begins(start_engine: StartEngine, budget: int) -> None:
    """The token that begins it counts as reasoning."""
    prompt = Prompt([5, 6, 7], answer_format=AnswerFormat("possible"), may_think=True)
    case = ask(
        start_engine("reasoner"), prompt, **HOT, seed=1, max_tokens=20, logit_bias=THINK, thinking_token_budget=budget
    )
    begun = max(1, budget)
    assert tokens_of(case)[: begun + 1] == [2] * begun + [3]
    assert case.request.num_reasoning_tokens == begun + 1


def test_an_answer_without_a_thought_has_none_to_bound(start_engine: StartEngine) -> None:
    engine, hot = start_engine("reasoner"), {**HOT, "seed": 1, "max_tokens": 20}
    for answer_format in (AnswerFormat("possible"), None):
        prompt = Prompt([5, 6, 7], answer_format=answer_format, may_think=True)
        bound = ask(engine, prompt, **hot, thinking_token_budget=0)
        assert tokens_of(bound) == tokens_of(ask(engine, prompt, **hot))


@pytest.mark.parametrize("thinking", ["begun", "possible"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_follows_is_of_the_form(start_engine: StartEngine, name: str, thinking: Any) -> None:
    engine, end = start_engine(name, max_sequences=16), ENDS[name]
    prompt = Prompt([5, 6, 7], answer_format=AnswerFormat(thinking), may_think=True)
    bias = THINK if name == "reasoner" and thinking == "possible" else {}
    form = {**HOT, "guided_json": SCHEMA, "logit_bias": bias}
    cases = [
        {**form, "seed": seed, "max_tokens": max_tokens, "thinking_token_budget": budget}
        for seed in (10, 11)
        for budget in (0, 1, 9, 21)
        for max_tokens in (45, 100)
    ]
    is_cut_in_a_character = False
    for case, said in zip(cases, ask_all(engine, prompt, cases), strict=True):
        assert said.errors == []
        jsonschema.validate(json.loads(said.text()), SCHEMA)
        is_cut_in_a_character |= thought_of(said).endswith("\ufffd")
        budget = case["thinking_token_budget"]
        if thinking == "begun" and case["max_tokens"] == 100:
            assert tokens_of(said)[budget : budget + len(end)] == end
            assert said.request.num_reasoning_tokens == budget + len(end)
        else:  # that may end it before
            assert said.request.num_reasoning_tokens <= max(1, budget) + len(end)
    assert is_cut_in_a_character is (thinking == "begun" or bool(bias))


def test_what_follows_is_a_call(start_engine: StartEngine) -> None:
    function = Function(name="weather", parameters=SCHEMA)
    answer_format = AnswerFormat("begun", DEEPSEEK, (function,), must_call=True, is_parallel=False)
    prompt = Prompt([5, 6, 7], answer_format=answer_format, may_think=True)
    cases = [{**HOT, "seed": seed, "max_tokens": 120, "thinking_token_budget": 2 * seed} for seed in range(5)]
    for case, said in zip(cases, ask_all(start_engine("reasoner"), prompt, cases), strict=True):
        pieces = [call for output in said.outputs for call in output.calls]
        assert pieces[0].name == "weather"
        jsonschema.validate(json.loads("".join(piece.arguments for piece in pieces)), SCHEMA)
        assert said.request.num_reasoning_tokens <= case["thinking_token_budget"] + 1


@pytest.mark.parametrize("num_candidates", [256, 2])
def test_steps_that_run_ahead_say_the_same(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, num_candidates: int
) -> None:
    """Also where tokens are chosen anew."""
    monkeypatch.setattr(sampler, "_NUM_CANDIDATES", num_candidates)
    in_turn, ahead = (start_engine("reasoner", max_sequences=16) for _ in range(2))
    ahead._runs_ahead = True
    warm = {"temperature": 1.0, "top_p": 0.9, "ignore_eos": True, "max_tokens": 30, "logit_bias": NO_END}
    cases: list[dict[str, Any]] = [
        {**warm, "seed": seed, "thinking_token_budget": budget}
        for seed, budget in enumerate((0, 1, 2, 3, 10, 29, None))
    ]
    form = {**warm, "guided_json": SCHEMA, "max_tokens": 60, "seed": 7, "thinking_token_budget": 4}
    said = [
        [
            (thought_of(case), case.text(), case.request.num_reasoning_tokens)
            for together in (cases, [form])  # with a form in it no step runs ahead
            for case in ask_all(engine, BEGUN, together)
        ]
        for engine in (in_turn, ahead)
    ]
    assert said[0] == said[1]
    assert [num_tokens for _, _, num_tokens in said[0]] == [1, 2, 3, 4, 11, 30, 30, 5]


def test_only_the_tokens_that_end_it_are_waited_for(start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, unread = start_engine(), []
    engine._runs_ahead = True
    run_step = engine._runner.run

    def watch(batch: Batch, last: Ahead | None) -> Any:
        unread.append(len(Step.of(batch, last).unread))
        return run_step(batch, last)

    monkeypatch.setattr(engine._runner, "run", watch)
    ask(engine, temperature=0, ignore_eos=True, max_tokens=20, thinking_token_budget=5)
    num_forced = len(ENDS["llama"])
    assert unread == [0] + [1] * 5 + [0] * num_forced + [1] * (14 - num_forced)


@pytest.mark.parametrize("prompt", [Prompt([5, 6, 7]), Prompt([5, 6, 7], answer_format=AnswerFormat(None, DEEPSEEK))])
def test_it_is_refused_where_nobody_thinks(start_engine: StartEngine, prompt: Prompt) -> None:
    engine = start_engine()
    with pytest.raises(InvalidRequest, match=r"^thinking_token_budget: .* leave it out$"):
        engine.check(Recorder(prompt, thinking_token_budget=5).request)
    engine.check(Recorder(prompt, thinking_token_budget=-1).request)


def test_an_end_that_the_model_has_begun_is_gone_on_with() -> None:
    tokenizer, end = TOKENIZERS["llama"], ENDS["llama"]
    assert len(end) > 2
    backend = tokenizer.backend_tokenizer
    for begun in range(len(end)):
        thought = [*tokenizer.encode("a </b"), *end[:begun]]
        budget = ThoughtBudget(
            len(thought), end, ThoughtReader(is_inside=True), make_detokenizer(backend, TokenBytes(backend))
        )
        for token in thought:
            assert budget.forced == []
            budget.append(token)
        for i in range(begun, len(end)):
            assert budget.forced == end[i:]
            budget.append(end[i])
        for token in (*tokenizer.encode("b"), *end):
            assert budget.forced == []
            budget.append(token)


def test_the_way_to_the_end_of_a_form_is_known_where_a_character_is_cut() -> None:
    tokenizer, end = TOKENIZERS["llama"], ENDS["llama"]
    guidance = Guidance(tokenizer, VOCAB_SIZE, frozenset({1}))
    guide = guidance.guide(SamplingParams(guided_json=SCHEMA), BEGUN.answer_format)
    assert guide is not None and guide.num_shortest is not None
    guide = guide.copy()
    begun, _ = tokenizer.encode("\u00e9", add_special_tokens=False)
    assert guide.choose(begun, 1000) == begun
    guide.allow(end)
    for i, token in enumerate(end):
        assert guide.choose(token, guide.num_shortest - i) == token
    assert not guide.is_cut
