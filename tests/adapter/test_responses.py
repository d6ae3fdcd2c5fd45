"""OpenAI's Responses API: what the model is asked, and what the SDK makes of the answer."""

from typing import Any

import httpx
import openai
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.adapter.fake_triton import USAGE, FakeTriton, answer
from tests.adapter.test_chat_images import data_url, encoded
from tests.adapter.test_tools import says_calls

PATH = "/v1/responses"
PNG_URL = data_url(encoded("white"))
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALL: Any = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Paris"}'}
OUTPUT: Any = {"type": "function_call_output", "call_id": "call_1", "output": "18 degrees"}


def chat_of(triton: FakeTriton) -> dict[str, Any]:
    chat: dict[str, Any] = orjson.loads(triton.seen[-1].inputs["chat"])
    return chat


def test_a_text(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    response = sdk.responses.create(
        model="deepseek-coder", input="Hi", instructions="Be brief.", max_output_tokens=9, temperature=0.5, top_p=0.25
    )
    assert response.output_text == "Hello world"
    assert (response.status, response.incomplete_details, response.error) == ("completed", None, None)
    assert (response.model, response.instructions, response.max_output_tokens) == ("deepseek-coder", "Be brief.", 9)
    assert response.usage
    assert response.usage.input_tokens_details.cached_tokens == 2
    usage = response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (5, 3, 8)
    assert chat_of(triton) == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    }
    sampling = triton.seen[0].sampling
    assert (sampling["max_tokens"], sampling["temperature"], sampling["top_p"]) == (9, 0.5, 0.25)
    assert triton.seen[0].inputs["stream"] is False


def test_nothing_is_stored(http: httpx.Client) -> None:
    body = http.post(PATH, json={"input": "hi", "store": False}).json()
    assert body["store"] is False
    assert body["previous_response_id"] is None


