"""Anthropic's Messages API: what is refused and what fails, in its words and in its shape."""

from typing import Any

import anthropic
import httpx
import orjson
import pytest
from grpc import StatusCode

from adapter.errors import InternalError
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.test_messages import ASKED, IMAGE, PATH, RESULT, USE, USER, WEATHER, blocks, text
from tests.adapter.test_tools import DEEP

CALLED = blocks(USE, role="assistant")


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"max_tokens": None}, "max_tokens", "is required"),
        ({"messages": []}, "messages", "must have at least 1 item"),
        ({"temperature": 1.5}, "temperature", "less than or equal to 1"),
        ({"container": "x"}, "container", "is not supported"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens", "greater than or equal to 1"),
        ({"thinking": {"type": "disabled", "budget_tokens": 99}}, "thinking.budget_tokens", "disabled; leave it out"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0.type", "has no tools of its own"),
        ({"tools": [WEATHER, WEATHER]}, "tools.1.name", "another tool is named"),
        ({"tools": [WEATHER | {"input_schema": DEEP}]}, "tools.0.input_schema", "200 deep"),
        ({"messages": [blocks(USE | {"input": DEEP}, role="assistant")]}, "messages.0.content.0.input", "200 deep"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "is only for requests with tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name", "is for the type 'tool'"),
        ({"messages": [blocks({"type": "document"})]}, "messages.0.content.0.type", "/ocr/file"),
        ({"messages": [blocks(USE)]}, "messages.0.content.0", "is for the role 'assistant'"),
        ({"messages": [USER, blocks(IMAGE, role="assistant")]}, "messages.1.content.0", "is for the role 'user'"),
        ({"messages": [blocks(RESULT)]}, "messages.0.content.0.tool_use_id", "no assistant's message before"),
        ({"tools": [WEATHER | {"input_schema": {"type": "array"}}]}, "tools.0.input_schema", 'the type "object"'),
        ({"messages": [blocks(RESULT | {"content": [IMAGE]})]}, "messages.0.content.0.content.0", "result is text"),
        ({"messages": [USER, blocks(USE, role="assistant")]}, "messages.1.content", "send its tool_result"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "messages.1", "with some text"),
        (
            {"messages": [CALLED, blocks(RESULT, IMAGE | {"source": {"type": "url", "url": "ftp://x"}})]},
            "messages.1.content.1.source",
            "must be a data URL",
        ),
        (
            {"messages": [blocks(IMAGE | {"source": {"type": "file", "file_id": "x"}})]},
            "messages.0.content.0.source.type",
            "keeps no files",
        ),
    ],
)
def test_what_is_refused(
    http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], param: str, sentence: str
) -> None:
    response = http.post(PATH, json=ASKED | {"model": None} | fields)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{param}: ")
    assert sentence in error["message"]
    assert triton.seen == []


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ("messages.0.content: odd", "system"),
        ("messages.2.tool_calls.0.function.arguments: odd", "messages.1.content.1.input"),
        ("messages.3.content: odd", "messages.2.content.0.content"),
        ("guided_json: odd", "output_config.format.schema"),
        ("tools.0.function.parameters: odd", "tools.0.input_schema"),
        ("thinking: odd", "thinking"),
        ("thinking_token_budget: odd", "thinking.budget_tokens"),
        ("stop: odd", "stop_sequences"),
        ("continue_final_message: odd", "messages.3"),
    ],
)
def test_what_the_model_refuses_is_named_as_the_client_has_it(
    http: httpx.Client, triton: FakeTriton, said: str, param: str
) -> None:
    triton.fails(StatusCode.INVALID_ARGUMENT, said)
    turns = [USER, blocks(text("x"), USE, role="assistant"), blocks(RESULT), {"role": "assistant", "content": "So"}]
    body = ASKED | {"system": "x", "messages": turns, "tools": [WEATHER], "stop_sequences": ["a"]}
    body |= {"output_config": {"format": {"type": "json_schema", "schema": {}}}}
    assert http.post(PATH, json=body).json()["error"]["message"] == f"{param}: odd"


@pytest.mark.parametrize(
    ("code", "said", "kind", "error"),
    [
        (StatusCode.INVALID_ARGUMENT, "top_k: odd", "invalid_request_error", anthropic.BadRequestError),
        (StatusCode.UNAVAILABLE, "Exceeds maximum queue size", "rate_limit_error", anthropic.RateLimitError),
        (StatusCode.INTERNAL, "odd", "api_error", anthropic.InternalServerError),
        (StatusCode.UNAVAILABLE, "away", "overloaded_error", anthropic.APIStatusError),
    ],
)
def test_failures_are_anthropics(
    claude: anthropic.Anthropic, triton: FakeTriton, code: StatusCode, said: str, kind: str, error: Any
) -> None:
    triton.fails(code, said)
    with pytest.raises(error) as caught:
        claude.messages.create(**ASKED)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["request_id"] == caught.value.request_id == triton.seen[0].id
    # In the middle of a stream too, as an event.
    triton.fails(code, said, after=["Hel"])
    with pytest.raises(anthropic.APIStatusError) as caught, claude.messages.stream(**ASKED) as stream:
        stream.until_done()
    event: Any = caught.value.body
    assert event["error"]["type"] == kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_every_status_has_its_type(status: int, kind: str) -> None:
    error = InternalError()
    error.status = status  # type: ignore[misc]
    said = orjson.loads(error.anthropic_body("id"))
    assert said == {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": "id"}


def test_what_is_not_there(http: httpx.Client) -> None:
    for response, status, kind in (
        (http.post(PATH, json=ASKED | {"model": "claude"}), 404, "not_found_error"),
        (http.post(f"{PATH}/batches", json={}), 404, "not_found_error"),
        (http.get(PATH), 405, "invalid_request_error"),
        (http.post(PATH, content="{"), 415, "invalid_request_error"),
        (http.post(PATH, content="{", headers={"content-type": "application/json"}), 400, "invalid_request_error"),
    ):
        assert response.status_code == status
        body = response.json()
        assert body.keys() == {"type", "error", "request_id"}
        assert body["error"]["type"] == kind
    # Others keep OpenAI's.
    assert "type" not in http.post("/v1/messagesx", json={}).json()
