"""`POST /v1/chat/completions`: what reaches the model, and what reaches the client."""

import json
import re
from typing import Any

import grpc
import httpx
import openai
import pytest

from tests.adapter.fake_triton import USAGE, FakeTriton, answer
from tests.adapter.sse_reading import DONE, stream

PATH = "/v1/chat/completions"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
ENTRIES = [
    {
        "token": "Hé",
        "token_id": 7,
        "bytes": [72, 195, 169],
        "logprob": -0.5,
        "top": [{"token": "Ho", "token_id": 8, "bytes": [72, 111], "logprob": -0.25}],
    }
]
OPENAI_ENTRIES = [
    {
        "token": "Hé",
        "bytes": [72, 195, 169],
        "logprob": -0.5,
        "top_logprobs": [{"token": "Ho", "bytes": [72, 111], "logprob": -0.25}],
    }
]


def test_the_whole_answer_has_openai_s_shape(http: httpx.Client) -> None:
    response = http.post(PATH, json={"messages": MESSAGES})
    assert response.status_code == 200
    body = response.json()
    assert re.fullmatch("chatcmpl-[0-9a-f]{32}", body.pop("id"))
    assert body.pop("created") > 1_700_000_000
    body.pop("system_fingerprint")
    assert body == {
        "object": "chat.completion",
        "model": "deepseek-coder",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello world", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
            "prompt_cache_hit_tokens": 2,
            "prompt_cache_miss_tokens": 3,
        },
    }


def test_the_stream_is_role_then_text_then_finish_then_done(http: httpx.Client) -> None:
    *chunks, done = stream(http, PATH, {"messages": MESSAGES})
    assert done == DONE
    assert len({chunk.pop("id") for chunk in chunks}) == 1
    assert len({chunk.pop("created") for chunk in chunks}) == 1
    assert len({chunk.pop("system_fingerprint") for chunk in chunks}) == 1

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {"object": "chat.completion.chunk", "model": "deepseek-coder", "choices": [choice]}

    assert chunks == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hello"}),
        chunk({"content": " world"}),
        chunk({}, "stop"),
    ]


def test_usage_comes_last_when_asked_for(http: httpx.Client) -> None:
    *chunks, last, done = stream(http, PATH, {"messages": MESSAGES, "stream_options": {"include_usage": True}})
    assert done == DONE
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 8
    *_, last, _ = stream(http, PATH, {"messages": MESSAGES, "stream_options": {"include_usage": False}})
    assert "usage" not in last


def test_the_role_is_sent_with_the_first_response_even_if_it_has_no_text(
    http: httpx.Client, triton: FakeTriton
) -> None:
    gate = triton.hangs("")
    with http.stream("POST", PATH, json={"messages": MESSAGES, "stream": True}) as response:
        assert response.status_code == 200
        body = response.iter_bytes()
        assert b'"role":"assistant"' in next(body)
        gate.open()
        assert b"".join(body).endswith(b"data: [DONE]\n\n")


def test_any_text_survives(http: httpx.Client, triton: FakeTriton) -> None:
    texts = ['"quoted"\n\n', "data: x\r\n", "\u2028 \x00 é 漢 🎉", "", "\\n"]
    triton.says(*texts)
    *chunks, _ = stream(http, PATH, {"messages": MESSAGES})
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "".join(texts)
    triton.says("".join(texts))
    whole = http.post(PATH, json={"messages": MESSAGES}).json()
    assert whole["choices"][0]["message"]["content"] == "".join(texts)


def test_interleaved_choices(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(
        answer("a", "x", index=[0, 2]),
        answer("B", index=[1]),
        answer("b", "", index=[0, 1], finish=["", "stop"]),
        answer("c", "y", index=[0, 2], finish=["length", "stop"], usage=USAGE),
    )
    *chunks, _ = stream(http, PATH, {"messages": MESSAGES, "n": 3})
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:3]] == ["assistant"] * 3
    texts = {0: "", 1: "", 2: ""}
    finishes = {}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            finishes[choice["index"]] = choice["finish_reason"]
    assert texts == {0: "abc", 1: "B", 2: "xy"}
    assert finishes == {0: "length", 1: "stop", 2: "stop"}
    assert triton.seen[0].sampling["n"] == 3

    whole = http.post(PATH, json={"messages": MESSAGES, "n": 3}).json()["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in whole] == [
        (0, "abc", "length"),
        (1, "B", "stop"),
        (2, "xy", "stop"),
    ]


