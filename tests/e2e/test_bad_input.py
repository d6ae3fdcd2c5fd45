"""Bad input is a 4xx that names the field, and the request beside it doesn't notice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.stack import Stack

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
COMPLETION = {"model": "llama", "prompt": "hi", "max_tokens": 3}
LONG = "x" * 100_000

SHARED: dict[str, list[Any]] = {
    "model": [5, "", "gpt-4", [], LONG],
    "max_tokens": ["5", -1, 1.5, True, 10**9, []],
    "min_tokens": ["5", -1, 4, 10**9],
    "temperature": ["hot", -0.1, 2.1, [], True],
    "top_p": ["a", 0, -1, 1.1],
    "top_k": ["a", -2, 1.5],
    "min_p": ["a", -0.1, 1.1],
    "n": ["1", 0, -1, 1000, 1.5],
    "seed": ["x", 1.5, []],
    "stop": [5, [5], [""], ["a"] * 1000],
    "stop_token_ids": [[1] * 2000, "a", ["a"], [-1], [10**6], [10**30]],
    "ignore_eos": ["yes", 3],
    "presence_penalty": ["a", 2.1, -2.1],
    "frequency_penalty": ["a", 2.1, -2.1],
    "repetition_penalty": ["a", 0, -1, 100, 1e-40],
    "logit_bias": ["a", {"x": 1}, {"1": 101}, {"1": "a"}, {str(10**6): 1}, [1]],
    "stream": ["yes", 5],
    "stream_options": ["a", {"include_usage": "a"}, {"include_usage": True}],
    "no_such_field": [1],
}
CHAT_ONLY: dict[str, list[Any]] = {
    "messages": [
        None,
        [],
        "hi",
        [{}],
        ["hi"],
        [{"role": "user"}],
        [{"role": "wizard", "content": "a"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "user", "content": LONG}],
    ],
    "logprobs": ["a", 5],
    "top_logprobs": ["a", 21, -1, 2],
    "tools": [[{"type": "function"}]],
}
COMPLETION_ONLY: dict[str, list[Any]] = {
    "prompt": [None, 5, [], {}, [[]], [-1], [10**6], [10**30], ["a", 5], ["a"] * 1000, LONG],
    "logprobs": ["a", -1, 6],
    "best_of": [5],
    "suffix": ["a"],
    "echo": ["a"],
}


def cases(fields: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in fields.items() for value in values]


def check(response: httpx.Response, field: str) -> None:
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert field in str(error["param"]) or field in error["message"], error


@pytest.mark.parametrize(("field", "value"), cases(SHARED | CHAT_ONLY), ids=lambda value: str(value)[:30])
def test_chat(stack: Stack, field: str, value: Any) -> None:
    check(httpx.post(f"{stack.url}/v1/chat/completions", json=CHAT | {field: value}, timeout=60), field)


@pytest.mark.parametrize(("field", "value"), cases(SHARED | COMPLETION_ONLY), ids=lambda value: str(value)[:30])
def test_completion(stack: Stack, field: str, value: Any) -> None:
    check(httpx.post(f"{stack.url}/v1/completions", json=COMPLETION | {field: value}, timeout=60), field)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"messages": NaN}', 400),
        (b"[" * 100_000, 400),
        (json.dumps(CHAT | {"messages": [{"role": "user", "content": "\ud800"}]}).encode(), 400),
        (b" " * (20 * 2**20), 413),
        (json.dumps(CHAT | {"messages": [{"role": "user", "content": "x" * (20 * 2**20)}]}).encode(), 413),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_bodies(stack: Stack, path: str, content: bytes, status: int) -> None:
    response = httpx.post(stack.url + path, content=content, headers={"content-type": "application/json"}, timeout=60)
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_too_long_for_the_context_has_openais_code(stack: Stack) -> None:
    words = [{"role": "user", "content": "word " * 300}]
    for body in (CHAT | {"messages": words}, CHAT | {"max_tokens": 255}, CHAT | {"messages": words * 1000}):
        response = httpx.post(f"{stack.url}/v1/chat/completions", json=body, timeout=60)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded", response.text


def test_unknown_paths_and_methods(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/v1/nothing").status_code == 404
    assert httpx.get(f"{stack.url}/v1/chat/completions").status_code == 405
    assert "error" in httpx.get(f"{stack.url}/v1/nothing").json()


async def test_a_request_beside_bad_ones_is_not_disturbed(stack: Stack) -> None:
    """The same greedy stream, alone and amid a hail of bad requests."""
    options: Any = {"model": "deepseek-coder", "prompt": "def sort_list(items):", "max_tokens": 300, "temperature": 0}
    bad = [COMPLETION | {field: value} for field, value in cases(SHARED | COMPLETION_ONLY) if value is not LONG]
    async with (
        openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=120) as client,
        httpx.AsyncClient(base_url=stack.url, timeout=60) as raw,
    ):

        async def stream() -> str:
            chunks = await client.completions.create(stream=True, **options, extra_body={"ignore_eos": True})
            return "".join([chunk.choices[0].text async for chunk in chunks])

        alone = await stream()
        beside, *responses = await asyncio.gather(
            stream(), *(raw.post("/v1/completions", json={**body, "model": "deepseek-coder"}) for body in bad)
        )
    assert beside == alone
    assert all(response.status_code < 500 for response in responses)
