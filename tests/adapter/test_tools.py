"""Tools and thoughts: what the model is told, what clients get, whole and in pieces."""

from typing import Any

import httpx
import openai
import orjson
import pytest
from grpc import StatusCode

from tests.adapter.fake_triton import USAGE, FakeTriton, answer

PATH = "/v1/chat/completions"
USER = {"role": "user", "content": "Weather?"}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
DEEP = orjson.loads('{"a":' * 250 + "1" + "}" * 250)
RESULT = {"role": "tool", "content": "18 degrees", "tool_call_id": "call_1"}


def says_calls(triton: FakeTriton) -> None:
    """A thought, a word, and two calls, in pieces."""
    triton.replies(
        answer("", reasoning="Which "),
        answer("Well.", reasoning="city?"),
        answer("", calls=[{"index": 0, "name": "weather", "arguments": ""}]),
        answer("", calls=[{"index": 0, "arguments": '{"city":'}]),
        answer("", calls=[{"index": 0, "arguments": ' "Paris"}'}, {"index": 1, "name": "now", "arguments": "{}"}]),
        answer("", finish="tool_calls", usage=USAGE, num_reasoning_tokens=2),
    )


def test_the_model_gets_tools_calls_and_results(http: httpx.Client, triton: FakeTriton) -> None:
    body = {
        "messages": [USER, CALLED, RESULT],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
    }
    assert http.post(PATH, json=body).status_code == 200
    chat = orjson.loads(triton.seen[0].inputs["chat"])
    assert chat["messages"] == [USER, CALLED | {"content": ""}, RESULT]
    assert chat["tools"] == [TOOL]
    assert chat["tool_choice"] == {"name": "weather"}
    assert chat["parallel_tool_calls"] is False


def test_a_whole_answer(http: httpx.Client, triton: FakeTriton) -> None:
    says_calls(triton)
    body = http.post(PATH, json={"messages": [USER], "tools": [TOOL]}).json()
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["content"], message["reasoning_content"], message["reasoning"]) == ("Well.", *["Which city?"] * 2)
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Paris"}'},
        {"name": "now", "arguments": "{}"},
    ]
    ids = {call["id"] for call in message["tool_calls"]}
    assert len(ids) == 2
    assert all(id_.startswith("call_") for id_ in ids)
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


