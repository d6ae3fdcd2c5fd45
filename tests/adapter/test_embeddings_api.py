"""`POST /v1/embeddings`, as the OpenAI SDK and others ask for them."""

import base64
import struct
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import httpx
import openai
import pytest

from tests.adapter.fake_triton import FakeTriton, Gate, Seen, answer, embedding, run_task

PATH = "/v1/embeddings"


def vector(num_tokens: int) -> list[float]:
    """What the fake says of so many tokens, in float32."""
    return list(struct.unpack("<3f", struct.pack("<3f", num_tokens, -0.5, 0.1)))


@pytest.mark.parametrize(
    ("given", "nums_tokens"),
    [("one", [3]), (["a", "né", "abcd"], [1, 3, 4]), ([7, 8], [2]), ([[7], [8, 9, 10]], [1, 3])],
)
def test_each_input_has_its_embedding(
    http: httpx.Client, triton: FakeTriton, given: Any, nums_tokens: list[int]
) -> None:
    body = http.post(PATH, json={"input": given}).json()
    assert body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector(num_tokens)}
            for index, num_tokens in enumerate(nums_tokens)
        ],
        "model": "deepseek-coder",
        "usage": {"prompt_tokens": sum(nums_tokens), "total_tokens": sum(nums_tokens)},
    }
    assert {seen.inputs["task"] for seen in triton.seen} == {"embed"}
    assert {seen.model for seen in triton.seen} == {"coder"}


def test_the_order_is_the_inputs_not_the_answers(http: httpx.Client, triton: FakeTriton) -> None:
    async def last_first(seen: Seen, context: Any) -> AsyncIterator[Any]:
        while seen.inputs["text_input"] == "a" and len(triton.seen) < 2:
            await triton.next_arrival.wait()
        async for response in run_task(seen, context):
            yield response

    triton.run_task = last_first
    data = http.post(PATH, json={"input": ["a", "bcd"]}).json()["data"]
    assert [(item["index"], item["embedding"][0]) for item in data] == [(0, 1), (1, 3)]


def test_base64_is_little_endian_float32(http: httpx.Client) -> None:
    body = http.post(PATH, json={"input": "one", "encoding_format": "base64"}).json()
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert list(struct.unpack("<3f", raw)) == vector(3)


@pytest.mark.parametrize("encoding_format", [openai.omit, "float", "base64"])
def test_the_sdk(sdk: openai.OpenAI, encoding_format: Any) -> None:
    """It asks for base64 where it is told nothing, and decodes it."""
    answered = sdk.embeddings.create(
        model="deepseek-coder", input=["a", "bc"], encoding_format=encoding_format, user="u", dimensions=3
    )
    if encoding_format == "base64":
        assert isinstance(answered.data[0].embedding, str)
    else:
        assert [item.embedding for item in answered.data] == [vector(1), vector(2)]
    assert answered.usage.prompt_tokens == answered.usage.total_tokens == 3


@pytest.mark.parametrize("base", ["", "/beta"])
def test_below_deepseek_s_base_urls_too(http: httpx.Client, base: str) -> None:
    assert http.post(f"{base}/embeddings", json={"input": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({}, "input", "is required"),
        ({"input": []}, "input", "at least 1"),
        ({"input": [[]]}, "input.0", "at least 1"),
        ({"input": [[1], "a"]}, "input.1", "list"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", '"int8" is not supported'),
        ({"input": "a", "dimensions": 2}, "dimensions", "this model's embeddings have 3; leave it out"),
        ({"input": "a", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"input": "a", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens", "is not supported by this server"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    http: httpx.Client, body: dict[str, Any], param: str, sentence: str
) -> None:
    response = http.post(PATH, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert sentence in response.json()["error"]["message"]


def test_no_more_inputs_than_the_settings_allow(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(max_prompts=2)
    assert http.post(PATH, json={"input": ["a"] * 2}).status_code == 200
    response = http.post(PATH, json={"input": ["a"] * 3})
    assert response.json()["error"]["message"] == "input: must be at most 2 texts; send them in parts"
    assert len(triton.seen) == 2


@pytest.mark.parametrize(
    ("text", "param", "sentence", "code"),
    [
        ("text_input: it holds no tokens; send at least one", "input", "holds no tokens", "invalid_value"),
        ("input_ids: 9 tokens in the context of 8", "input", "9 tokens", "context_length_exceeded"),
        ("unexpected inference input 'task' for model 'ocr'", "model", "makes no embeddings", "invalid_value"),
    ],
)
def test_what_the_model_refuses_is_told_in_the_client_s_words(
    http: httpx.Client, triton: FakeTriton, text: str, param: str, sentence: str, code: str
) -> None:
    async def refuse(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        yield

    triton.run_task = refuse
    error = http.post(PATH, json={"input": ["a", "b"]}).json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error["message"].startswith(f"{param}: ")
    assert sentence in error["message"]


def test_one_that_fails_cancels_the_others(http: httpx.Client, triton: FakeTriton) -> None:
    gate = Gate(triton.loop)

    async def one_fails(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if seen.inputs["text_input"] == "bad":
            while len(triton.seen) < 2:
                await triton.next_arrival.wait()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "text_input: is bad")
        await gate.passed()
        yield embedding([1.0], 1)

    triton.run_task = one_fails
    assert http.post(PATH, json={"input": ["good", "bad"]}).status_code == 400
    (good,) = (seen for seen in triton.seen if seen.inputs["text_input"] == "good")
    assert good.cancelled.wait(10)


def test_a_client_that_goes_away_cancels_it(http: httpx.Client, triton: FakeTriton) -> None:
    gate = Gate(triton.loop)

    async def slow(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await gate.passed()
        yield embedding([1.0], 1)

    def ask() -> None:
        with pytest.raises(httpx.ReadTimeout):
            http.post(PATH, json={"input": "a"}, timeout=0.5)

    triton.run_task = slow
    client = threading.Thread(target=ask)
    client.start()
    assert triton.arrived.acquire(timeout=10)
    assert triton.seen[0].cancelled.wait(10)
    client.join(10)


@pytest.mark.parametrize("broken", [answer("", finish="stop", usage=(1, 0, 0)), embedding([], 1), None])
def test_an_answer_without_one(http: httpx.Client, triton: FakeTriton, broken: Any) -> None:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if broken:
            yield broken

    triton.run_task = reply
    response = http.post(PATH, json={"input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "broken_answer")
