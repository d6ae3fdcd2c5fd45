"""Answers of random weights are of the form that was asked for, whatever is asked, and however short they are cut."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from transformers import AutoTokenizer

from engine.errors import InvalidRequest
from engine.guidance import Guidance
from engine.loop import Engine
from engine.sampler import unpacked
from engine.sampling_params import SamplingParams
from tests.checkpoints import VOCAB_SIZE, train_tokenizer
from tests.engine.json_schemas import SCHEMAS
from tests.engine.recorder import Recorder, run

StartEngine = Callable[..., Engine]
PROMPT = [5, 6, 7]
HOT = {"temperature": 1.5, "max_tokens": 120}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_is_valid(start_engine: StartEngine, name: str) -> None:
    """Twenty of each schema, half of them cut short: a thousand in all."""
    engine, schema = start_engine(), SCHEMAS[name]
    cases = [
        Recorder(PROMPT, **{**HOT, "max_tokens": max_tokens}, guided_json=schema, seed=seed)
        for max_tokens in (120, 60)
        for seed in range(10)
    ]
    for case in cases:
        engine.check(case.request)
        engine.submit(case.request)
    for case in cases:
        jsonschema.validate(json.loads(case.wait().text()), schema, format_checker=jsonschema.FormatChecker())
        assert case.finish_reasons[0] in ("stop", "length")
        assert case.num_tokens() <= case.request.params.max_tokens


def test_what_has_no_end_is_brought_to_one(start_engine: StartEngine) -> None:
    engine = start_engine()
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 10}
    bias = {str(token): -100 for token in (train_tokenizer().encode("]")[0],)}
    case = run(engine, PROMPT, guided_json=schema, max_tokens=120, temperature=1.0, seed=1, logit_bias=bias)
    assert len(json.loads(case.text())) >= 10
    assert case.finish_reasons == {0: "length"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_end_is_known_behind_every_token(name: str) -> None:
    """Of the demo's vocabulary, which has long tokens."""
    tokenizer = AutoTokenizer.from_pretrained("demo/coder")
    guidance = Guidance(tokenizer, len(tokenizer), frozenset({tokenizer.eos_token_id}))
    numbers = random.Random(0)
    for _ in range(5):
        guide = guidance.guide(SamplingParams(guided_json=SCHEMAS[name]))
        assert guide is not None
        for _ in range(40):
            masks = guidance.masks([guide])
            assert masks is not None
            allowed = unpacked(masks, len(tokenizer))[0].nonzero().flatten()
            assert guide.next_token is None or guide.matcher.validate_tokens([guide.next_token]) == 1
            guide.choose(numbers.choice(allowed.tolist()), num_left=10_000)
            if guide.is_done:
                break
            assert guidance._endings.find(guide.matcher) is not None


@pytest.mark.parametrize(
    ("form", "field"), [({"guided_json": {}}, "min_tokens"), ({"guided_regex": "a"}, "no_repeat_ngram_size")]
)
def test_what_can_rule_out_a_form_is_refused(start_engine: StartEngine, form: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        start_engine().check(Recorder(PROMPT, **form, **{field: 3}).request)
    assert caught.value.field == field


def test_what_has_no_known_end_is_begun_only_where_there_is_room() -> None:
    tokenizer = train_tokenizer()
    guidance = Guidance(tokenizer, VOCAB_SIZE, frozenset({1}))
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "xq[0-9]+y"}}}
    for num_left, is_cut in ((1000, False), (100, True)):
        guide = guidance.guide(SamplingParams(guided_json=schema))
        assert guide is not None
        for token in tokenizer.encode('{"a": "b'):
            if guide.choose(token, num_left) != token:
                break
        assert guide.is_cut is is_cut


def test_what_could_not_be_brought_to_an_end_is_an_error(start_engine: StartEngine) -> None:
    """Any text before, and nothing that says which character leads on."""
    case = run(start_engine(), PROMPT, **HOT, guided_regex="(.|\\n)*xq[0-9]+y")
    assert str(case.errors[0]).startswith("max_tokens: an answer of this form did not come to its end")


@pytest.mark.parametrize(("num_prompt_tokens", "max_tokens"), [(3, 5), (250, None)])
def test_an_answer_that_cannot_be_whole_is_refused(
    start_engine: StartEngine, num_prompt_tokens: int, max_tokens: int | None
) -> None:
    params = {"max_tokens": max_tokens} if max_tokens else {}
    with pytest.raises(InvalidRequest, match="an answer of this form takes at least") as caught:
        start_engine().check(Recorder([5] * num_prompt_tokens, guided_json=SCHEMAS["nested"], **params).request)
    assert caught.value.field == "max_tokens"


def test_what_can_be_followed_no_longer_fails_alone(start_engine: StartEngine) -> None:
    engine = start_engine()
    lost, free = Recorder(PROMPT, **HOT, guided_regex="[a-z]+x"), Recorder(PROMPT, temperature=0, max_tokens=20)
    for case in (lost, free):
        engine.check(case.request)
    assert lost.request.guide is not None
    lost.request.guide._matcher.consume_token(0)  # what no answer says: the matcher is in error from now on
    for case in (lost, free):
        engine.submit(case.request)
    assert isinstance(lost.wait().errors[0], InvalidRequest)
    assert free.wait().finish_reasons == {0: "length"}


