"""`POST /v1/completions`: prompts of every kind, many at a time."""

import re
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import httpx
import openai
import pytest

from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.sse_reading import DONE, stream

PATH = "/v1/completions"


def entry(token: str, logprob: float, **top: float) -> dict[str, Any]:
    alternatives = [{"token": t, "token_id": 1, "bytes": list(t.encode()), "logprob": p} for t, p in top.items()]
    return {"token": token, "token_id": 1, "bytes": list(token.encode()), "logprob": logprob, "top": alternatives}


def test_the_whole_answer_has_openai_s_shape(http: httpx.Client) -> None:
    body = http.post(PATH, json={"prompt": "once"}).json()
    assert re.fullmatch("cmpl-[0-9a-f]{32}", body.pop("id"))
    assert body.pop("created") > 1_700_000_000
    body.pop("system_fingerprint")
    assert body == {
        "object": "text_completion",
        "model": "deepseek-coder",
        "choices": [{"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}],
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


def test_the_stream(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("Hello", "", " world", finish="length")
    body = {"prompt": "once", "stream_options": {"include_usage": True}}
    *chunks, last, done = stream(http, PATH, body)
    assert done == DONE
    assert len({chunk.pop("id") for chunk in chunks}) == 1
    assert len({chunk.pop("created") for chunk in chunks}) == 1
    assert len({chunk.pop("system_fingerprint") for chunk in chunks}) == 1

    def chunk(text: str, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return {"object": "text_completion", "model": "deepseek-coder", "choices": [choice], "usage": None}

    assert chunks == [chunk("Hello"), chunk(" world", "length")]
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3


def test_what_the_model_gets(http: httpx.Client, triton: FakeTriton) -> None:
    http.post(PATH, json={"prompt": "é"})
    http.post(PATH, json={"prompt": [1, 2, 2**31 - 1]})
    text, tokens = triton.seen
    common = {
        "stream": False,
        "exclude_input_in_output": True,
        "sampling_parameters": text.inputs["sampling_parameters"],
    }
    assert text.inputs == common | {"text_input": "é"}
    assert text.sampling == {"temperature": 0.7, "top_p": 0.95, "max_tokens": 16}
    assert tokens.inputs == common | {"input_ids": [1, 2, 2**31 - 1]}
    assert tokens.shapes["input_ids"] == [1, 3]


def echo(num_choices: int) -> Callable[[Seen, Any], AsyncIterator[Any]]:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        prompt = seen.inputs.get("text_input") or str(seen.inputs.get("input_ids"))
        for index in range(num_choices):
            yield answer(f"{prompt}{index}", index=[index], finish="stop")
        yield answer(index=[], usage=USAGE)

    return reply


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("a", ["a0", "a1"]),
        (["a"], ["a0", "a1"]),
        (["a", "b", "c"], ["a0", "a1", "b0", "b1", "c0", "c1"]),
        ([1, 2], ["[1, 2]0", "[1, 2]1"]),
        ([[1], [2, 3]], ["[1]0", "[1]1", "[2, 3]0", "[2, 3]1"]),
    ],
)
def test_prompts_and_choices_share_one_numbering(
    http: httpx.Client, triton: FakeTriton, prompt: Any, texts: list[str]
) -> None:
    triton.reply = echo(2)
    body = {"prompt": prompt, "n": 2, "stream_options": {"include_usage": True}}
    *chunks, last, done = stream(http, PATH, body)
    assert done == DONE
    choices = sorted((chunk["choices"][0]["index"], chunk["choices"][0]["text"]) for chunk in chunks)
    assert choices == list(enumerate(texts))
    num_prompts = len(texts) // 2
    assert last["usage"] == {
        "prompt_tokens": 5 * num_prompts,
        "completion_tokens": 3 * num_prompts,
        "total_tokens": 8 * num_prompts,
        "prompt_tokens_details": {"cached_tokens": 2 * num_prompts},
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_cache_hit_tokens": 2 * num_prompts,
        "prompt_cache_miss_tokens": 3 * num_prompts,
    }
    del body["stream_options"]
    whole = http.post(PATH, json=body).json()
    assert [(choice["index"], choice["text"]) for choice in whole["choices"]] == list(enumerate(texts))
    assert whole["usage"] == last["usage"]


def test_prompts_run_at_the_same_time(http: httpx.Client, triton: FakeTriton) -> None:
    gate = triton.hangs()
    result: list[httpx.Response] = []
    client = threading.Thread(target=lambda: result.append(http.post(PATH, json={"prompt": ["a", "b", "c"]})))
    client.start()
    for _ in range(3):
        assert triton.arrived.acquire(timeout=10)
    gate.open()
    client.join(10)
    assert [choice["finish_reason"] for choice in result[0].json()["choices"]] == ["stop"] * 3


@pytest.mark.parametrize("streamed", [False, True])
def test_one_failing_prompt_fails_all_and_cancels_the_others(
    http: httpx.Client, triton: FakeTriton, streamed: bool
) -> None:
    waiting = triton.hangs()
    hang = triton.reply

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if seen.inputs["text_input"] == "bad":
            while len(triton.seen) < 3:
                await triton.next_arrival.wait()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "text_input: is bad")
        async for response in hang(seen, context):
            yield response

    triton.reply = reply
    response = http.post(PATH, json={"prompt": ["a", "bad", "c"], "stream": streamed})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "prompt: is bad"
    for seen in triton.seen:
        if seen.inputs["text_input"] != "bad":
            assert seen.cancelled.wait(10)
    assert waiting.reached.is_set()


def test_logprobs(http: httpx.Client, triton: FakeTriton) -> None:
    first = [entry("He", -0.5, He=-0.5, Ho=-1.5), entry("llo", -0.25, y=-2.0)]
    second = [entry("!", -0.125)]
    triton.replies(answer("Hello", logprobs=[first]), answer("!", logprobs=[second], finish="stop", usage=USAGE))
    expected = {
        "tokens": ["He", "llo", "!"],
        "token_logprobs": [-0.5, -0.25, -0.125],
        "top_logprobs": [{"He": -0.5, "Ho": -1.5}, {"y": -2.0, "llo": -0.25}, {"!": -0.125}],
        "text_offset": [0, 2, 5],
    }
    whole = http.post(PATH, json={"prompt": "a", "logprobs": 2}).json()
    assert whole["choices"][0]["logprobs"] == expected
    *chunks, _ = stream(http, PATH, {"prompt": "a", "logprobs": 2})
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert {name: [value for part in parts for value in part[name]] for name in expected} == expected
    assert [seen.sampling["logprobs"] for seen in triton.seen] == [2, 2]


def test_logprobs_of_nothing(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(answer("", finish="length", usage=USAGE))
    [choice] = http.post(PATH, json={"prompt": "a", "logprobs": 2, "max_tokens": 0}).json()["choices"]
    assert choice["logprobs"] == {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def test_no_more_prompts_and_choices_than_the_settings_allow(serve: Callable[..., httpx.Client]) -> None:
    http = serve(max_prompts=2, max_choices=3)
    assert http.post(PATH, json={"prompt": ["a", "b"]}).status_code == 200
    for body, param in (({"prompt": ["a"] * 3}, "prompt"), ({"prompt": "a", "n": 4}, "n")):
        response = http.post(PATH, json=body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


def test_the_sdk_reads_it(sdk: openai.OpenAI) -> None:
    whole = sdk.completions.create(model="deepseek-coder", prompt=["a", "b"])
    assert [choice.text for choice in whole.choices] == ["Hello world"] * 2
    with sdk.completions.create(model="deepseek-coder", prompt="a", stream=True) as chunks:
        assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello world"
