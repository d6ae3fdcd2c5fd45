"""Functions that are called and thoughts that are told, through a real Triton."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.e2e.conftest import REASONER

MODEL = "deepseek-coder"
QUESTION: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
NOW: Any = {"type": "function", "function": {"name": "now", "description": "The time."}}


def check(arguments: str) -> None:
    given = json.loads(arguments)
    assert given.keys() == {"city", "unit"}
    assert isinstance(given["city"], str)
    assert given["unit"] in ("celsius", "fahrenheit")


@pytest.mark.parametrize("model", [MODEL, REASONER])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_even_the_demo_and_random_weights_obey(client: openai.OpenAI, model: str, choice: Any) -> None:
    options = {"model": model, "messages": QUESTION, "tools": [WEATHER], "tool_choice": choice, "seed": 1}
    answer = client.chat.completions.create(**options, max_tokens=160).choices[0]
    calls = answer.message.tool_calls
    assert calls
    for call in calls:
        assert call.type == "function"
        assert call.function.name == "get_weather"
        check(call.function.arguments)
    assert not answer.message.content
    assert answer.finish_reason in ("tool_calls", "length")


@pytest.mark.parametrize("model", [MODEL, REASONER])
def test_the_stream_has_the_same_calls(client: openai.OpenAI, model: str) -> None:
    options: Any = {"model": model, "messages": QUESTION, "tools": [WEATHER, NOW], "tool_choice": "required"}
    options |= {"seed": 3, "temperature": 0, "max_tokens": 300, "parallel_tool_calls": False}
    if model == REASONER:  # it would never stop thinking
        options |= {"extra_body": {"logit_bias": {"3": 20}}}
    whole = client.chat.completions.create(**options).choices[0]
    with client.chat.completions.stream(**options) as stream:
        streamed = stream.get_final_completion().choices[0]
    said = [
        [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
        for choice in (whole, streamed)
    ]
    assert said[0] == said[1] != []
    assert whole.finish_reason == streamed.finish_reason


def test_a_call_goes_back_with_its_result(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "tools": [WEATHER], "temperature": 0, "max_tokens": 100}
    first = client.chat.completions.create(
        messages=QUESTION, tool_choice="required", parallel_tool_calls=False, **asked
    ).choices[0]
    assert first.finish_reason == "tool_calls"
    [call] = first.message.tool_calls or ()
    result: Any = {"role": "tool", "content": "18 degrees", "tool_call_id": call.id}
    last = client.chat.completions.create(messages=[*QUESTION, first.message, result], **asked)
    assert last.choices[0].message.content


def test_thoughts_are_told_apart_and_counted(client: openai.OpenAI) -> None:
    options: Any = {"model": REASONER, "messages": QUESTION, "max_tokens": 60, "seed": 2}
    options |= {"response_format": {"type": "json_object"}}
    whole = client.chat.completions.create(**options)
    message: Any = whole.choices[0].message
    assert isinstance(json.loads(message.content), dict)
    assert message.reasoning_content
    assert whole.usage
    details = whole.usage.completion_tokens_details
    assert details
    assert 0 < (details.reasoning_tokens or 0) < whole.usage.completion_tokens
    deltas: list[Any] = [chunk.choices[0].delta for chunk in client.chat.completions.create(**options, stream=True)]
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == message.reasoning_content
    assert "".join(delta.content or "" for delta in deltas) == message.content


def test_a_thought_keeps_to_its_budget_and_the_answer_to_its_form(client: openai.OpenAI) -> None:
    form: Any = {"response_format": {"type": "json_object"}, "extra_body": {"thinking_token_budget": 5}}
    whole = client.chat.completions.create(
        model=REASONER, messages=QUESTION, max_tokens=60, n=2, seed=2, logit_bias={"3": -100}, **form
    )
    assert [type(json.loads(choice.message.content or "")) for choice in whole.choices] == [dict, dict]
    assert whole.usage and whole.usage.completion_tokens_details
    assert whole.usage.completion_tokens_details.reasoning_tokens == 2 * (5 + 1), "the token that ends it is the sixth"


def test_a_thought_is_gone_on_with(client: openai.OpenAI) -> None:
    prefix: Any = {"role": "assistant", "content": "So", "reasoning_content": "I see.", "prefix": True}
    asked: Any = {"model": REASONER, "messages": [*QUESTION, prefix], "max_tokens": 10, "temperature": 0}
    said: Any = client.chat.completions.create(**asked)
    assert said.choices[0].message.content
    assert not hasattr(said.choices[0].message, "reasoning_content")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"extra_body": {"thinking": {"type": "enabled"}}}, "thinking"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"extra_body": {"thinking_token_budget": 5}}, "thinking_token_budget"),
        ({"extra_body": {"chat_template_kwargs": {"mood": 1}}}, "chat_template_kwargs"),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"properties": {"a": {"type": "sprocket"}}}},
                    }
                ],
                "tool_choice": "required",
            },
            "tools",
        ),
    ],
)
def test_what_this_checkpoint_cannot_is_refused(client: openai.OpenAI, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, **fields)
    assert caught.value.param == param
