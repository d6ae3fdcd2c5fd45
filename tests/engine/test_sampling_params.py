from __future__ import annotations

import json

import pytest

from engine.errors import InvalidRequest
from engine.sampling_params import GUIDED_FIELDS, SamplingParams, parse_sampling_params

GOOD = {
    "n": 2,
    "max_tokens": 5,
    "min_tokens": 1,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 3,
    "min_p": 0.1,
    "seed": -4,
    "stop": ["a"],
    "stop_token_ids": [3],
    "ignore_eos": True,
    "presence_penalty": -1.5,
    "frequency_penalty": 2,
    "repetition_penalty": 1.2,
    "logit_bias": {"7": -100},
    "logprobs": 5,
    "prompt_logprobs": 0,
    "skip_special_tokens": False,
    "no_repeat_ngram_size": 30,
    "no_repeat_ngram_window": 90,
    "no_repeat_ngram_whitelist": ["<td>", 7],
    "max_repetition_tokens": 512,
    "thinking_token_budget": 0,
} | dict.fromkeys(GUIDED_FIELDS)


def test_every_parameter_is_read() -> None:
    params = parse_sampling_params(json.dumps(GOOD))
    assert params.model_dump() == GOOD
    assert set(GOOD) == set(SamplingParams.model_fields)


BAD = {
    "n": [0, 1.5, "2", None, True],
    "max_tokens": [-1, "5", 2.5],
    "min_tokens": [-1, "1"],
    "temperature": [-0.1, 101, "hot", True],
    "top_p": [0, 1.1, "1"],
    "top_k": [-2, 1.5, 2**31],
    "min_p": [-0.1, 1.1],
    "seed": ["x", 1.5],
    "stop": [[""], [1], 5, ["a"] * 65],
    "stop_token_ids": [[-1], ["a"], 5],
    "ignore_eos": ["yes", 1],
    "presence_penalty": [2.1, -2.1, "a"],
    "frequency_penalty": [2.1, -2.1],
    "repetition_penalty": [0, -1, 11],
    "logit_bias": [{"a": 1}, {"1": 101}, {"-1": 0}, [1], {"1": "x"}],
    "logprobs": [-1, 21, True],
    "prompt_logprobs": [-1, 21, True],
    "skip_special_tokens": [1, "yes"],
    "no_repeat_ngram_size": [-1, 129, 2.5, True],
    "no_repeat_ngram_window": [0, -1, "all"],
    "no_repeat_ngram_whitelist": ["<td>", [-1], [""], [1.5], [7] * 65, ["x" * 65]],
    "thinking_token_budget": [-2, 1.5, "9", True],
    "max_repetition_tokens": [-1, 65537, 1.5],
    "guided_json": [3, ["a"]],
    "guided_json_object": [False, "yes"],
    "guided_regex": ["", 5],
    "guided_grammar": ["", 5],
    "guided_choice": [[], "a", [1]],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in BAD for value in BAD[field]])
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_sampling_params(json.dumps({field: value}))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_every_parameter_has_bad_values() -> None:
    assert set(BAD) == set(SamplingParams.model_fields)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
        ({"guided_json": {}, "guided_json_object": True}, "guided_json_object"),
    ],
)
def test_one_form_and_nothing_against_it(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_sampling_params(json.dumps(fields))
    assert caught.value.field == field


def test_infinity_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="temperature"):
        parse_sampling_params('{"temperature": Infinity}')


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r"^beam_width: no such sampling parameter; there are n, max_tokens"):
        parse_sampling_params('{"beam_width": 3}')


def test_min_tokens_above_max_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"^min_tokens: 6 is above max_tokens, 5$"):
        parse_sampling_params('{"min_tokens": 6, "max_tokens": 5}')


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"a"', b"\xff"])
def test_what_is_no_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^sampling_parameters: "):
        parse_sampling_params(text)


def test_one_stop_string_may_stand_alone() -> None:
    assert parse_sampling_params('{"stop": "x"}').stop == ["x"]
