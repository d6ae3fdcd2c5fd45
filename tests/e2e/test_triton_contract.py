"""The tensor contract, over plain gRPC with Triton's own client."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.e2e.conftest import REASONER
from tests.e2e.stack import Stack
from tests.e2e.triton_grpc import describe, infer, open_feed

GREEDY = {"temperature": 0, "max_tokens": 10, "ignore_eos": True}


def test_streamed_and_whole_are_the_same_text(stack: Stack) -> None:
    streamed = infer(stack, text_input="def add(a, b):", sampling_parameters=GREEDY)
    assert len(streamed) > 1
    assert [set(response) for response in streamed[:-1]] == [{"text_output"}] * (len(streamed) - 1)
    counts = {"num_input_tokens", "num_output_tokens", "num_cached_tokens"}
    assert set(streamed[-1]) == {"text_output", "finish_reason", *counts}
    [whole] = infer(
        stack, text_input="def add(a, b):", sampling_parameters=GREEDY, stream=False, exclude_input_in_output=True
    )
    text = b"".join(response["text_output"][0] for response in streamed)
    assert whole["text_output"] == [text]
    assert (whole["num_output_tokens"], whole["finish_reason"]) == ([10], [b"length"])


def test_the_prompt_comes_back_unless_excluded(stack: Stack) -> None:
    [echoed] = infer(stack, text_input="def add(a, b):", sampling_parameters=GREEDY, stream=False)
    assert echoed["text_output"][0].startswith(b"def add(a, b):")


def test_choices_come_in_columns(stack: Stack) -> None:
    params = {**GREEDY, "n": 3, "temperature": 1.5, "seed": 1, "logprobs": 1, "prompt_logprobs": 0}
    part, whole = infer(stack, text_input="def", sampling_parameters=params, stream=False)
    assert (part["text_output"], len(json.loads(*part["prompt_logprobs"]))) == ([b""], whole["num_input_tokens"][0])
    assert "prompt_logprobs" not in whole
    assert sorted(whole["choice_index"]) == [0, 1, 2]
    assert whole["finish_reason"] == [b"length"] * 3
    assert whole["num_output_tokens"] == [30]
    assert [len(json.loads(entries)) for entries in whole["logprobs"]] == [10] * 3
    texts: dict[int, bytes] = {}
    first, *others = infer(stack, text_input="def", sampling_parameters=params)
    assert ["prompt_logprobs" in response for response in (first, *others)] == [True] + [False] * len(others)
    for response in others:
        for index, text in zip(response.get("choice_index", [0]), response["text_output"], strict=True):
            texts[index] = texts.get(index, b"") + text
    assert {i: b"def" + text for i, text in texts.items()} == dict(
        zip(whole["choice_index"], whole["text_output"], strict=True)
    )


def test_every_response_may_tell_what_was_used_so_far(stack: Stack) -> None:
    said = infer(stack, text_input="def add(a, b):", sampling_parameters=GREEDY, continuous_usage=True)
    so_far = [response["num_output_tokens"][0] for response in said]
    assert so_far == sorted(so_far)
    assert so_far[0] < so_far[-1] == 10
    assert len({response["num_input_tokens"][0] for response in said}) == 1


def test_thoughts_and_calls_have_outputs_of_their_own(stack: Stack) -> None:
    chat = {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "now"}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    params = {"max_tokens": 60, "seed": 1}
    [said] = infer(stack, "reasoner", chat=chat, sampling_parameters=params, stream=False)
    [call] = json.loads(said["tool_calls"][0])
    assert call == {"index": 0, "name": "now", "arguments": "{}"}
    assert said["reasoning_content"][0]
    assert 0 < said["num_reasoning_tokens"][0] < said["num_output_tokens"][0]
    assert said["text_output"] == [b""]


def test_outputs_can_be_switched_off_as_with_vllms_backend(stack: Stack) -> None:
    off = {f"return_{name}": False for name in ("finish_reason", "num_input_tokens", "num_output_tokens", "logprobs")}
    *_, last = infer(stack, text_input="def", sampling_parameters={**GREEDY, "logprobs": 1}, **off)
    assert set(last) == {"text_output", "num_cached_tokens"}


def test_cumulative_logprob_is_the_sum_of_the_logprobs(stack: Stack) -> None:
    inputs = {"text_input": "def", "stream": False, "return_cumulative_logprob": True}
    [both] = infer(stack, sampling_parameters={**GREEDY, "logprobs": 0}, **inputs)
    total = sum(entry["logprob"] for entry in json.loads(both["logprobs"][0]))
    assert both["cumulative_logprob"] == [pytest.approx(total, rel=1e-4)]
    [alone] = infer(stack, sampling_parameters=GREEDY, **inputs)
    assert alone["cumulative_logprob"] == both["cumulative_logprob"]
    assert "logprobs" not in alone


def test_the_token_that_ends_an_answer_is_shown_to_who_scores_and_never_summed(stack: Stack) -> None:
    ends = {"temperature": 0, "max_tokens": 5, "min_tokens": 2, "logit_bias": {"1": 100}, "logprobs": 0}
    inputs = {"input_ids": [5, 6], "stream": False, "return_cumulative_logprob": True}
    for asked, num_shown in (({}, 2), ({"prompt_logprobs": 0}, 3)):
        *_, last = infer(stack, "qwen2", sampling_parameters=ends | asked, **inputs)
        shown = [entry["logprob"] for entry in json.loads(last["logprobs"][0])]
        assert (len(shown), last["finish_reason"], last["num_output_tokens"]) == (num_shown, [b"stop"], [3])
        assert last["cumulative_logprob"] == [pytest.approx(sum(shown[:2]), rel=1e-4)]


def test_a_prompt_that_begins_like_another_is_counted_as_cached(stack: Stack) -> None:
    names = ("engine_prompt_tokens_total", "engine_prefix_cache_hit_tokens_total")
    prompt = [2 + i % 300 for i in range(7, 107)]
    [first] = infer(stack, "qwen2", input_ids=prompt, sampling_parameters=GREEDY, stream=False)
    before = [stack.metric(name, "qwen2") for name in names]
    [second] = infer(stack, "qwen2", input_ids=[*prompt, 9], sampling_parameters=GREEDY, stream=False)
    assert (first["num_cached_tokens"], second["num_cached_tokens"]) == ([0], [96])
    assert [stack.metric(name, "qwen2") for name in names] == [before[0] + 101, before[1] + 96]


def test_a_prompt_and_its_tokens(stack: Stack, checkpoints: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints["llama"])
    text = "def add(a, b): 🙂"
    [said] = infer(stack, "llama", task="tokenize", text_input=text)
    answer = json.loads(said["text_output"][0])
    assert answer["tokens"] == tokenizer.encode(text)
    assert answer["max_context"] == 256
    [said] = infer(stack, "llama", task="detokenize", input_ids=answer["tokens"])
    assert said["text_output"][0].decode() == text


def test_embeddings_are_transformers_hidden_states(stack: Stack, checkpoints: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoints["llama"], dtype=torch.float32)
    prompt = [2 + i % 300 for i in range(150)]
    with torch.inference_mode():
        mean = model.get_decoder()(torch.tensor([prompt])).last_hidden_state[0].mean(0)
    for _ in range(2):
        [said] = infer(stack, "llama", task="embed", input_ids=prompt)
        assert said["embedding"] == pytest.approx((mean / mean.norm()).tolist(), abs=2e-5)
        assert (said["num_input_tokens"], said["num_cached_tokens"]) == ([150], [0])


def test_describe(stack: Stack) -> None:
    description = describe(stack, "llama")
    assert description["gpus"] == []
    assert description["architecture"] == "LlamaForCausalLM"
    assert (description["dtype"], description["max_context"]) == ("float32", 256)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "text_input: give one of text_input, chat and input_ids; got none"),
        ({"text_input": "a", "chat": {"messages": []}}, "text_input: give one of"),
        ({"text_input": b"\xff\xfe"}, "text_input: it is not UTF-8"),
        ({"chat": "{"}, "chat: "),
        ({"input_ids": [10**6]}, "input_ids: token 1000000 is outside the vocabulary"),
        ({"text_input": "a", "sampling_parameters": "["}, "sampling_parameters: "),
        ({"text_input": "a", "sampling_parameters": {"best": 1}}, "best: no such sampling parameter"),
        ({"text_input": "a", "exclude_input_in_output": False}, "exclude_input_in_output: false needs"),
        ({"text_input": "a", "sampling_parameters": {"n": 17}}, "n: 17 choices exceed the 16"),
        ({"text_input": "a", "task": "translate"}, "task: there is no task 'translate'"),
        ({"text_input": "a", "task": "embed", "stream": False}, "stream: it means nothing to the task embed"),
        ({"text_input": "a", "add_special_tokens": False}, "add_special_tokens: it is for the task tokenize"),
    ],
)
def test_a_bad_request_is_refused_by_name(stack: Stack, inputs: dict[str, Any], says: str) -> None:
    # An empty request is not possible in Triton: `stream` alone stands for it.
    [response] = infer(stack, **(inputs or {"stream": True}))
    assert says in response["error"]


def test_hundreds_of_refusals_do_no_harm(stack: Stack) -> None:
    for _ in range(300):
        [response] = infer(stack, "narrow", text_input="a", sampling_parameters={"temperature": -1})
        assert "temperature" in response["error"]
    assert infer(stack, "narrow", text_input="a", sampling_parameters=GREEDY)[-1]["num_output_tokens"] == [10]


def test_text_may_come_on_a_feed(stack: Stack) -> None:
    prompts = {7: "def add(a, b):", 8: "class Stack:"}
    alone = {
        number: streamed_text(infer(stack, "llama", text_input=text, sampling_parameters=GREEDY))
        for number, text in prompts.items()
    }
    with open_feed(stack, "e2e", "llama") as pieces:
        with ThreadPoolExecutor(2) as pool:
            own = dict(
                zip(
                    prompts,
                    pool.map(
                        lambda number: infer(
                            stack,
                            "llama",
                            text_input=prompts[number],
                            sampling_parameters=GREEDY,
                            feed="e2e",
                            feed_number=number,
                        ),
                        prompts,
                    ),
                    strict=True,
                )
            )
        num_fed = {number: responses[0]["num_fed"][0] for number, responses in own.items()}
        fed = [pieces.get(timeout=10) for _ in range(sum(num_fed.values()))]
        assert pieces.empty()
        [taken] = infer(stack, "llama", feed="e2e")
    for number, responses in own.items():
        assert len(responses) == 1, "what is no more than words came on the feed"
        texts = [piece["text_output"] for piece in fed if piece["feed_number"] == number]
        assert len(texts) == num_fed[number] > 1
        assert b"".join(texts) + responses[0]["text_output"][0] == alone[number]
    assert "there is a feed of this name" in taken["error"]


def test_a_feed_that_nobody_opened_is_no_obstacle(stack: Stack) -> None:
    inputs = {"text_input": "def add(a, b):", "sampling_parameters": GREEDY}
    own = infer(stack, "llama", **inputs, feed="unknown", feed_number=1)
    assert streamed_text(own) == streamed_text(infer(stack, "llama", **inputs))
    assert not any("num_fed" in response for response in own)


def test_what_hides_outputs_stays_on_its_own(stack: Stack) -> None:
    inputs = {"text_input": "def add(a, b):", "sampling_parameters": GREEDY, "return_num_input_tokens": False}
    with open_feed(stack, "hiding") as pieces:
        own = infer(stack, **inputs, continuous_usage=True, feed="hiding", feed_number=1)
        assert pieces.empty()
    assert len(own) > 1
    for response in own:
        assert "num_output_tokens" in response
        assert response.keys().isdisjoint(("num_input_tokens", "num_fed"))


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ({"text_input": "a", "feed": "f"}, "feed: with a prompt, feed_number says"),
        ({"text_input": "a", "feed_number": 1}, "feed: feed_number is one of a feed"),
    ],
)
def test_half_a_feed_is_refused(stack: Stack, inputs: dict[str, Any], error: str) -> None:
    [response] = infer(stack, **inputs)
    assert error in response["error"]


def test_a_feed_ends_with_its_client(stack: Stack) -> None:
    with open_feed(stack, "again"):
        assert describe(stack, "coder")["num_feeds"] == 1
    until_s = time.monotonic() + 10
    while describe(stack, "coder")["num_feeds"]:
        assert time.monotonic() < until_s


@pytest.mark.parametrize("model", [REASONER, "llama"])
def test_thoughts_and_counts_come_on_a_feed_beside_the_text(stack: Stack, model: str) -> None:
    inputs = {
        "chat": {"messages": [{"role": "user", "content": "hi"}]},
        "sampling_parameters": GREEDY,
        "continuous_usage": True,
    }
    alone = infer(stack, model, **inputs)
    with open_feed(stack, "words", model) as pieces:
        [own] = infer(stack, model, **inputs, feed="words", feed_number=1)
        fed = [pieces.get(timeout=10) for _ in range(own["num_fed"][0])]
    last = {name: values[0] for name, values in own.items()}
    for name in ("text_output", "reasoning_content"):
        whole = b"".join(response.get(name, [b""])[0] for response in alone)
        assert b"".join(piece.get(name, b"") for piece in (*fed, last)) == whole
        assert bool(whole) == ((name == "reasoning_content") == (model == REASONER))
    counts = [(piece["num_input_tokens"], piece["num_output_tokens"]) for piece in (*fed, last)]
    assert counts == [(alone[-1]["num_input_tokens"][0], n) for n in sorted({n for _, n in counts})]
    assert counts[0][1] < counts[-1][1] == 10


def streamed_text(responses: list[dict[str, Any]]) -> bytes:
    return b"".join(response["text_output"][0] for response in responses)
