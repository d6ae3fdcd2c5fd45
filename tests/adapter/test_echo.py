"""`echo`: a completion's text begins with its prompt."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import httpx
import openai
import pytest

from adapter.completions.echo import echoed
from adapter.completions.service import told_logprobs
from adapter.tensors import Delta, Generated, InferRequest, PromptToken
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.sse_reading import DONE, stream
from tests.adapter.test_completions_api import entry

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


def of_prompt(*tokens: bytes) -> list[dict[str, Any]]:
    """Ever less likely; the first has none."""
    return [
        {"token": token.decode(errors="replace"), "token_id": 0, "bytes": list(token), "logprob": -i or None, "top": []}
        for i, token in enumerate(tokens)
    ]


def scoring(num_choices: int = 1, finish: str = "stop", *said: str) -> Any:
    """What a model says that is asked for a prompt's log probabilities, and these words."""

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        # Its tokens are bytes, and it puts one before a text.
        text = seen.inputs.get("text_input", "")
        tokens = seen.inputs.get("input_ids") or text.encode()
        prompt = of_prompt(*([b"<s>"] if text else []), *(bytes([token]) for token in tokens))
        for part in (prompt[:2], prompt[2:]):
            if part:
                yield answer("", prompt_logprobs=[part])
        indices = range(num_choices)
        for word in said:
            entries = [[entry(word, -0.5, **{word: -0.5, "x": -2.0})] for _ in indices]
            yield answer(*[word] * num_choices, logprobs=entries, index=indices)
        yield answer(*[""] * num_choices, finish=[finish] * num_choices, index=indices)
        yield answer(index=[], usage=USAGE)

    return reply