def test_items_are_turns(http: httpx.Client, triton: FakeTriton) -> None:
    items = [
        {"role": "developer", "content": "Brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Wea"}, {"type": "input_text", "text": "ther?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Well.", "annotations": []}]},
        CALL,
        CALL | {"call_id": "call_2", "name": "now", "arguments": "{}"},
        OUTPUT,
        OUTPUT | {"call_id": "call_2", "output": [{"type": "input_text", "text": "noon"}]},
        {"role": "assistant", "content": "Warm."},
        {"role": "assistant", "content": "Sunny."},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So"}]},
    ]
    response = http.post(PATH, json={"input": items})
    assert response.status_code == 200, response.text
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    assert chat_of(triton)["messages"] == [
        {"role": "system", "content": "Brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Well.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "content": "18 degrees", "tool_call_id": "call_1"},
        {"role": "tool", "content": "noon", "tool_call_id": "call_2"},
        {"role": "assistant", "content": "Warm."},
        {"role": "assistant", "content": "Sunny."},
        {"role": "assistant", "content": "", "reasoning_content": "So"},
    ]


def test_what_was_said_behind_a_call_belongs_to_its_turn(http: httpx.Client, triton: FakeTriton) -> None:
    said = [{"role": "assistant", "content": text} for text in ("One. ", "Two.")]
    assert http.post(PATH, json={"input": [said[0], CALL, said[1], OUTPUT]}).status_code == 200
    turn, result = chat_of(triton)["messages"]
    assert (turn["content"], len(turn["tool_calls"]), result["role"]) == ("One. Two.", 1, "tool")


@pytest.mark.parametrize(
    ("choice", "told"), [("required", "required"), ({"type": "function", "name": "weather"}, {"name": "weather"})]
)
def test_functions_are_asked_for(http: httpx.Client, triton: FakeTriton, choice: Any, told: Any) -> None:
    body = {"input": "Weather?", "tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False}
    answered = http.post(PATH, json=body).json()
    chat = chat_of(triton)
    function = {"name": "weather", "parameters": {"type": "object"}, "strict": True}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert (chat["tool_choice"], chat["parallel_tool_calls"]) == (told, False)
    assert (answered["tool_choice"], answered["parallel_tool_calls"]) == (choice, False)
    assert answered["tools"] == [WEATHER | {"description": None}]


def test_thoughts_texts_and_calls_are_items(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    says_calls(triton)
    response = sdk.responses.create(model="deepseek-coder", input="Weather?", tools=[WEATHER])
    thought, message, weather, now = response.output
    assert thought.type == "reasoning"
    assert [part.text for part in thought.content or ()] == ["Which city?"]
    assert message.type == "message"
    assert response.output_text == "Well."
    assert weather.type == now.type == "function_call"
    assert (weather.name, weather.arguments, weather.status) == ("weather", '{"city": "Paris"}', "completed")
    assert weather.call_id != now.call_id
    assert response.usage
    assert response.usage.output_tokens_details.reasoning_tokens == 2
    # They go back as they came, with what the calls gave.
    given: Any = [{"role": "user", "content": "Weather?"}, *response.output]
    given += [{"type": "function_call_output", "call_id": call.call_id, "output": "?"} for call in (weather, now)]
    sdk.responses.create(model="deepseek-coder", input=given, tools=[WEATHER])
    turn = chat_of(triton)["messages"][1]
    assert (turn["reasoning_content"], turn["content"]) == ("Which city?", "Well.")
    assert [call["id"] for call in turn["tool_calls"]] == [weather.call_id, now.call_id]


class Person(BaseModel):
    name: str


def test_a_form(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    triton.says('{"name": ', '"Ada"}')
    response = sdk.responses.parse(model="deepseek-coder", input="Who?", text_format=Person)
    assert response.output_parsed == Person(name="Ada")
    assert triton.seen[0].sampling["guided_json"]["required"] == ["name"]
    with sdk.responses.stream(model="deepseek-coder", input="Who?", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ada")
    sdk.responses.create(model="deepseek-coder", input="Who?", text={"format": {"type": "json_object"}})
    assert triton.seen[-1].sampling["guided_json_object"] is True


def test_how_much_to_think(http: httpx.Client, triton: FakeTriton) -> None:
    assert http.post(PATH, json={"input": "hi", "reasoning": {"effort": "high"}}).status_code == 200
    assert chat_of(triton)["reasoning_effort"] == "high"


def test_images_are_read_by_the_ocr_model(http: httpx.Client, triton: FakeTriton) -> None:
    image = {"type": "input_image", "image_url": PNG_URL, "detail": "high"}
    response = http.post(PATH, json={"input": [{"role": "user", "content": [image]}]})
    assert response.status_code == 200, response.text
    assert response.json()["model"] == "deepseek-ocr"
    assert triton.seen[0].model == "ocr"
    assert triton.seen[0].inputs["image_parameters"] == '{"mode":"gundam"}'


@pytest.mark.parametrize("finish", ["length", "repetition"])
def test_an_answer_cut_short(sdk: openai.OpenAI, triton: FakeTriton, finish: str) -> None:
    triton.says("Hel", "lo", finish=finish)
    response = sdk.responses.create(model="deepseek-coder", input="hi")
    assert response.status == "incomplete"
    assert response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"
    [message] = response.output
    assert message.type == "message"
    assert message.status == "incomplete"
    *_, last = sdk.responses.create(model="deepseek-coder", input="hi", stream=True)
    assert last.type == "response.incomplete"
    assert last.response.output_text == "Hello"


def test_the_events_of_a_stream(http: httpx.Client, triton: FakeTriton) -> None:
    says_calls(triton)
    text = http.post(PATH, json={"input": "Weather?", "tools": [WEATHER], "stream": True}).text
    names, events = [], []
    for event in text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        names.append(name.removeprefix("event: "))
        events.append(orjson.loads(data.removeprefix("data: ")))
    assert names == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [name.removeprefix("response.") for name in names] == [
        "created",
        "in_progress",
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    whole = events[-1]["response"]
    assert whole["output"] == [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert whole["usage"]["total_tokens"] == 8


PIECE = st.text(max_size=4)
PIECES = st.lists(PIECE, max_size=3)


@given(
    thought=st.lists(PIECE, max_size=3), said=st.lists(PIECE, max_size=3), calls=st.lists(st.lists(PIECE), max_size=3)
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_says_what_the_whole_answer_says(
    sdk: openai.OpenAI, triton: FakeTriton, thought: list[str], said: list[str], calls: list[list[str]]
) -> None:
    replies = [answer("", reasoning=piece) for piece in thought] + [answer(piece) for piece in said]
    for i, pieces in enumerate(calls):
        replies.append(answer("", calls=[{"index": i, "name": f"f{i}", "arguments": ""}]))
        replies += [answer("", calls=[{"index": i, "arguments": piece}]) for piece in pieces]
    last = answer("", finish="tool_calls" if calls else "stop", usage=USAGE, num_reasoning_tokens=1)
    triton.replies(*replies, last)
    asked: Any = {"model": "deepseek-coder", "input": "hi", "tools": [WEATHER]}
    # Each argument's text is only JSON by chance.
    *_, completed = sdk.responses.create(**asked, stream=True)
    assert completed.type == "response.completed"
    pieces_of = [{"index": i, "name": f"f{i}", "arguments": "".join(pieces)} for i, pieces in enumerate(calls)]
    triton.replies(
        answer(
            "".join(said),
            reasoning="".join(thought),
            calls=pieces_of,
            finish="tool_calls" if calls else "stop",
            usage=USAGE,
            num_reasoning_tokens=1,
        )
    )
    assert without_ids(completed.response) == without_ids(sdk.responses.create(**asked))


def without_ids(response: Any) -> Any:
    fields = response.model_dump()
    for name in ("id", "created_at", "completed_at"):
        del fields[name]
    for item in fields["output"]:
        item["id"] = item["call_id"] = None
    return fields


def test_text_behind_a_call_is_an_item_of_its_own(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    triton.replies(
        answer("One. ", calls=[{"index": 0, "name": "f", "arguments": "{"}]),
        answer("Two.", calls=[{"index": 0, "arguments": "}"}, {"index": 1, "name": "g", "arguments": "{}"}]),
        answer("", finish="tool_calls", usage=USAGE),
    )
    with sdk.responses.stream(model="deepseek-coder", input="hi", tools=[WEATHER]) as stream:
        response = stream.get_final_response()
    assert [item.type for item in response.output] == ["message", "function_call", "message", "function_call"]
    assert response.output_text == "One. Two."
    assert [item.arguments for item in response.output if item.type == "function_call"] == ["{}", "{}"]