def test_neighbours_are_not_held_to_it(start_engine: StartEngine) -> None:
    engine = start_engine()
    free = {"temperature": 0, "max_tokens": 30}
    alone = run(engine, PROMPT, **free).text()
    cases = [Recorder(PROMPT, **free), Recorder(PROMPT, **HOT, guided_json_object=True), Recorder(PROMPT, **free)]
    for case in cases:
        engine.check(case.request)
        engine.submit(case.request)
    texts = [case.wait().text() for case in cases]
    assert texts[0] == texts[2] == alone
    assert isinstance(json.loads(texts[1]), dict)


def test_a_form_that_is_ready_is_as_it_was() -> None:
    tokenizer = train_tokenizer()
    guidance = Guidance(tokenizer, VOCAB_SIZE, frozenset({1}))
    for _ in range(2):
        guide = guidance.guide(SamplingParams(guided_choice=["left", "right"]))
        assert guide is not None and not guide.is_done
        for token in tokenizer.encode("left"):
            assert guide.choose(token, 100) == token
        assert guide.is_done


def test_a_form_that_is_none_takes_no_place_of_another() -> None:
    guidance = Guidance(train_tokenizer(), VOCAB_SIZE, frozenset({1}))
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="guided_regex"):
            guidance.guide(SamplingParams(guided_regex="(a"))
    assert guidance._ready.cache_info().currsize == 0


def test_every_choice_has_a_guide_of_its_own(start_engine: StartEngine) -> None:
    case = run(start_engine(), PROMPT, **HOT, n=4, seed=3, guided_json=SCHEMAS["nested"])
    texts = {case.text(choice) for choice in range(4)}
    assert len(texts) > 1
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMAS["nested"])


@pytest.mark.parametrize("form", [{"guided_regex": "[a-c]{2,4}-(x|y)+"}, {"guided_choice": ["left", "right", 'a "b"']}])
def test_expressions_and_choices(start_engine: StartEngine, form: dict[str, Any]) -> None:
    engine = start_engine()
    for seed in range(6):
        text = run(engine, PROMPT, **HOT, **form, seed=seed).text()
        if "guided_regex" in form:
            assert re.fullmatch(form["guided_regex"], text)
        else:
            assert text in form["guided_choice"]


@pytest.mark.parametrize(
    "grammar", ['start: "SELECT " name\nname: /[a-z]{1,6}/\n', 'root ::= "SELECT " name\nname ::= [a-z] [a-z]\n']
)
def test_grammars_of_both_notations(start_engine: StartEngine, grammar: str) -> None:
    assert re.fullmatch("SELECT [a-z]{1,6}", run(start_engine(), PROMPT, **HOT, guided_grammar=grammar).text())


def test_logprobs_are_of_what_is_said(start_engine: StartEngine) -> None:
    case = run(start_engine(), PROMPT, max_tokens=12, seed=1, logprobs=0, guided_json=SCHEMAS["a bounded array"])
    tokenizer = train_tokenizer()
    said = [output.logprob.token_id for output in case.outputs if output.logprob]
    assert tokenizer.decode(said) == case.text()


@pytest.mark.parametrize("architecture", ["llama", "deepseek_v2"])
def test_what_must_come_takes_no_steps_of_its_own(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    engine = start_engine(architecture)
    num_steps, compute = 0, engine._runner.run

    def count(*arguments: Any) -> Any:
        nonlocal num_steps
        num_steps += 1
        return compute(*arguments)

    monkeypatch.setattr(engine._runner, "run", count)
    said = []
    for logprobs in (0, None):  # whose log probabilities are asked for, all tokens are chosen one by one
        num_steps = 0
        form = {"guided_regex": "[a-c] what must come [a-c] comes in any case"}
        case = run(engine, PROMPT, temperature=0, max_tokens=100, logprobs=logprobs, **form)
        said.append((case.text(), case.num_tokens(), num_steps))
    (text, num_tokens, num_single), (same_text, same_num, num_together) = said
    assert (same_text, same_num) == (text, num_tokens)
    assert num_single >= num_tokens > 20
    assert num_together < 8


def test_an_answer_ends_with_its_form_even_if_no_token_ends_it(start_engine: StartEngine) -> None:
    case = run(start_engine(), PROMPT, **HOT, ignore_eos=True, guided_choice=["yes", "no"])
    assert case.text() in ("yes", "no")
    assert case.finish_reasons == {0: "stop"}


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"guided_json": {"type": "sprocket"}}, "guided_json"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": {"$ref": "#/$defs/nowhere"}}, "guided_json"),
        ({"guided_json": {"type": "object", "unevaluatedItems": False, "if": {}}}, "guided_json"),
        ({"guided_regex": "[a-"}, "guided_regex"),
        ({"guided_grammar": "start: nothing"}, "guided_grammar"),
        ({"guided_json": {"const": "x" * 70_000}}, "guided_json"),
        ({"guided_choice": ["x" * 70_000]}, "guided_choice"),
    ],
)
def test_what_cannot_be_held_to_is_refused_by_name(form: dict[str, Any], field: str) -> None:
    guidance = Guidance(train_tokenizer(), VOCAB_SIZE, frozenset({1}))
    with pytest.raises(InvalidRequest) as caught:
        guidance.guide(SamplingParams(**form))
    assert caught.value.field == field