def test_content_is_null_where_only_functions_are_called(http: httpx.Client, triton: FakeTriton) -> None:
    calls = [{"index": 0, "name": "now", "arguments": "{}"}]
    triton.replies(answer("", calls=calls, finish="tool_calls", usage=USAGE))
    message = http.post(PATH, json={"messages": [USER], "tools": [TOOL]}).json()["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message
    # It comes back as it is, in the next turn.
    result = {"role": "tool", "content": "noon", "tool_call_id": message["tool_calls"][0]["id"]}
    assert http.post(PATH, json={"messages": [USER, message, result], "tools": [TOOL]}).status_code == 200


def test_deltas_are_as_openai_sends_them(http: httpx.Client, triton: FakeTriton) -> None:
    says_calls(triton)
    lines = http.post(PATH, json={"messages": [USER], "tools": [TOOL], "stream": True}).text.split("\n\n")
    deltas = [orjson.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0].keys() == {"index", "id", "type", "function"}
    assert calls[0]["function"] == {"name": "weather", "arguments": ""}
    assert calls[1] == {"index": 0, "function": {"arguments": '{"city":'}}
    assert [call["index"] for call in calls] == [0, 0, 0, 1]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Which city?"
    assert all(delta.get("reasoning") == delta.get("reasoning_content") for delta in deltas)


def test_the_sdk_s_own_accumulator_sees_the_same(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    says_calls(triton)
    asked: dict[str, Any] = {"model": "deepseek-coder", "messages": [USER], "tools": [TOOL]}
    with sdk.chat.completions.stream(**asked) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.content == "Well."
    assert [call.function.arguments for call in message.tool_calls or ()] == ['{"city": "Paris"}', "{}"]


def test_how_to_think(http: httpx.Client, triton: FakeTriton) -> None:
    for fields, said in (
        ({"thinking": {"type": "enabled"}}, {"thinking": True}),
        ({"thinking": {"type": "disabled"}}, {"thinking": False}),
        ({"reasoning_effort": "none"}, {"thinking": False}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"chat_template_kwargs": {"a": 1}}, {"chat_template_kwargs": {"a": 1}}),
    ):
        assert http.post(PATH, json={"messages": [USER], **fields}).status_code == 200
        chat = orjson.loads(triton.seen[-1].inputs["chat"])
        del chat["messages"]
        assert chat == said


def test_how_long_to_think(http: httpx.Client, triton: FakeTriton) -> None:
    enabled = {"type": "enabled", "budget_tokens": 5}
    for fields, budget in (
        ({}, None),
        ({"thinking_token_budget": 0}, 0),
        ({"thinking_token_budget": -1}, -1),
        ({"thinking": {"type": "disabled"}, "thinking_token_budget": -1}, -1),
        ({"thinking": enabled}, 5),
        ({"thinking": enabled, "thinking_token_budget": 5}, 5),
    ):
        assert http.post(PATH, json={"messages": [USER], **fields}).status_code == 200
        assert triton.seen[-1].sampling.get("thinking_token_budget") == budget
    triton.fails(StatusCode.INVALID_ARGUMENT, "thinking_token_budget: odd")
    for fields, param in (
        ({"thinking": enabled}, "thinking.budget_tokens"),
        ({"thinking_token_budget": 5}, "thinking_token_budget"),
    ):
        error = http.post(PATH, json={"messages": [USER], **fields}).json()["error"]
        assert (error["param"], error["message"]) == (param, f"{param}: odd")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_an_assistant_may_only_have_thought(http: httpx.Client, triton: FakeTriton, field: str) -> None:
    assert http.post(PATH, json={"messages": [{"role": "assistant", field: "Hmm"}, USER]}).status_code == 200
    assert triton.seen[0].chat["messages"][0] == {"role": "assistant", "content": "", "reasoning_content": "Hmm"}


def test_a_thought_may_be_the_prefix(http: httpx.Client, triton: FakeTriton) -> None:
    prefix = {"role": "assistant", "content": "", "reasoning_content": "Hmm", "prefix": True}
    assert http.post("/beta/chat/completions", json={"messages": [USER, prefix]}).status_code == 200
    chat = orjson.loads(triton.seen[0].inputs["chat"])
    assert chat["messages"][1] == {"role": "assistant", "content": "", "reasoning_content": "Hmm"}
    assert chat["continue_final_message"] is True


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [TOOL, TOOL]}, "tools.1.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": DEEP}}]},
            "tools.0.function.parameters",
        ),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}, "reasoning_effort": "none"}, "reasoning_effort"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        (
            {"thinking_token_budget": 5, "chat_template_kwargs": {"enable_thinking": False}},
            "thinking_token_budget",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 5}, "thinking_token_budget": -1},
            "thinking.budget_tokens",
        ),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled"}, "thinking_token_budget": 5}, "thinking_token_budget"),
        ({"reasoning_effort": "none", "thinking_token_budget": 0}, "thinking_token_budget"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages.1.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "user", "content": "x", "reasoning_content": "y"}]}, "messages.0.reasoning_content"),
        (
            {"messages": [USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "["}}]}]},
            "messages.1.tool_calls.0.function.arguments",
        ),
        ({"messages": [{"role": "assistant"}]}, "messages.0.content"),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"messages": [USER, RESULT]}, "messages.1.tool_call_id"),
        ({"messages": [USER, RESULT, CALLED]}, "messages.1.tool_call_id"),
        ({"messages": [USER, CALLED, RESULT | {"tool_call_id": "call_2"}]}, "messages.2.tool_call_id"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
            "tools.0.function.parameters",
        ),
    ],
)
def test_what_is_refused(http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], param: str) -> None:
    response = http.post(PATH, json={"messages": [USER]} | fields)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert triton.seen == []
