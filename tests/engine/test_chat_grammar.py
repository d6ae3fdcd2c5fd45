"""Random weights call functions as they are told to, think before if they may, and are brought to an end in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from engine.chat.answer import END_OF_THOUGHT, AnswerFormat, AnswerParser
from engine.chat.schemas import Function
from engine.chat.tool_syntax import DEEPSEEK, DEEPSEEK_V31, HERMES
from engine.errors import InvalidRequest
from engine.guidance import Guidance
from engine.loop import Engine
from engine.request import Prompt
from engine.sampler import unpacked
from engine.sampling_params import SamplingParams
from engine.sequence_maker import SequenceMaker
from tests.checkpoints import VOCAB_SIZE, train_tokenizer
from tests.engine.recorder import Recorder, run

StartEngine = Callable[..., Engine]
HOT = {"temperature": 1.5, "max_tokens": 240}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = Function(name="weather", parameters=SCHEMA)
NOW = Function(name="now")
SYNTAXES = {"hermes": HERMES, "deepseek": DEEPSEEK, "deepseek v3.1": DEEPSEEK_V31}


def ask(engine: Engine, answer_format: AnswerFormat, **params: Any) -> Recorder:
    return run(engine, Prompt([5, 6, 7], answer_format=answer_format), **{**HOT, **params})


def calls_of(case: Recorder) -> list[tuple[str, Any]]:
    calls: list[list[str]] = []
    for output in case.outputs:
        for _, name, arguments in output.calls:
            if name is not None:
                calls.append([name, ""])
            calls[-1][1] += arguments
    return [(name, json.loads(arguments)) for name, arguments in calls]


@pytest.mark.parametrize("thinking", [None, "begun", "possible"])
@pytest.mark.parametrize("name", SYNTAXES)
def test_calls_that_must_be_made_are_made_and_valid(start_engine: StartEngine, name: str, thinking: Any) -> None:
    engine = start_engine()
    answer_format = AnswerFormat(thinking, SYNTAXES[name], (WEATHER, NOW), must_call=True)
    for seed in range(6):
        case = ask(engine, answer_format, seed=seed, max_tokens=[150, 240][seed % 2])
        calls = calls_of(case)
        assert calls
        assert case.text() == ""
        for called, arguments in calls:
            jsonschema.validate(arguments, SCHEMA if called == "weather" else {"type": "object", "maxProperties": 0})
        assert case.finish_reasons[0] in ("tool_calls", "length")


def test_one_call_where_several_are_not_wanted(start_engine: StartEngine) -> None:
    case = ask(start_engine(), AnswerFormat(None, HERMES, (NOW,), must_call=True, is_parallel=False), seed=1)
    assert calls_of(case) == [("now", {})]
    assert case.finish_reasons == {0: "tool_calls"}


def test_a_call_by_choice_is_held_to_its_schema_where_it_is_strict() -> None:
    tokenizer = train_tokenizer()
    guidance = Guidance(tokenizer, VOCAB_SIZE, frozenset({1}))
    begun = tokenizer.encode(f'{HERMES.begin}{HERMES.head_of("weather")}{{"')
    for is_strict in (True, False):
        function = WEATHER.model_copy(update={"strict": is_strict})
        guide = guidance.guide(SamplingParams(), AnswerFormat(None, HERMES, (function,)))
        assert (guide is not None) is is_strict
        if guide:
            for token in begun:
                assert guide.choose(token, 1000) == token
            valid = [guide.matcher.validate_tokens(tokenizer.encode(f'{name}"')) > 0 for name in ("city", "town")]
            assert valid == [True, False]


def test_a_thought_then_an_answer_of_a_form(start_engine: StartEngine) -> None:
    engine = start_engine()
    for seed in range(6):
        case = ask(engine, AnswerFormat("begun"), seed=seed, guided_json=SCHEMA)
        jsonschema.validate(json.loads(case.text()), SCHEMA)
        assert "".join(output.reasoning for output in case.outputs)
        assert case.request.num_reasoning_tokens > 0


def test_a_form_or_calls(start_engine: StartEngine) -> None:
    engine = start_engine()
    for seed in range(6):
        case = ask(engine, AnswerFormat(None, HERMES, (NOW,)), seed=seed, guided_json=SCHEMA)
        assert calls_of(case) or jsonschema.validate(json.loads(case.text()), SCHEMA) is None


def test_the_marks_are_single_tokens_where_the_checkpoint_has_them() -> None:
    tokenizer = train_tokenizer((DEEPSEEK.begin, DEEPSEEK.end, *DEEPSEEK.around, "<｜tool▁sep｜>", "</think>"))
    guidance = Guidance(tokenizer, VOCAB_SIZE, frozenset({1}))
    guide = guidance.guide(SamplingParams(), AnswerFormat("begun", DEEPSEEK, (NOW,), must_call=True))
    assert guide is not None
    text = "</think>\n\n" + DEEPSEEK.write([("now", "{}")])
    for token in tokenizer.encode(text):
        masks = guidance.masks([guide])
        assert masks is not None
        assert unpacked(masks, VOCAB_SIZE)[0, token], tokenizer.decode([token])
        guide.choose(token, 1000)
    parser = AnswerParser(AnswerFormat("begun", DEEPSEEK))
    assert parser.decode(text).calls[0].name == "now"


def test_a_call_that_is_none_harms_nobody(start_engine: StartEngine) -> None:
    """Names that are empty, or no JSON: text, and the neighbour in the same steps says what it says alone."""
    engine = start_engine()
    greedy = {"temperature": 0, "max_tokens": 40}
    alone = run(engine, [5, 6, 7], **greedy).text()
    answer_format = AnswerFormat(None, HERMES, (NOW,))
    for name in ("", "a\\\\_b", "\\\\ud800"):
        said = f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>'
        form = {"guided_choice": [said.replace("\\\\", "\\")], "max_tokens": 150}
        cases = [Recorder(Prompt([5, 6, 7], answer_format=answer_format), **form), Recorder([5, 6, 7], **greedy)]
        for case in cases:
            engine.check(case.request)
            engine.submit(case.request)
        assert cases[0].wait().errors == []
        assert cases[1].wait().text() == alone


def test_a_stop_inside_a_call_is_no_call_made(start_engine: StartEngine) -> None:
    answer_format = AnswerFormat(None, HERMES, (WEATHER,), must_call=True)
    case = ask(start_engine(), answer_format, seed=1, stop=['"days"'])
    assert case.finish_reasons == {0: "stop"}


def test_special_tokens_are_skipped_but_for_the_marks(start_engine: StartEngine) -> None:
    maker = start_engine()._make_sequences
    tokenizer = train_tokenizer((END_OF_THOUGHT, "<pad>"))
    maker = SequenceMaker(tokenizer.backend_tokenizer, maker._config, 256, maker._logits)
    [sequence] = maker(Recorder(Prompt([5], answer_format=AnswerFormat("begun"))).request)
    ids = [*tokenizer.encode("a<pad>b</think>c", add_special_tokens=False), tokenizer.eos_token_id]
    assert "".join(sequence.text.decode(token, True)[0] for token in ids) == "ab</think>c"


@pytest.mark.parametrize("field", ["min_tokens", "no_repeat_ngram_size"])
def test_what_can_rule_out_a_call_is_refused(start_engine: StartEngine, field: str) -> None:
    answer_format = AnswerFormat(None, HERMES, (NOW,), must_call=True)
    with pytest.raises(InvalidRequest) as caught:
        start_engine().check(Recorder(Prompt([5], answer_format=answer_format), **{field: 3}).request)
    assert caught.value.field == field


def test_neighbours_without_tools_say_what_they_say_alone(start_engine: StartEngine) -> None:
    engine = start_engine()
    greedy = {"temperature": 0, "max_tokens": 40}
    alone = run(engine, [5, 6, 7], **greedy).text()
    answer_format = AnswerFormat(None, HERMES, (WEATHER,), must_call=True)
    cases = [Recorder(Prompt([5, 6, 7], answer_format=answer_format), **HOT), Recorder([5, 6, 7], **greedy)]
    for case in cases:
        engine.check(case.request)
        engine.submit(case.request)
    assert [calls_of(case.wait()) != [] for case in cases] == [True, False]
    assert cases[1].text() == alone


def test_arguments_that_cannot_be_held_to_their_schema(start_engine: StartEngine) -> None:
    wrong = Function(name="f", parameters={"properties": {"a": {"type": "sprocket"}}})
    request = Recorder(Prompt([5], answer_format=AnswerFormat(None, HERMES, (NOW, wrong), must_call=True))).request
    with pytest.raises(InvalidRequest, match=r"^tools: f: answers can't be held to it"):
        start_engine().check(request)