def joined(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The text and the log probabilities of one choice's chunks."""
    parts = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    logprobs = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    return {"text": "".join(choice["text"] for choice in choices), "logprobs": logprobs}


def answers(http: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Text and log probabilities of each choice, which are the same streamed and whole."""
    whole = [joined([choice]) for choice in http.post(PATH, json=body).json()["choices"]]
    *chunks, done = stream(http, PATH, body)
    assert done == DONE
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [joined([choice for choice in choices if choice["index"] == i]) for i in range(len(whole))] == whole
    return whole


def test_the_prompt_s_log_probabilities_come_first(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = scoring(1, "length", "!", "?")
    [choice] = answers(http, {"prompt": "né\n", "echo": True, "logprobs": 2})
    assert choice == {
        "text": "né\n!?",
        "logprobs": {
            "tokens": ["<s>", "n", "\ufffd", "\ufffd", "\n", "!", "?"],
            "token_logprobs": [None, -1, -2, -3, -4, -0.5, -0.5],
            "top_logprobs": [
                *(None, {"n": -1}, {"\ufffd": -2}, {"\ufffd": -3}, {"\n": -4}),
                *({"!": -0.5, "x": -2.0}, {"?": -0.5, "x": -2.0}),
            ],
            "text_offset": [0, 0, 1, 1, 2, 3, 4],
        },
    }
    assert [(seen.sampling["logprobs"], seen.sampling["prompt_logprobs"]) for seen in triton.seen] == [(2, 2)] * 2


@pytest.mark.parametrize(
    ("text", "tokens", "offsets"),
    [
        ("<s>a", [b"<s>", b"<s>", b"a"], [0, 0, 3]),
        ("<s>a", [b"<s>", b"a"], [0, 3]),
        ("", [b"<s>"], [0]),
        ("a", [b"a"], [0]),
    ],
)
def test_what_a_tokenizer_puts_before_a_text_is_told_from_the_text(
    http: httpx.Client, triton: FakeTriton, text: str, tokens: list[bytes], offsets: list[int]
) -> None:
    triton.replies(answer("", prompt_logprobs=[of_prompt(*tokens)]), answer("", finish="length", usage=USAGE))
    [choice] = answers(http, {"prompt": text, "echo": True, "logprobs": 0, "max_tokens": 0})
    assert choice["logprobs"]["text_offset"] == offsets


def test_only_with_echo(http: httpx.Client, triton: FakeTriton) -> None:
    http.post(PATH, json={"prompt": "a", "logprobs": 0})
    http.post(PATH, json={"prompt": "a", "echo": True})
    assert ["prompt_logprobs" in seen.sampling for seen in triton.seen] == [False, False]


def test_every_choice_of_every_prompt_has_them(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = scoring(2, "length", "!")
    choices = answers(http, {"prompt": ["a", "bc"], "n": 2, "echo": True, "logprobs": 0})
    assert [choice["text"] for choice in choices] == ["a!", "a!", "bc!", "bc!"]
    tokens = [choice["logprobs"]["tokens"] for choice in choices]
    assert tokens == [["<s>", "a", "!"]] * 2 + [["<s>", "b", "c", "!"]] * 2
    assert choices[0]["logprobs"]["text_offset"] == [0, 0, 1]


def test_scoring_generates_nothing(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = scoring(1, "length")
    body = {"prompt": [[72, 105], [72, 105]], "echo": True, "logprobs": 1, "max_tokens": 0}
    for choice in answers(http, body):
        assert choice["text"] == "Hi"
        assert choice["logprobs"] == {
            "tokens": ["H", "i"],
            "token_logprobs": [None, -1],
            "top_logprobs": [None, {"i": -1}],
            "text_offset": [0, 1],
        }
    whole = http.post(PATH, json=body).json()
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["length"] * 2
    assert {seen.sampling["max_tokens"] for seen in triton.seen if "task" not in seen.inputs} == {0}


def test_of_tokens_that_are_written_alike_the_likeliest_is_told(http: httpx.Client, triton: FakeTriton) -> None:
    """So that a token is the likeliest only where nothing in its place is likelier."""
    said = entry("\ufffd", -5.0, **{"\ufffd": -0.5})
    triton.replies(answer("", logprobs=[[said]], finish="stop", usage=USAGE))
    [choice] = http.post(PATH, json={"prompt": "a", "logprobs": 1}).json()["choices"]
    assert choice["logprobs"]["token_logprobs"] == [-5.0]
    assert choice["logprobs"]["top_logprobs"] == [{"\ufffd": -0.5}]


def test_a_model_that_does_not_say_them_fails(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(answer("Hello", finish="stop", usage=USAGE))
    response = http.post(PATH, json={"prompt": "a", "echo": True, "logprobs": 1})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "broken_answer")


def test_not_of_what_surrounds_a_gap(http: httpx.Client, triton: FakeTriton) -> None:
    response = http.post(PATH, json={"prompt": "a", "suffix": "b", "echo": True, "logprobs": 1})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "suffix")
    assert triton.seen == []


def test_the_sdk(sdk: openai.OpenAI) -> None:
    whole = sdk.completions.create(model="deepseek-coder", prompt="Say: ", echo=True)
    assert whole.choices[0].text == "Say: Hello world"


async def test_others_have_their_turn_while_a_long_prompt_is_told() -> None:
    tokens, num_turns = [PromptToken("a", b"a", -1.0, {"a": -1.0})] * 3000, 0

    async def responses() -> AsyncGenerator[Generated, None]:
        for _ in range(3):
            yield Generated([Delta(0, "", prompt_tokens=tokens)])
        yield Generated([Delta(0, ""), Delta(1, "")])

    async def text_of(generation: InferRequest) -> str:
        return str(generation.prompt)

    async def take_turns() -> None:
        nonlocal num_turns
        while True:
            await asyncio.sleep(0)
            num_turns += 1

    others = asyncio.create_task(take_turns())
    generation = InferRequest("id", "coder", "a" * 9000, b"", 2, False)
    parts = [said async for said in echoed([generation], responses(), text_of, has_logprobs=True)]
    told = [delta.prompt_tokens or () for said in parts for delta in said.deltas]
    assert (sum(map(len, told)), max(map(len, told))) == (2 * 9000, 512)
    assert num_turns >= 3 + 2 * 9000 // 512
    before = num_turns
    assert len((await told_logprobs(tokens * 3)).tokens) == 9000
    assert num_turns - before >= 9000 // 2048
    others.cancel()
