"""What a user of the OpenAI SDK sees, from the bundled demo checkpoint: asserted on meaning."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest
import sseclient
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.coder.tokenizer import FIM_BEGIN, FIM_END, FIM_HOLE
from tests.e2e.conftest import ARCHITECTURES, OCR_ARCHITECTURE, REASONER
from tests.e2e.stack import PROJECT, Stack
from tests.e2e.triton_grpc import describe

QUESTION: Any = [{"role": "user", "content": "Write a Python function to sort a list"}]
MODEL = "deepseek-coder"


def sorts(reply: str) -> bool:
    """Whether the reply's fenced code runs, and defines a function that sorts a list."""
    match = re.search(r"```python\n(.*?)```", reply, re.DOTALL)
    assert match, f"no code in {reply!r}"
    names: dict[str, Any] = {}
    exec(match[1], names)
    function = next(value for name, value in names.items() if callable(value) and not name.startswith("_"))
    numbers = [3, 1, 2]
    return (function(numbers) or numbers) == [1, 2, 3]


@pytest.mark.parametrize("temperature", [0, openai.omit])
def test_it_writes_a_function_that_sorts(client: openai.OpenAI, temperature: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=temperature, seed=1)
    choice = answer.choices[0]
    assert sorts(choice.message.content or "")
    assert (choice.message.role, choice.finish_reason, answer.object) == ("assistant", "stop", "chat.completion")
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_stream_is_the_same_answer_in_pieces(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    *pieces, last = chunks
    assert pieces[0].choices[0].delta.role == "assistant"
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece.choices[0].delta.content]) > 1  # a busy machine merges many
    assert [piece.choices[0].finish_reason for piece in pieces][-2:] == [None, "stop"]
    assert last.choices == []
    assert last.usage
    assert whole.usage
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens


async def test_the_async_client_streams_many_at_once(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:

        async def ask() -> str:
            stream = await client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        replies = await asyncio.gather(*(ask() for _ in range(8)))
    assert all(sorts(reply) for reply in replies)


def test_raw_events(stack: Stack) -> None:
    body = {"model": MODEL, "messages": QUESTION, "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{stack.url}/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [event.data for event in sseclient.SSEClient(response.iter_bytes()).events()]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert sorts("".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks))


def test_completions_take_text_lists_and_ids(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}
    text = client.completions.create(prompt="def add(a, b):\n", **options)
    several = client.completions.create(prompt=["def add(a, b):\n", "import os\n"], **options)
    assert text.object == "text_completion"
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.choices[0].text == text.choices[0].text
    ids = client.completions.create(prompt=[40, 41, 42], **options)
    lists = client.completions.create(prompt=[[40, 41, 42], [50, 51]], **options)
    assert lists.choices[0].text == ids.choices[0].text
    assert ids.usage
    assert lists.usage
    assert (ids.usage.prompt_tokens, lists.usage.prompt_tokens) == (3, 5)
    chunks = list(client.completions.create(prompt="def add(a, b):\n", stream=True, **options))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text.choices[0].text


def test_a_gap_is_filled(client: openai.OpenAI) -> None:
    before, after = "def add(a, b):\n    ", "\n\nprint(add(1, 2))\n"
    options: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 40}
    filled = client.completions.create(prompt=before, suffix=after, **options).choices[0]
    as_raw_text = client.completions.create(prompt=f"{FIM_BEGIN}{before}{FIM_HOLE}{after}{FIM_END}", **options)
    assert filled.text == as_raw_text.choices[0].text
    assert filled.finish_reason == "stop"
    ast.parse(before + filled.text + after)


def test_a_checkpoint_without_tokens_for_gaps_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="fills no gaps") as caught:
        client.completions.create(model=ARCHITECTURES[0], prompt="a", suffix="b")
    assert caught.value.param == "suffix"


def test_an_answer_goes_on_from_its_beginning(stack: Stack) -> None:
    """As DeepSeek's documentation of chat prefix completion has it."""
    begun = {"role": "assistant", "content": "```python\n", "prefix": True}
    options: dict[str, Any] = {"messages": [*QUESTION, begun], "stop": ["```"], "temperature": 0}
    with openai.OpenAI(base_url=f"{stack.url}/beta", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model="deepseek-chat", **options)
        content = answer.choices[0].message.content or ""
        assert sorts(f"```python\n{content}```")
        chunks = client.chat.completions.create(model="deepseek-chat", stream=True, **options)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == content


class Person(pydantic.BaseModel):
    name: str
    age: int
    languages: list[str]


@pytest.mark.parametrize("model", [MODEL, "llama", "deepseek_v2"])
def test_an_answer_is_of_the_schema_it_was_asked_for(client: openai.OpenAI, model: str) -> None:
    question: Any = [{"role": "user", "content": "Return a JSON object with name Ada and age 36"}]
    schema: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    for seed in range(3):
        answer = client.chat.completions.create(
            model=model, messages=question, response_format=schema, max_tokens=80, temperature=1.5, seed=seed
        )
        assert Person.model_validate_json(answer.choices[0].message.content or "")
        assert answer.choices[0].finish_reason in ("stop", "length")
    whole = client.chat.completions.create(
        model=model, messages=question, response_format={"type": "json_object"}, max_tokens=80, seed=1
    )
    assert isinstance(json.loads(whole.choices[0].message.content or ""), dict)


