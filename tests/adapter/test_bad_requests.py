"""Requests that cannot be served as asked: each is refused with a status, a sentence and the field's name."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel, ValidationError

from adapter.chat.schemas import ChatRequest
from adapter.completions.schemas import CompletionRequest
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.test_sampling_fields import refused

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
USER = {"role": "user", "content": "hi"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({}, "messages", "is required"),
        ({"messages": []}, "messages", "must have at least 1 item"),
        ({"messages": "hi"}, "messages", "must be a valid list"),
        ({"messages": ["hi"]}, "messages.0", "must be an object"),
        ({"messages": [USER, {"role": "user"}]}, "messages.1.content", "is required"),
        ({"messages": [USER, {"role": "user", "content": None}]}, "messages.1.content", "is required"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role", '"function" is not'),
        ({"messages": [{"content": "x"}]}, "messages.0.role", "is required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", "must be a valid string"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0", "must be an object"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages.0.content.0.type",
            'must be "text" or "image_url"',
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.text",
            "is required",
        ),
        ({"messages": [USER | {"weight": 1}]}, "messages.0.weight", "is not supported"),
        ({"messages": [USER | {"tool_calls": [{}]}]}, "messages.0.tool_calls.0.id", "is required"),
        ({"messages": [USER | {"refusal": "no"}]}, "messages.0.refusal", "is not supported"),
        (
            {"messages": [USER | {"name": "ann"}, USER | {"name": "bob"}]},
            "messages.1.name",
            "cannot tell two names of the role 'user' apart",
        ),
        ({"messages": [USER], "top_logprobs": 1}, "top_logprobs", "is only for requests with logprobs: true"),
        ({"messages": [USER], "top_logprobs": 21, "logprobs": True}, "top_logprobs", "less than or equal to 20"),
        ({"messages": [USER], "logprobs": 1}, "logprobs", "must be a valid boolean"),
        (
            {"messages": [USER], "max_tokens": 1, "max_completion_tokens": 2},
            "max_completion_tokens",
            "differs from max_tokens",
        ),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"messages": [USER], "max_completion_tokens": 0}, "max_completion_tokens", "greater than or equal to 1"),
        ({"messages": [USER], "tools": [{"type": "function"}]}, "tools.0.function", "is required"),
        ({"messages": [USER], "tool_choice": "required"}, "tool_choice", "is only for requests with tools"),
        ({"messages": [USER], "prompt": "x"}, "prompt", "is not supported"),
    ],
)
def test_chat(http: httpx.Client, triton: FakeTriton, body: dict[str, Any], param: str, sentence: str) -> None:
    refused(http, CHAT, body, param, sentence)
    assert triton.seen == []


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({}, "prompt", "is required"),
        ({"prompt": 5}, "prompt", "must be a valid string"),
        ({"prompt": []}, "prompt", "must have at least 1 item"),
        ({"prompt": ["a", 1]}, "prompt.1", "must be a valid string"),
        ({"prompt": [1, "a"]}, "prompt.1", "must be a valid integer"),
        ({"prompt": [True]}, "prompt.0", "must be a valid integer"),
        ({"prompt": [-1]}, "prompt.0", "must be greater than or equal to 0"),
        ({"prompt": [2**31]}, "prompt.0", "must be less than or equal to"),
        ({"prompt": [[]]}, "prompt.0", "must have at least 1 item"),
        ({"prompt": [[1], "a"]}, "prompt.1", "must be a valid list"),
        ({"prompt": ["a"] * 65}, "prompt", "must be at most 64 prompts"),
        ({"prompt": "a", "logprobs": 6}, "logprobs", "must be less than or equal to 5"),
        ({"prompt": "a", "logprobs": True}, "logprobs", "must be a valid integer"),
        ({"prompt": "a", "best_of": 2}, "best_of", "must be equal to n"),
        ({"prompt": "a", "echo": "yes"}, "echo", "must be a valid boolean"),
    ],
)
def test_completions(http: httpx.Client, triton: FakeTriton, body: dict[str, Any], param: str, sentence: str) -> None:
    refused(http, COMPLETIONS, body, param, sentence)
    assert triton.seen == []


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        (b"", JSON, "The body must be a JSON object"),
        (b"[]", JSON, "The body must be a JSON object"),
        (b"5", JSON, "The body must be a JSON object"),
        (b"null", JSON, "The body must be a JSON object"),
        (b'{"prompt": "a"', JSON, "not valid JSON"),
        (b'{"prompt": "a"} x', JSON, "not valid JSON"),
        (b'{"prompt": "\xff"}', JSON, "not valid JSON"),
        (b'{"prompt": "\\ud800"}', JSON, "not valid JSON"),
        (b'{"prompt": "a", "temperature": NaN}', JSON, "not valid JSON"),
        (b'{"prompt": "a", "temperature": -Infinity}', JSON, "not valid JSON"),
        (b'{"prompt": "a", "temperature": 1e999}', JSON, "not valid JSON"),
        (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON, "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object(http: httpx.Client, body: bytes, headers: dict[str, str], sentence: str) -> None:
    response = http.post(COMPLETIONS, content=body, headers=headers)
    assert response.status_code == 400
    error = response.json()["error"]
    assert sentence in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": "invalid_value"}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/v1/ocr"])
@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}]
)
def test_a_body_of_another_type(http: httpx.Client, path: str, headers: dict[str, str]) -> None:
    response = http.post(path, content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == 415
    assert response.json()["error"] == {
        "message": "The body must be JSON, sent as application/json.",
        "type": "invalid_request_error",
        "param": None,
        "code": "unsupported_media_type",
    }


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/v1/ocr", "/ocr", "/ocr/stream", "/ocr/jobs"])
def test_a_body_of_millions_of_things(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    for content in (b"[" + b"[]," * 2_000_000 + b"1]", b"{" * 4_000_001):
        response = http.post(path, content=content, headers=JSON)
        assert response.status_code == 413
        error = response.json()["error"]
        assert error["code"] == "body_too_large"
        assert "more than 4000000 brackets and commas" in error["message"]
    assert triton.seen == []


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_an_unknown_model(http: httpx.Client, path: str) -> None:
    body = {"prompt": "a"} if path == COMPLETIONS else {"messages": [USER]}
    response = http.post(path, json=body | {"model": "gpt-4"})
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "model: there is no model 'gpt-4'; this server has deepseek-coder, deepseek-ocr",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_an_unknown_path(http: httpx.Client) -> None:
    response = http.post("/v1/moderations", json={})
    assert response.status_code == 404
    assert response.json()["error"] == {
        "message": "There is nothing at POST /v1/moderations.",
        "type": "invalid_request_error",
        "param": None,
        "code": "not_found",
    }


def test_a_wrong_method(http: httpx.Client) -> None:
    response = http.get(CHAT)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["error"] == {
        "message": "GET is not allowed at /v1/chat/completions; use POST.",
        "type": "invalid_request_error",
        "param": None,
        "code": "method_not_allowed",
    }


def test_a_body_too_large(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(max_body_bytes=1000, max_document_body_bytes=2000)

    def chunks() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(10):
            yield b"a" * 100
        yield b'"}'

    fitting = b'{"prompt":"' + b"a" * 987 + b'"}'
    assert http.post(COMPLETIONS, content=fitting, headers=JSON).status_code == 200
    assert http.post(COMPLETIONS, content=iter([fitting]), headers=JSON).status_code == 200
    for content in (fitting + b" ", chunks()):
        response = http.post(COMPLETIONS, content=content, headers=JSON)
        assert response.status_code == 413
        assert response.json()["error"] == {
            "message": "The request body is larger than 1000 bytes.",
            "type": "invalid_request_error",
            "param": None,
            "code": "body_too_large",
        }
    assert len(triton.seen) == 2


def test_the_sdk_raises_its_own_errors(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="deepseek-coder", messages=[], temperature=5)
    assert (bad.value.param, bad.value.code, bad.value.type) == (
        "temperature",
        "invalid_value",
        "invalid_request_error",
    )
    with pytest.raises(openai.NotFoundError):
        sdk.completions.create(model="nope", prompt="a")


MANY = 5000


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, {"messages": [1] * MANY}),
        (ChatRequest, {"messages": [{}] * MANY}),
        (ChatRequest, {"messages": [USER] * MANY}),
        (ChatRequest, {"messages": [{"role": "user", "content": [1] * MANY}]}),
        (ChatRequest, {"messages": [USER | {f"a{i}": 1 for i in range(MANY)}]}),
        (ChatRequest, {"messages": [USER], **{f"a{i}": 1 for i in range(MANY)}}),
        (ChatRequest, {"messages": [USER], "stop": [1] * MANY}),
        (ChatRequest, {"messages": [USER], "stop_token_ids": ["a"] * MANY}),
        (ChatRequest, {"messages": [USER], "logit_bias": {f"a{i}": 1 for i in range(MANY)}}),
        (ChatRequest, {"messages": [USER], "metadata": {f"a{i}": 1 for i in range(MANY)}}),
        (ChatRequest, {"messages": [USER], "tools": [{}] * MANY}),
        (CompletionRequest, {"prompt": ["a"] + [1] * MANY}),
        (CompletionRequest, {"prompt": [1] + ["a"] * MANY}),
        (CompletionRequest, {"prompt": [[1]] + [["a"] * MANY] * 5}),
    ],
    ids=lambda value: next(iter(reversed(value))) if isinstance(value, dict) else "",
)
def test_a_flood_of_errors_is_not_written_down(model: type[BaseModel], body: dict[str, Any]) -> None:
    """Each would cost time and memory that others wait for."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    assert caught.value.error_count() <= 3


def test_an_assistant_that_said_nothing_is_part_of_a_history(http: httpx.Client, triton: FakeTriton) -> None:
    messages = [USER, {"role": "assistant", "content": None}, USER]
    assert http.post(CHAT, json={"messages": messages}).status_code == 200
