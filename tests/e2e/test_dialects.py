"""OpenAI's Responses API and Anthropic's Messages API, through a real Triton, by their own SDKs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.conftest import REASONER
from tests.e2e.stack import Stack
from tests.e2e.test_openai_sdk import sorts
from tests.e2e.test_tools import WEATHER, check

MODEL = "deepseek-coder"
SORT = "Write a Python function to sort a list"
FUNCTION: Any = WEATHER["function"]
FLAT: Any = {"type": "function", "strict": True, **FUNCTION}
TOOL: Any = {
    "name": FUNCTION["name"],
    "description": FUNCTION["description"],
    "input_schema": FUNCTION["parameters"],
}
QUESTION = "What is the weather in Paris?"


@pytest.fixture(scope="module")
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_a_response_is_the_chat_s_answer(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "temperature": 0}
    chat = client.chat.completions.create(messages=[{"role": "user", "content": SORT}], **asked)
    response = client.responses.create(input=SORT, **asked)
    assert sorts(response.output_text)
    assert response.output_text == chat.choices[0].message.content
    with client.responses.stream(input=SORT, **asked) as stream:
        streamed = stream.get_final_response()
    assert streamed.output_text == response.output_text
    assert streamed.usage and response.usage
    assert streamed.usage.output_tokens == response.usage.output_tokens


def test_a_response_calls_and_goes_on(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "tools": [FLAT], "temperature": 0, "max_output_tokens": 160}
    first = client.responses.create(input=QUESTION, tool_choice="required", parallel_tool_calls=False, **asked)
    [call] = first.output
    assert call.type == "function_call"
    check(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    last = client.responses.create(input=[{"role": "user", "content": QUESTION}, call, result], **asked)  # type: ignore[list-item]
    assert last.output


def test_a_response_thinks(client: openai.OpenAI) -> None:
    response = client.responses.create(model=REASONER, input=QUESTION, max_output_tokens=30, temperature=0)
    assert response.output[0].type == "reasoning"
    assert response.status == "incomplete"
    assert response.usage
    assert response.usage.output_tokens_details.reasoning_tokens > 0


def test_a_message_thinks_within_its_budget(claude: anthropic.Anthropic) -> None:
    for budget in (4, 9):
        message = claude.messages.create(
            model=REASONER,
            max_tokens=40,
            messages=[{"role": "user", "content": QUESTION}],
            thinking={"type": "enabled", "budget_tokens": budget},
            extra_body={"temperature": 0},
        )
        assert [block.type for block in message.content] == ["thinking", "text"]
        usage: Any = message.usage
        assert usage.output_tokens_details.thinking_tokens == budget + 1
        assert usage.output_tokens == 40


def test_a_message_is_the_chat_s_answer(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "user", "content": SORT}]
    chat = client.chat.completions.create(model=MODEL, messages=turns, temperature=0)
    asked: Any = {"model": MODEL, "max_tokens": 200, "messages": turns, "extra_body": {"temperature": 0}}
    message = claude.messages.create(**asked)
    [said] = message.content
    assert said.type == "text"
    assert said.text == chat.choices[0].message.content
    assert message.stop_reason == "end_turn"
    with claude.messages.stream(**asked) as stream:
        assert stream.get_final_text() == said.text
        usage = stream.get_final_message().usage
    given = usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert chat.usage
    assert (given, usage.output_tokens) == (chat.usage.prompt_tokens, chat.usage.completion_tokens)


def test_a_stream_begins_with_the_tokens_that_it_was_given(claude: anthropic.Anthropic) -> None:
    start, *_ = claude.messages.create(
        model=MODEL, max_tokens=20, messages=[{"role": "user", "content": SORT}], stream=True
    )
    assert start.type == "message_start"
    assert start.message.usage.input_tokens + (start.message.usage.cache_read_input_tokens or 0) > 5


def test_a_message_uses_a_tool_and_goes_on(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": MODEL, "tools": [TOOL], "max_tokens": 160, "extra_body": {"temperature": 0}}
    turns: Any = [{"role": "user", "content": QUESTION}]
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    with claude.messages.stream(messages=turns, tool_choice=choice, **asked) as stream:
        message = stream.get_final_message()
    [use] = message.content
    assert message.stop_reason == "tool_use"
    assert use.type == "tool_use"
    check(json.dumps(use.input))
    turns += [
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "18 degrees"}]},
    ]
    assert claude.messages.create(messages=turns, **asked).content


def test_a_message_thinks(claude: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "user", "content": QUESTION}]
    asked: Any = {"thinking": {"type": "adaptive"}, "extra_body": {"temperature": 0}}
    message = claude.messages.create(model=REASONER, max_tokens=30, messages=turns, **asked)
    assert message.content[0].type == "thinking"
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens_details
    assert message.usage.output_tokens_details.thinking_tokens > 0


def test_a_message_goes_on_with_its_beginning(claude: anthropic.Anthropic) -> None:
    turns: Any = [{"role": "user", "content": SORT}, {"role": "assistant", "content": "```python\n"}]
    asked: Any = {"stop_sequences": ["END", "```"], "extra_body": {"temperature": 0}}
    message = claude.messages.create(model=MODEL, max_tokens=200, messages=turns, **asked)
    [said] = message.content
    assert said.type == "text"
    assert said.text.startswith(("def ", "import ", "from "))
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "```")


def test_what_is_wrong_is_said_in_their_words(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="hi", reasoning={"effort": "high"})
    assert caught.value.param == "reasoning.effort"
    turns: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.effort: "):
        claude.messages.create(model=MODEL, max_tokens=9, messages=turns, output_config={"effort": "high"})


def test_a_prompt_s_tokens_are_counted(claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Write a Python function to sort a list"}]
    counted = claude.messages.count_tokens(model="deepseek-coder", system="Be brief.", messages=messages)
    asked = claude.messages.create(model="deepseek-coder", system="Be brief.", messages=messages, max_tokens=1)
    assert counted.input_tokens == asked.usage.input_tokens + (asked.usage.cache_read_input_tokens or 0)
