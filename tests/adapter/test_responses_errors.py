"""OpenAI's Responses API: what is refused and what fails, in its words."""

from typing import Any

import httpx
import openai
import orjson
import pytest
from grpc import StatusCode

from tests.adapter.fake_triton import FakeTriton
from tests.adapter.test_responses import CALL, OUTPUT, PATH, PNG_URL, WEATHER
from tests.adapter.test_tools import DEEP


def test_a_failure_in_the_middle_is_an_event(sdk: openai.OpenAI, http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(StatusCode.UNAVAILABLE, "away", after=["Hel"])
    text = http.post(PATH, json={"input": "hi", "stream": True}).text
    name, data = text.strip().split("\n\n")[-1].split("\n")
    assert name == "event: error"
    event = orjson.loads(data.removeprefix("data: "))
    assert (event["type"], event["code"], event["sequence_number"]) == ("error", "unavailable", 5)
    with pytest.raises(openai.APIError, match="Triton is not reachable"):
        list(sdk.responses.create(model="deepseek-coder", input="hi", stream=True))


def test_a_failure_before_the_first_event_is_a_status(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(StatusCode.INVALID_ARGUMENT, "max_tokens: exceeds the context of 9 tokens")
    response = http.post(PATH, json={"input": "hi", "stream": True})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("max_output_tokens", "context_length_exceeded")
    assert error["message"] == "max_output_tokens: exceeds the context of 9 tokens"


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"input": None}, "input", "is required"),
        ({"input": []}, "input", "must have at least 1 item"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "stores no responses"),
        ({"conversation": "conv_1"}, "conversation", "stores no responses"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "stores no prompts"),
        ({"background": True}, "background", "use false"),
        ({"store": True}, "store", "use false"),
        ({"truncation": "auto"}, "truncation", '"auto" is not supported'),
        ({"include": ["reasoning.encrypted_content"]}, "include", "is not supported"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "has no tools of its own"),
        ({"tools": [WEATHER, WEATHER]}, "tools.1.name", "another tool is named"),
        ({"tools": [WEATHER | {"parameters": DEEP}]}, "tools.0.parameters", "200 deep"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": DEEP}}}, "text.format.schema", "200 deep"),
        ({"tool_choice": "required"}, "tool_choice", "is only for requests with tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "there is no tool"),
        ({"text": {"format": {"type": "xml"}}}, "text.format", 'type must be "text"'),
        ({"reasoning": {"effort": "odd"}}, "reasoning.effort", '"odd" is not supported'),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary", "is not supported"),
        ({"max_tool_calls": 1}, "max_tool_calls", "is not supported"),
        ({"model": "gpt"}, "model", "there is no model"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type", 'must be "message"'),
        ({"input": [USER, {**USER, "content": [{"type": "input_file"}]}]}, "input.1.content.0.type", "/ocr/file"),
        (
            {"input": [USER, {**USER, "role": "system", "content": [{"type": "input_image", "image_url": PNG_URL}]}]},
            "input.1.content",
            "only a user's message",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": PNG_URL}]}]},
            "input.0.content.0",
            "only a user's message",
        ),
        (
            {"instructions": "x", "input": [{**USER, "content": [{"type": "input_image", "image_url": "data:,x"}]}]},
            "input.0.content.0.image_url",
            "must be base64",
        ),
        ({"input": [USER, CALL | {"arguments": "["}]}, "input.1.arguments", "must be the JSON of an object"),
        ({"input": [USER, OUTPUT]}, "input.1.call_id", "no assistant's message before"),
        (
            {"input": [USER, CALL, OUTPUT | {"output": [{"type": "input_image", "image_url": PNG_URL}]}]},
            "input.2.output",
            "only a user's message",
        ),
    ],
)
def test_what_is_refused(
    http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], param: str, sentence: str
) -> None:
    response = http.post(PATH, json={"input": "hi"} | fields)
    assert response.status_code in (400, 404), response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert sentence in error["message"]
    assert triton.seen == []


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("messages.0.content: odd", "instructions"),
        ("messages.1.content: odd", "input.0.content"),
        ("messages.2.tool_calls.0.function.arguments: odd", "input.1.arguments"),
        ("chat: odd", "input"),
        ("guided_json: odd", "text.format.schema"),
        ("reasoning_effort: odd", "reasoning.effort"),
        ("tools.0.function.parameters: odd", "tools.0.parameters"),
    ],
)
def test_what_the_model_refuses_is_named_as_the_client_has_it(
    http: httpx.Client, triton: FakeTriton, said: str, param: str
) -> None:
    triton.fails(StatusCode.INVALID_ARGUMENT, said)
    schema = {"type": "json_schema", "name": "a", "schema": {}}
    body = {"instructions": "x", "input": [USER, CALL], "text": {"format": schema}, "tools": [WEATHER]}
    error = http.post(PATH, json=body).json()["error"]
    assert (error["param"], error["message"]) == (param, f"{param}: odd")


def test_a_text_is_named_as_it_is(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(StatusCode.INVALID_ARGUMENT, "messages.0.content: odd")
    assert http.post(PATH, json={"input": "hi"}).json()["error"]["param"] == "input"
