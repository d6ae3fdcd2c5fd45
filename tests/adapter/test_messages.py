"""Anthropic's Messages API: what the model is asked, and what the SDK makes of the answer."""

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anthropic
import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.adapter.fake_triton import USAGE, FakeTriton, answer
from tests.adapter.test_chat_images import encoded
from tests.adapter.test_responses import PIECES, chat_of
from tests.adapter.test_tools import says_calls

PATH = "/v1/messages"
USER: Any = {"role": "user", "content": "Weather?"}
ASKED: Any = {"model": "deepseek-coder", "max_tokens": 50, "messages": [USER]}
WEATHER: Any = {"name": "weather", "input_schema": {"type": "object"}}
USE: Any = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
SECOND: Any = USE | {"id": "toolu_2"}
RESULT: Any = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "18 degrees"}
PNG = base64.b64encode(encoded("white")).decode()
IMAGE: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


def blocks(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_a_text(claude: anthropic.Anthropic, triton: FakeTriton) -> None:
    message = claude.messages.create(
        **ASKED,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        extra_body={"temperature": 0.5, "top_p": 0.25, "top_k": 7},
        stop_sequences=["END"],
        metadata={"user_id": "u"},
    )
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Hello world", "citations": None}
    ]
    assert (message.type, message.role, message.model) == ("message", "assistant", "deepseek-coder")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 2, 3)
    assert message._request_id == triton.seen[0].id
    assert chat_of(triton) == {"messages": [{"role": "system", "content": "Be brief."}, USER]}
    sampling = triton.seen[0].sampling
    assert (sampling["max_tokens"], sampling["temperature"], sampling["top_p"]) == (50, 0.5, 0.25)
    assert (sampling["top_k"], sampling["stop"]) == (7, ["END"])


def test_blocks_are_turns(http: httpx.Client, triton: FakeTriton) -> None:
    messages = [
        blocks(text("Wea"), text("ther?")),
        blocks({"type": "thinking", "thinking": "Hm.", "signature": "s"}, text("Well."), USE, SECOND, role="assistant"),
        blocks(RESULT, RESULT | {"tool_use_id": "toolu_2", "content": [text("none")], "is_error": True}, text("So?")),
        blocks(text("Warm"), role="assistant"),
    ]
    response = http.post(PATH, json=ASKED | {"messages": messages})
    assert response.status_code == 200, response.text
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    calls = [call, call | {"id": "toolu_2"}]
    chat = chat_of(triton)
    assert chat["messages"] == [
        USER,
        {"role": "assistant", "content": "Well.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "content": "18 degrees", "tool_call_id": "toolu_1"},
        {"role": "tool", "content": "Error: none", "tool_call_id": "toolu_2"},
        {"role": "user", "content": "So?"},
        {"role": "assistant", "content": "Warm"},
    ]
    assert chat["continue_final_message"] is True


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"name": "weather"}}),
        ({"type": "none"}, {"tool_choice": "none"}),
    ],
)
def test_tools_are_asked_for(http: httpx.Client, triton: FakeTriton, choice: Any, told: Any) -> None:
    tool = WEATHER | {"type": "custom", "description": "d", "strict": True, "cache_control": {"type": "ephemeral"}}
    response = http.post(PATH, json=ASKED | {"tools": [tool], "tool_choice": choice})
    assert response.status_code == 200, response.text
    chat = chat_of(triton)
    del chat["messages"]
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert chat == {"tools": [{"type": "function", "function": function}]} | told


