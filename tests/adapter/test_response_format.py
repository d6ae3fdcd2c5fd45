"""`response_format`: what the model is asked for, and what is said when it can't be had."""

from typing import Any

import grpc
import httpx
import openai
import pydantic
import pytest

from tests.adapter.fake_triton import FakeTriton

PATH = "/v1/chat/completions"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def format_of(**json_schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", **json_schema}}


@pytest.mark.parametrize(
    ("response_format", "guided"),
    [
        ({"type": "text"}, {}),
        ({"type": "json_object"}, {"guided_json_object": True}),
        (format_of(schema=SCHEMA), {"guided_json": SCHEMA}),
        (format_of(schema=SCHEMA, strict=True, description="d"), {"guided_json": SCHEMA}),
        (format_of(schema=SCHEMA, strict=False), {"guided_json": SCHEMA}),
        (format_of(schema={}), {"guided_json": {}}),
        (format_of(), {"guided_json": True}),
    ],
)
def test_what_the_model_gets(
    http: httpx.Client, triton: FakeTriton, response_format: dict[str, Any], guided: dict[str, Any]
) -> None:
    response = http.post(PATH, json={"messages": MESSAGES, "response_format": response_format})
    assert response.status_code == 200, response.text
    sampling = triton.seen[0].sampling
    assert {name: value for name, value in sampling.items() if name.startswith("guided")} == guided


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"response_format": {"type": "xml"}}, "response_format", 'must be "text", "json_object" or "json_schema"'),
        ({"response_format": {}}, "response_format", 'must be "text"'),
        ({"response_format": "json"}, "response_format", "must be an object"),
        ({"response_format": {"type": "json_object", "x": 1}}, "response_format.x", "is not supported"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is required"),
        ({"response_format": format_of(schema=[])}, "response_format.json_schema.schema", "must be a valid dict"),
        ({"response_format": format_of(name="a b")}, "response_format.json_schema.name", "pattern"),
        ({"response_format": {"type": "json_object"}, "guided_json": {}}, "guided_json", "already"),
        ({"response_format": format_of(), "guided_regex": "a"}, "guided_regex", "already"),
    ],
)
def test_what_is_refused(
    http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], param: str, sentence: str
) -> None:
    response = http.post(PATH, json={"messages": MESSAGES} | fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert sentence in error["message"]
    assert triton.seen == []


@pytest.mark.parametrize(
    ("response_format", "field", "param"),
    [
        (format_of(schema=SCHEMA), "guided_json", "response_format.json_schema.schema"),
        ({"type": "json_object"}, "guided_json_object", "response_format"),
        (format_of(schema=SCHEMA), "max_tokens", "max_tokens"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_model_s_refusal_is_in_the_client_s_words(
    http: httpx.Client, triton: FakeTriton, response_format: dict[str, Any], field: str, param: str, is_stream: bool
) -> None:
    triton.fails(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: can't be held to it")
    body = {"messages": MESSAGES, "response_format": response_format, "stream": is_stream}
    response = http.post(PATH, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["message"]) == (param, f"{param}: can't be held to it")


def test_a_schema_that_is_nested_too_deep(http: httpx.Client, triton: FakeTriton) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"items": schema}
    body = {"messages": MESSAGES, "response_format": format_of(schema=schema)}
    assert http.post(PATH, json=body).json()["error"]["param"] == "response_format.json_schema.schema"


def test_the_ocr_model_s_rule_against_loops_is_not_put_beside_a_form(http: httpx.Client, triton: FakeTriton) -> None:
    for fields in ({"response_format": {"type": "json_object"}}, {"guided_regex": "a"}):
        assert http.post(PATH, json={"model": "deepseek-ocr", "messages": MESSAGES} | fields).status_code == 200
        assert "no_repeat_ngram_size" not in triton.seen[-1].sampling


def test_the_sdk_parses_into_a_model(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    class Answer(pydantic.BaseModel):
        a: int

    triton.says('{"a"', ": 5}")
    answer = sdk.chat.completions.parse(model="deepseek-coder", messages=MESSAGES, response_format=Answer)
    assert answer.choices[0].message.parsed == Answer(a=5)
    assert triton.seen[0].sampling["guided_json"]["properties"]["a"]["type"] == "integer"
