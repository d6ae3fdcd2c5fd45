"""`echo`: a completion's text begins with its prompt."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import openai
import pytest

from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.sse_reading import DONE, stream

PATH = "/v1/completions"


def numbered(num_choices: int) -> Any:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        for index in range(num_choices):
            yield answer(f"{index}", index=[index], finish="stop")
        yield answer(index=[], usage=USAGE)

    return reply


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("né", ["né0", "né1"]),
        (["a", ""], ["a0", "a1", "0", "1"]),
        ([72, 105], ["Hi0", "Hi1"]),
        ([[72], [105]], ["H0", "H1", "i0", "i1"]),
    ],
)
def test_every_choice_begins_with_its_prompt(
    http: httpx.Client, triton: FakeTriton, prompt: Any, texts: list[str]
) -> None:
    triton.reply = numbered(2)
    body = {"prompt": prompt, "n": 2, "echo": True}
    whole = http.post(PATH, json=body).json()
    assert [choice["text"] for choice in whole["choices"]] == texts
    assert {choice["finish_reason"] for choice in whole["choices"]} == {"stop"}
    *chunks, done = stream(http, PATH, body)
    assert done == DONE
    said = [""] * len(texts)
    for chunk in chunks:
        (choice,) = chunk["choices"]
        said[choice["index"]] += choice["text"]
    assert said == texts


def test_tokens_are_read_by_the_model_once_for_each_prompt(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = numbered(2)
    http.post(PATH, json={"prompt": [[72], [105]], "n": 2, "echo": True})
    tasks = [seen.inputs for seen in triton.seen if "task" in seen.inputs]
    assert sorted(tasks, key=lambda task: task["input_ids"]) == [
        {"task": "detokenize", "input_ids": [72]},
        {"task": "detokenize", "input_ids": [105]},
    ]


def test_what_fails_before_the_first_text_keeps_its_status(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(grpc.StatusCode.INVALID_ARGUMENT, "text_input: is too long")
    response = http.post(PATH, json={"prompt": "a", "echo": True, "stream": True})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")

    async def refuse(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input_ids: token 7 is outside the vocabulary")
        yield

    triton.says("Hello")
    triton.run_task = refuse
    response = http.post(PATH, json={"prompt": [7], "echo": True})
    assert (response.status_code, response.json()["error"]["message"]) == (
        400,
        "prompt: token 7 is outside the vocabulary",
    )


@pytest.mark.parametrize("logprobs", [0, 3])
def test_not_with_log_probabilities(http: httpx.Client, triton: FakeTriton, logprobs: int) -> None:
    response = http.post(PATH, json={"prompt": "a", "echo": True, "logprobs": logprobs})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "logprobs"
    assert triton.seen == []


def test_the_sdk(sdk: openai.OpenAI) -> None:
    whole = sdk.completions.create(model="deepseek-coder", prompt="Say: ", echo=True)
    assert whole.choices[0].text == "Say: Hello world"