def test_a_schema_that_cannot_be_enforced_is_refused(client: openai.OpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "sprocket"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=QUESTION, response_format=schema)
    assert caught.value.param == "response_format.json_schema.schema"


def test_completions_are_held_to_forms_too(client: openai.OpenAI) -> None:
    for extra, pattern in (
        ({"guided_regex": "[0-9]{3}-[a-z]{2}"}, "[0-9]{3}-[a-z]{2}"),
        ({"guided_choice": ["positive", "negative"]}, "positive|negative"),
        ({"guided_grammar": 'start: "yes" | "no"'}, "yes|no"),
    ):
        answer = client.completions.create(model=MODEL, prompt="a", max_tokens=20, temperature=1.5, extra_body=extra)
        assert re.fullmatch(pattern, answer.choices[0].text)
        assert answer.choices[0].finish_reason == "stop"


def test_choices_logprobs_and_stop(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, n=3, seed=5, logprobs=True, top_logprobs=2, stop=["```\n", "print"]
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert "print" not in (choice.message.content or "")
        assert choice.logprobs
        assert choice.logprobs.content
        entry = choice.logprobs.content[0]
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 2
        assert bytes(entry.bytes or []).decode() == entry.token
    completion = client.completions.create(model=MODEL, prompt="def f(", logprobs=2, temperature=0, max_tokens=4)
    logprobs = completion.choices[0].logprobs
    assert logprobs
    assert "".join(logprobs.tokens or []) == completion.choices[0].text
    assert len(logprobs.top_logprobs or []) == 4


def test_every_sampling_parameter_has_its_effect(client: openai.OpenAI) -> None:
    def complete(**options: Any) -> openai.types.Completion:
        extra = {name: options.pop(name) for name in EXTRA & set(options)}
        settings = {"temperature": 0, "max_tokens": 20, "prompt": "def add(a, b):\n", **options}
        return client.completions.create(model=MODEL, **settings, extra_body=extra)

    plain = complete(ignore_eos=True)
    text = plain.choices[0].text
    assert plain.choices[0].finish_reason == "length"
    assert complete(max_tokens=5, ignore_eos=True).usage.completion_tokens == 5  # type: ignore[union-attr]
    hot = {"temperature": 2.0, "top_p": 1.0, "ignore_eos": True}
    assert complete(**hot, seed=1).choices[0].text == complete(**hot, seed=1).choices[0].text
    assert complete(**hot, seed=1).choices[0].text != complete(**hot, seed=2).choices[0].text
    for narrowing in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert complete(**(hot | narrowing), seed=1).choices[0].text == text
    word = text.split()[0]
    stopped = complete(stop=word, ignore_eos=True)
    assert (word not in stopped.choices[0].text, stopped.choices[0].finish_reason) == (True, "stop")
    token = first_token(text)
    assert complete(logit_bias={str(token): -100}, ignore_eos=True).choices[0].text != text
    assert complete(stop_token_ids=[token], ignore_eos=True).choices[0].text == ""
    assert complete(stop_token_ids=[token], min_tokens=8).usage.completion_tokens >= 8  # type: ignore[union-attr]
    long = {"max_tokens": 120, "ignore_eos": True}
    unpenalized = complete(**long).choices[0].text
    for penalty in ({"presence_penalty": 2}, {"frequency_penalty": 2}, {"repetition_penalty": 2.0}):
        assert complete(**long, **penalty).choices[0].text != unpenalized


EXTRA = {"top_k", "min_p", "min_tokens", "ignore_eos", "repetition_penalty", "stop_token_ids"}


def first_token(text: str) -> int:
    """The id of a completion's first token: the one whose ban changes it."""
    tokenizer = AutoTokenizer.from_pretrained(PROJECT / "demo" / "coder")
    return int(tokenizer.encode(text, add_special_tokens=False)[0])


def test_embeddings(client: openai.OpenAI) -> None:
    """Of the demo: a text is nearest to itself, alone or among others."""
    texts = ["def add(a, b):\n    return a + b\n", "def add(x, y):\n    return x + y\n", "import os\nimport sys\n"]
    several = client.embeddings.create(model=MODEL, input=texts)
    plain = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float")
    add, same, other = (item.embedding for item in several.data)

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(add, add) == pytest.approx(1, abs=1e-5)
    assert likeness(add, plain.data[0].embedding) == pytest.approx(1, abs=1e-3)  # batches round otherwise
    assert likeness(add, same) > likeness(add, other)
    assert several.usage.total_tokens > plain.usage.total_tokens > 0
    with pytest.raises(openai.BadRequestError, match="makes no embeddings") as caught:
        client.embeddings.create(model="deepseek-ocr", input="a")
    assert caught.value.param == "model"


def test_tokens_and_what_they_say(client: openai.OpenAI, http: httpx.Client) -> None:
    tokenizer = AutoTokenizer.from_pretrained(PROJECT / "demo" / "coder")
    text = "def add(a, b):\n"
    tokens = http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    assert tokens["tokens"] == tokenizer.encode(text, add_special_tokens=False)
    assert http.post("/detokenize", json={"tokens": tokens["tokens"]}).json() == {"prompt": text}
    chat = http.post("/tokenize", json={"messages": QUESTION}).json()
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=1)
    assert answer.usage
    assert chat["count"] == answer.usage.prompt_tokens


