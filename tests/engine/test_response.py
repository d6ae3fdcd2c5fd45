from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from engine.chat.answer import CallPiece
from engine.request import TokenLogprob
from engine.response import ChoicePiece, only_text

LOGPROB = TokenLogprob(1, -0.5, ())
MORE_THAN_TEXT: dict[str, Any] = {
    "logprobs": [LOGPROB],
    "finish_reason": "stop",
    "reasoning": "hm",
    "calls": [CallPiece(0, "f", "{}")],
    "stop_string": "\n",
    "prompt_logprobs": [LOGPROB],
}


def test_a_text_alone_is_only_text() -> None:
    assert only_text({0: ChoicePiece("text", 1)}) == "text"
    assert only_text({0: ChoicePiece("", 1)}) == ""


def test_of_another_choice_or_of_several_it_is_not() -> None:
    assert only_text({1: ChoicePiece("text", 1)}) is None
    assert only_text({0: ChoicePiece("text", 1), 1: ChoicePiece("text", 1)}) is None


@pytest.mark.parametrize(
    "name", [field.name for field in fields(ChoicePiece) if field.name not in ("text", "num_tokens")]
)
def test_with_anything_else_it_is_not(name: str) -> None:
    assert only_text({0: ChoicePiece("text", 1, **{name: MORE_THAN_TEXT[name]})}) is None
