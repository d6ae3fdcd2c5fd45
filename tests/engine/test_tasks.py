"""Tasks other than answering, from a request's tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidRequest
from engine.prompt import PromptEncoder
from engine.tasks import detokenize, read_task, tokenize
from engine.triton_inputs import Inputs
from tests.checkpoints import BOS, VOCAB_SIZE, train_tokenizer

TOKENIZER = train_tokenizer()
ENCODER = PromptEncoder(TOKENIZER, VOCAB_SIZE, max_context=64)
CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}]})


class Tensor:
    def __init__(self, name: str, values: list[Any]) -> None:
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        values = [value.encode() if isinstance(value, str) else value for value in self._values]
        return np.array([values], np.object_ if isinstance(values[0], bytes) else None)


class TritonRequest:
    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs = inputs

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, value if isinstance(value, list) else [value]) for name, value in self._inputs.items()]


def given(**inputs: Any) -> Inputs:
    return Inputs(TritonRequest(inputs))


def tokens_of(**inputs: Any) -> list[int]:
    answer = json.loads(tokenize(given(task="tokenize", **inputs), ENCODER, 64))
    assert answer["max_context"] == 64
    assert TOKENIZER.convert_tokens_to_ids(answer["token_strs"]) == answer["tokens"]
    tokens: list[int] = answer["tokens"]
    return tokens


def test_a_text_and_back() -> None:
    text = "def naïve(a): 🙂"
    tokens = tokens_of(text_input=text)
    assert tokens == TOKENIZER.encode(text)
    assert detokenize(given(task="detokenize", input_ids=tokens), ENCODER) == text
    assert tokens_of(text_input="") == []


def test_special_tokens_are_added_as_the_tokenizer_does_and_kept() -> None:
    tokenizer = train_tokenizer()
    tokenizer.backend_tokenizer.post_processor = bos_first()
    encoder = PromptEncoder(tokenizer, VOCAB_SIZE, max_context=64)
    both = [
        json.loads(tokenize(given(text_input="a", **flag), encoder, 64))["tokens"]
        for flag in ({}, {"add_special_tokens": True}, {"add_special_tokens": False})
    ]
    assert both[0] == both[1] == [tokenizer.bos_token_id, *both[2]]
    assert detokenize(given(input_ids=both[0]), encoder) == f"{BOS}a"


def bos_first() -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])


def test_a_chat_is_what_a_prompt_is_made_of() -> None:
    assert tokens_of(chat=CHAT) == ENCODER.encode_chat(CHAT.encode())[0]


def test_what_does_not_fit_into_the_context_is_counted() -> None:
    assert len(tokens_of(text_input="word " * 100)) > 64
    long = json.dumps({"messages": [{"role": "user", "content": "word " * 100}]})
    assert len(tokens_of(chat=long)) > 64


@pytest.mark.parametrize("task", ["tokenize", "detokenize", "embed"])
def test_a_task_is_known_by_its_name(task: str) -> None:
    assert read_task(given(task=task)) == task


@pytest.mark.parametrize(
    ("inputs", "field", "says"),
    [
        ({"task": "translate"}, "task", "there is no task 'translate'; give one of tokenize, detokenize, embed"),
        ({"task": "tokenize", "input_ids": [5]}, "input_ids", "means nothing to the task tokenize"),
        ({"task": "detokenize", "text_input": "a"}, "text_input", "means nothing"),
        ({"task": "embed", "chat": CHAT}, "chat", "means nothing"),
        ({"task": "embed", "text_input": "a", "sampling_parameters": "{}"}, "sampling_parameters", "means nothing"),
        ({"task": "embed", "text_input": "a", "add_special_tokens": True}, "add_special_tokens", "means nothing"),
        ({"task": "embed", "text_input": "a", "stream": False}, "stream", "means nothing"),
    ],
)
def test_what_means_nothing_is_refused_by_name(inputs: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        read_task(given(**inputs))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("inputs", "field", "says"),
    [
        ({}, "text_input", "give one of text_input and chat"),
        ({"text_input": "a", "chat": CHAT}, "text_input", "give one of"),
        ({"chat": CHAT, "add_special_tokens": True}, "add_special_tokens", "a chat's template says"),
        ({"chat": "{"}, "chat", "JSON"),
        ({"text_input": "a" * 10**6}, "text_input", "more than"),
    ],
)
def test_what_is_no_text_is_refused(inputs: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        tokenize(given(**inputs), ENCODER, 64)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "needs them"),
        ({"input_ids": [VOCAB_SIZE]}, f"token {VOCAB_SIZE} is outside the vocabulary"),
        ({"input_ids": [-1]}, "outside the vocabulary"),
        ({"input_ids": [5] * 65}, "65 tokens exceed the context of 64; send them in parts"),
    ],
)
def test_what_is_no_token_is_refused(inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^input_ids: .*{says}"):
        detokenize(given(**inputs), ENCODER)