def test_a_completion_begins_with_its_prompt_if_it_shall(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}
    prompt = "def add(a, b):\n"
    plain = client.completions.create(prompt=prompt, **options)
    ids = AutoTokenizer.from_pretrained(PROJECT / "demo" / "coder").encode(prompt)
    for given in (prompt, ids):
        chunks = client.completions.create(prompt=given, echo=True, stream=True, **options)
        assert "".join(chunk.choices[0].text for chunk in chunks).endswith(prompt + plain.choices[0].text)
    assert (plain.system_fingerprint or "").startswith("fp_")


def test_prompts_are_scored_as_harnesses_ask_for_it(client: openai.OpenAI, checkpoints: dict[str, Path]) -> None:
    prompts = [[40, 41, 42, 43], [50 + i for i in range(150)]]
    options: dict[str, Any] = {"model": "llama", "temperature": 0, "logprobs": 1, "echo": True}
    scored = client.completions.create(prompt=prompts, max_tokens=1, **options)
    model = AutoModelForCausalLM.from_pretrained(checkpoints["llama"], dtype=torch.float32)
    for prompt, choice in zip(prompts, scored.choices, strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        assert choice.logprobs
        first, *others, generated = choice.logprobs.token_logprobs or []
        assert first is None
        assert others == pytest.approx(expected[range(len(others)), prompt[1:]].tolist(), abs=1e-3)
        assert generated == pytest.approx(float(expected[-1].max()), abs=1e-3)
        best = [max(top.values()) for top in (choice.logprobs.top_logprobs or [])[1:]]
        assert best == pytest.approx(expected.amax(-1).tolist(), abs=1e-3)
    text, n = "def add(a, b):\n", 2
    alone = client.completions.create(prompt=text, max_tokens=0, n=n, **options)
    chunks = list(client.completions.create(prompt=text, max_tokens=0, n=n, stream=True, **options))
    assert alone.usage
    assert (alone.usage.completion_tokens, [choice.finish_reason for choice in alone.choices]) == (0, ["length"] * n)
    for choice in alone.choices:
        assert choice.text == text == "".join((choice.logprobs and choice.logprobs.tokens) or [])
        streamed = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == choice.index]
        assert "".join(part.text for part in streamed) == text
        assert streamed[0].logprobs == choice.logprobs
        assert streamed[-1].finish_reason == "length"


@pytest.mark.parametrize("model", ["llama", REASONER])
def test_streams_that_share_a_feed_are_what_they_are_alone(client: openai.OpenAI, stack: Stack, model: str) -> None:
    """Many at a time, some of which begin before there is a feed, and some of which go away. In float32, where what
    else is in a batch changes no token."""
    questions = [f"Write function {number}." for number in range(24)]
    leaving = questions[::5]
    extra = {"ignore_eos": True} | ({"thinking_token_budget": 40} if model == REASONER else {})
    options: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 100, "extra_body": extra}
    num_fed = describe(stack, model)["num_fed"]

    def ask(question: str) -> tuple[str, str]:
        asked: Any = [{"role": "user", "content": question}]
        message = client.chat.completions.create(messages=asked, **options).choices[0].message
        return getattr(message, "reasoning_content", None) or "", message.content or ""

    def stream(question: str) -> tuple[str, str]:
        thought, text, asked = "", "", [{"role": "user", "content": question}]
        for number, chunk in enumerate(client.chat.completions.create(messages=asked, stream=True, **options)):
            thought += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
            text += chunk.choices[0].delta.content or ""
            if question in leaving and number == 1:  # the first tokens go at once, whatever the others wait
                break
        return thought, text

    with ThreadPoolExecutor(8) as pool:
        streamed = dict(zip(questions, pool.map(stream, questions), strict=True))
    assert describe(stack, model)["num_fed"] > num_fed + 100
    for question, said in streamed.items():
        whole = ask(question)
        assert bool(whole[0]) == (model == REASONER)
        assert whole[1]
        assert all(part.startswith(beginning) for part, beginning in zip(whole, said, strict=True))
        assert (said == whole) == (question not in leaving)


def test_models(client: openai.OpenAI) -> None:
    ids = {MODEL, "deepseek-ocr", *ARCHITECTURES, REASONER, OCR_ARCHITECTURE, "narrow"}
    assert {model.id for model in client.models.list()} == ids
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


def test_health(stack: Stack) -> None:
    health = stack.get("/health")
    assert health["status"] == "healthy"
    assert health["model"] == MODEL
    assert health["checkpoint"].endswith("demo/coder")
    assert health["device"] in ("cpu", "cuda")
    assert stack.get("/health/live")
    assert stack.get("/health/ready")