def test_logprobs(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(
        answer("", logprobs=[ENTRIES]),  # of text that is held back
        answer("Hé", logprobs=[[]]),
        answer("!", logprobs=[ENTRIES], finish="stop", usage=USAGE),
    )
    body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 1}
    *chunks, _ = stream(http, PATH, body)
    assert [(c["choices"][0]["delta"].get("content"), c["choices"][0]["logprobs"]) for c in chunks[1:]] == [
        ("", {"content": OPENAI_ENTRIES, "refusal": None}),
        ("Hé", None),
        ("!", {"content": OPENAI_ENTRIES, "refusal": None}),
        (None, None),
    ]
    assert triton.seen[0].sampling["logprobs"] == 1
    whole = http.post(PATH, json=body).json()["choices"][0]
    assert whole["logprobs"] == {"content": OPENAI_ENTRIES * 2, "refusal": None}
    http.post(PATH, json={"messages": MESSAGES, "logprobs": True})
    assert triton.seen[-1].sampling["logprobs"] == 0
    http.post(PATH, json={"messages": MESSAGES, "logprobs": False})
    assert "logprobs" not in triton.seen[-1].sampling


def test_what_the_model_gets(http: httpx.Client, triton: FakeTriton) -> None:
    http.post(PATH, json={"messages": MESSAGES}, headers={"x-request-id": "abc"})
    (seen,) = triton.seen
    assert seen.model == "coder"
    assert seen.id == "abc"
    # Triton 24.10 crashes on errors that it sends as a gRPC status.
    assert "triton_grpc_error" not in seen.metadata
    assert seen.inputs.keys() == {"chat", "stream", "sampling_parameters"}
    assert set(map(tuple, seen.shapes.values())) == {(1, 1)}
    assert json.loads(seen.inputs["chat"]) == {"messages": MESSAGES}
    assert seen.inputs["stream"] is False
    assert seen.sampling == {"temperature": 0.7, "top_p": 0.95}
    stream(http, PATH, {"messages": MESSAGES})
    assert triton.seen[-1].inputs["stream"] is True


def test_messages_are_flattened(http: httpx.Client, triton: FakeTriton) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {
            "role": "assistant",
            "content": "c",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": [],
        },
        {"role": "user", "content": [], "name": "ann"},
    ]
    assert http.post(PATH, json={"messages": messages}).status_code == 200
    assert json.loads(triton.seen[0].inputs["chat"])["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": ""},
    ]


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6, "max_tokens": 6}, 6),
        ({"max_completion_tokens": None, "max_tokens": 7}, 7),
    ],
)
def test_max_tokens(http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], max_tokens: int | None) -> None:
    assert http.post(PATH, json={"messages": MESSAGES} | fields).status_code == 200
    assert triton.seen[0].sampling.get("max_tokens") == max_tokens


def test_the_sdk_reads_it(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="deepseek-coder", messages=MESSAGES)
    assert whole.choices[0].message.content == "Hello world"
    assert whole.usage is not None and whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 2
    # An answer may be sent back as it came.
    again = sdk.chat.completions.create(
        model="deepseek-coder", messages=[*MESSAGES, whole.choices[0].message, *MESSAGES]
    )
    assert again.choices[0].finish_reason == "stop"
    with sdk.chat.completions.create(
        model="deepseek-coder", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        *texts, last = list(chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in texts) == "Hello world"
    assert last.usage is not None and last.usage.completion_tokens == 3


async def test_the_async_sdk_reads_it(async_sdk: openai.AsyncOpenAI) -> None:
    whole = await async_sdk.chat.completions.create(model="deepseek-coder", messages=MESSAGES)
    assert whole.choices[0].message.content == "Hello world"
    text = ""
    async with async_sdk.chat.completions.stream(model="deepseek-coder", messages=MESSAGES) as events:
        async for event in events:
            if event.type == "content.delta":
                text += event.delta
    assert text == "Hello world"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_length_that_the_model_refuses(http: httpx.Client, triton: FakeTriton, name: str, streamed: bool) -> None:
    triton.fails(grpc.StatusCode.INVALID_ARGUMENT, "max_tokens: exceeds the context of 9 tokens")
    error = http.post(PATH, json={"messages": MESSAGES, name: 99, "stream": streamed}).json()["error"]
    assert (error["param"], error["message"]) == (name, f"{name}: exceeds the context of 9 tokens")
