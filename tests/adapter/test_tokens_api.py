"""`POST /tokenize` and `/detokenize`, in vLLM's shapes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from tests.adapter.fake_triton import FakeTriton, Seen, answer
from tests.adapter.test_tools import DEEP

TURNS = [{"role": "user", "content": "hi"}]
BEGUN = [*TURNS, {"role": "assistant", "content": "Well"}]
TOOL = {"type": "function", "function": {"name": "f"}}


def test_a_text(http: httpx.Client, triton: FakeTriton) -> None:
    response = http.post("/tokenize", json={"model": "deepseek-coder", "prompt": "né"})
    assert response.json() == {"count": 3, "max_model_len": 2048, "tokens": [110, 195, 169], "token_strs": None}
    assert triton.seen[0].inputs == {"task": "tokenize", "text_input": "né"}


@pytest.mark.parametrize("flag", [True, False])
def test_special_tokens_are_the_model_s_to_add(http: httpx.Client, triton: FakeTriton, flag: bool) -> None:
    http.post("/tokenize", json={"prompt": "a", "add_special_tokens": flag})
    assert triton.seen[0].inputs["add_special_tokens"] is flag


def test_tokens_as_they_are_spelt(http: httpx.Client) -> None:
    body = http.post("/tokenize", json={"prompt": "ab", "return_token_strs": True}).json()
    assert body["token_strs"] == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": TURNS},
        {"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": False},
        {"messages": TURNS, "tools": [TOOL], "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_a_chat_is_what_an_answer_would_begin_from(
    http: httpx.Client, triton: FakeTriton, body: dict[str, Any]
) -> None:
    assert http.post("/tokenize", json=body | {"add_special_tokens": False}).status_code == 200
    assert http.post("/v1/chat/completions", json=body).status_code == 200
    tokenized, answered = triton.seen
    assert tokenized.inputs == {"task": "tokenize", "chat": answered.inputs["chat"]}
    assert json.loads(tokenized.inputs["chat"])["messages"]


def test_tokens_and_back(http: httpx.Client, triton: FakeTriton) -> None:
    tokens = http.post("/tokenize", json={"prompt": "né"}).json()["tokens"]
    response = http.post("/detokenize", json={"model": "deepseek-coder", "tokens": tokens})
    assert response.json() == {"prompt": "né"}
    assert triton.seen[1].inputs == {"task": "detokenize", "input_ids": tokens}


@pytest.mark.parametrize(
    ("path", "body", "param", "sentence"),
    [
        ("/tokenize", {}, "prompt", "give either it or messages"),
        ("/tokenize", {"prompt": "a", "messages": TURNS}, "prompt", "give either it or messages"),
        ("/tokenize", {"prompt": "a", "tools": [TOOL]}, "tools", "is only for messages"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt", "only for messages"),
        ("/tokenize", {"messages": TURNS, "add_special_tokens": True}, "add_special_tokens", "a chat's template"),
        ("/tokenize", {"messages": TURNS, "continue_final_message": True}, "messages.0", "must be an assistant's"),
        ("/tokenize", {"messages": TURNS, "chat_template_kwargs": DEEP}, "chat_template_kwargs", "200 deep"),
        ("/tokenize", {"prompt": "a", "chat_template": "x"}, "chat_template", "is not supported by this server"),
        ("/tokenize", {"prompt": "a", "model": "gpt-4"}, "model", "there is no model 'gpt-4'"),
        ("/detokenize", {}, "tokens", "is required"),
        ("/detokenize", {"tokens": []}, "tokens", "at least 1"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0", "greater than or equal to 0"),
        ("/detokenize", {"tokens": ["a"]}, "tokens.0", "valid integer"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    http: httpx.Client, triton: FakeTriton, path: str, body: dict[str, Any], param: str, sentence: str
) -> None:
    response = http.post(path, json=body)
    assert response.status_code == (404 if param == "model" else 400)
    assert response.json()["error"]["param"] == param
    assert sentence in response.json()["error"]["message"]
    assert triton.seen == []


@pytest.mark.parametrize(
    ("path", "body", "text", "message"),
    [
        ("/detokenize", {"tokens": [7]}, "input_ids: token 7 is too large", "tokens: token 7 is too large"),
        ("/tokenize", {"prompt": "a"}, "text_input: is too long", "prompt: is too long"),
        ("/tokenize", {"messages": TURNS}, "chat: has no template", "messages: has no template"),
    ],
)
def test_what_the_model_refuses_is_told_in_the_client_s_words(
    http: httpx.Client, triton: FakeTriton, path: str, body: dict[str, Any], text: str, message: str
) -> None:
    async def refuse(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        yield

    triton.run_task = refuse
    assert http.post(path, json=body).json()["error"]["message"] == message


@pytest.mark.parametrize("said", [None, "[]", '{"tokens": 3}', "no JSON"])
def test_an_answer_that_is_not_understood(http: httpx.Client, triton: FakeTriton, said: str | None) -> None:
    async def odd(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if said is not None:
            yield answer(said)

    triton.run_task = odd
    response = http.post("/tokenize", json={"prompt": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "broken_answer")