def test_thoughts_texts_and_uses_are_blocks(claude: anthropic.Anthropic, triton: FakeTriton) -> None:
    says_calls(triton)
    message = claude.messages.create(**ASKED, tools=[WEATHER])
    thought, said, weather, now = message.content
    assert message.stop_reason == "tool_use"
    assert thought.type == "thinking"
    assert thought.thinking == "Which city?"
    assert said.type == "text"
    assert weather.type == now.type == "tool_use"
    assert (weather.name, weather.input, now.input) == ("weather", {"city": "Paris"}, {})
    assert weather.id != now.id
    assert message.usage.output_tokens_details
    assert message.usage.output_tokens_details.thinking_tokens == 2
    # They go back as they came, with what the tools gave.
    results: Any = [{"type": "tool_result", "tool_use_id": use.id} for use in (weather, now)]
    turns: Any = [USER, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    claude.messages.create(**ASKED | {"messages": turns}, tools=[WEATHER])
    turn = chat_of(triton)["messages"][1]
    assert (turn["reasoning_content"], turn["content"]) == ("Which city?", "Well.")
    assert [call["id"] for call in turn["tool_calls"]] == [weather.id, now.id]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ('{"a": [1, 123456789012345678901234567890', {"a": [1, 123456789012345678901234567890]}),
        ('{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ("{city: Paris}", {"INVALID_JSON": "{city: Paris}"}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_input_that_is_no_whole_object(http: httpx.Client, triton: FakeTriton, arguments: str, given: Any) -> None:
    calls = [{"index": 0, "name": "f", "arguments": arguments}]
    triton.replies(answer("", calls=calls, finish="length", usage=USAGE))
    body = http.post(PATH, json=ASKED | {"tools": [WEATHER]}).json()
    assert (body["content"][0]["input"], body["stop_reason"]) == (given, "max_tokens")


class Person(BaseModel):
    name: str


def test_a_form(claude: anthropic.Anthropic, triton: FakeTriton) -> None:
    triton.says('{"name": ', '"Ada"}')
    message = claude.messages.parse(**ASKED, output_format=Person)
    assert message.parsed_output == Person(name="Ada")
    assert triton.seen[0].sampling["guided_json"]["required"] == ["name"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"thinking": {"type": "enabled"}}, {"thinking": True}),
        ({"thinking": {"type": "disabled"}}, {"thinking": False}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
    ],
)
def test_how_to_think(http: httpx.Client, triton: FakeTriton, fields: Any, told: Any) -> None:
    response = http.post(PATH, json=ASKED | fields)
    assert response.status_code == 200, response.text
    assert chat_of(triton) == {"messages": [USER]} | told


@pytest.mark.parametrize("kind", ["enabled", "adaptive"])
@pytest.mark.parametrize(("budget", "bound"), [(1, 1), (49, 49), (50, None), (None, None)])
def test_how_long_to_think(
    claude: anthropic.Anthropic, triton: FakeTriton, kind: Any, budget: int | None, bound: int | None
) -> None:
    """From `max_tokens` on, which is 50, there is nothing to bound."""
    config: Any = {"type": kind} | ({} if budget is None else {"budget_tokens": budget})
    claude.messages.create(**ASKED, thinking=config)
    assert triton.seen[0].sampling.get("thinking_token_budget") == bound


def test_images_are_read_by_the_ocr_model(http: httpx.Client, triton: FakeTriton) -> None:
    body = {"max_tokens": 5, "messages": [blocks(text("Read."), IMAGE)]}
    response = http.post(PATH, json=body)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == "deepseek-ocr"
    assert triton.seen[0].model == "ocr"
    assert len(triton.seen[0].inputs["image"]) == 1


def test_images_may_be_larger_than_texts(serve: Callable[..., httpx.Client]) -> None:
    http = serve(max_body_bytes=2000, max_document_body_bytes=6000)
    padded = IMAGE | {"source": IMAGE["source"] | {"data": PNG + " " * 3000}}
    assert http.post(PATH, json=ASKED | {"model": None, "messages": [blocks(padded)]}).status_code == 200
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}" + " " * 3000}
    assert http.post("/v1/responses", json={"input": [blocks(image)]}).status_code == 200
    refused = http.post(PATH, json=ASKED | {"system": "x" * 3000})
    assert refused.status_code == 413
    assert refused.json()["error"]["type"] == "request_too_large"


