from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from engine.chat.answer import CallPiece
from engine.request import TokenLogprob
from engine.response import ChoicePiece, only_words

LOGPROB = TokenLogprob(1, -0.5, ())
MORE_THAN_WORDS: dict[str, Any] = {
    "logprobs": [LOGPROB],
    "finish_reason": "stop",
    "calls": [CallPiece(0, "f", "{}")],
    "stop_string": "\n",
    "prompt_logprobs": [LOGPROB],
}


@pytest.mark.parametrize("piece", [ChoicePiece("text", 1), ChoicePiece("", 1), ChoicePiece("b", 2, reasoning="a")])
def test_text_and_thoughts_are_only_words(piece: ChoicePiece) -> None:
    assert only_words({0: piece}) is piece


def test_of_another_choice_or_of_several_it_is_not() -> None:
    assert only_words({1: ChoicePiece("text", 1)}) is None
    assert only_words({0: ChoicePiece("text", 1), 1: ChoicePiece("text", 1)}) is None


@pytest.mark.parametrize(
    "name", [field.name for field in fields(ChoicePiece) if field.name not in ("text", "num_tokens", "reasoning")]
)
def test_with_anything_else_it_is_not(name: str) -> None:
    assert only_words({0: ChoicePiece("text", 1, **{name: MORE_THAN_WORDS[name]})}) is None