def test_the_events_of_a_stream(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(
        answer("", reasoning="Which city?", usage=(5, 1, 2)),
        answer("Well."),
        answer("", calls=[{"index": 0, "name": "weather", "arguments": ""}]),
        answer("", calls=[{"index": 0, "arguments": "{}"}]),
        answer("", finish="tool_calls", usage=USAGE, num_reasoning_tokens=1),
    )
    response = http.post(PATH, json=ASKED | {"tools": [WEATHER], "stream": True})
    assert response.headers["request-id"] == triton.seen[0].id
    events = [read(event) for event in response.text.removesuffix("\n\n").split("\n\n")]
    assert [event["type"] for event in events] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
        "message_delta",
        "message_stop",
    ]
    assert triton.seen[0].inputs["continuous_usage"] is True
    start = events[0]["message"]
    assert (start["usage"]["input_tokens"], start["usage"]["cache_read_input_tokens"]) == (3, 2)
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert [event["index"] for event in events[1:-2]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [event["delta"] for event in events if event["type"] == "content_block_delta"] == [
        {"type": "thinking_delta", "thinking": "Which city?"},
        {"type": "text_delta", "text": "Well."},
        {"type": "input_json_delta", "partial_json": "{}"},
    ]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 3


def read(event: str) -> dict[str, Any]:
    """An event's data, which names it as its first line does."""
    name, data = event.split("\n")
    fields: dict[str, Any] = orjson.loads(data.removeprefix("data: "))
    assert name == f"event: {fields['type']}"
    return fields


JSON_PIECES = st.dictionaries(st.text(max_size=3), st.text(max_size=3) | st.integers(), max_size=2).flatmap(
    lambda fields: st.lists(st.integers(0, 40), max_size=3).map(lambda cuts: split(json.dumps(fields), cuts))
)


def split(whole: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


@given(thought=PIECES, said=PIECES, uses=st.lists(JSON_PIECES, max_size=3), finish=st.sampled_from(["stop", "length"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_says_what_the_whole_answer_says(
    claude: anthropic.Anthropic,
    triton: FakeTriton,
    thought: list[str],
    said: list[str],
    uses: list[list[str]],
    finish: str,
) -> None:
    replies = [answer("", reasoning=piece) for piece in thought] + [answer(piece) for piece in said]
    for i, pieces in enumerate(uses):
        replies.append(answer("", calls=[{"index": i, "name": f"f{i}", "arguments": ""}]))
        replies += [answer("", calls=[{"index": i, "arguments": piece}]) for piece in pieces]
    end: Any = {"finish": "tool_calls" if uses else finish, "usage": USAGE, "num_reasoning_tokens": 1}
    triton.replies(*replies, answer("", **end))
    with claude.messages.stream(**ASKED, tools=[WEATHER]) as stream:
        streamed = stream.get_final_message()
    calls = [{"index": i, "name": f"f{i}", "arguments": "".join(pieces)} for i, pieces in enumerate(uses)]
    triton.replies(answer("".join(said), reasoning="".join(thought), calls=calls, **end))
    assert without_ids(streamed) == without_ids(claude.messages.create(**ASKED, tools=[WEATHER]))


def without_ids(message: Any) -> Any:
    fields = message.model_dump()
    for block in [fields, *fields["content"]]:
        block.pop("id", None)
        block.pop("parsed_output", None)
    return fields


def test_which_string_ended_it(claude: anthropic.Anthropic, triton: FakeTriton) -> None:
    triton.replies(answer("Hi"), answer("", finish="stop", usage=USAGE, stop_string="END"))
    message = claude.messages.create(**ASKED, stop_sequences=["END"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    with claude.messages.stream(**ASKED, stop_sequences=["END"]) as stream:
        message = stream.get_final_message()
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    # Calls that it ended are what the client has to answer.
    calls = [{"index": 0, "name": "now", "arguments": "{}"}]
    triton.replies(answer("", calls=calls, finish="tool_calls", usage=USAGE, stop_string="END"))
    message = claude.messages.create(**ASKED, stop_sequences=["END"], tools=[WEATHER])
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)


def test_silence_is_a_ping(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(keep_alive_s=0.05)
    gate = triton.hangs("Hel")
    seen: list[str] = []
    with http.stream("POST", PATH, json=ASKED | {"stream": True}) as response:
        for line in response.iter_lines():
            seen.append(line)
            if line == "event: ping" or line.startswith(":"):
                gate.open()
    assert 'data: {"type":"ping"}' in seen
    assert "event: message_stop" in seen
    assert not any(line.startswith(":") for line in seen)
