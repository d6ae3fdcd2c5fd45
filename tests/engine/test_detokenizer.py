from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.detokenizer import Detokenizer, StopFinder, TextStream, TokenBytes
from tests.checkpoints import BOS, VOCAB_SIZE, train_tokenizer

TOKENIZER = train_tokenizer().backend_tokenizer


@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40))
def test_the_pieces_joined_are_the_whole(ids: list[int]) -> None:
    detokenizer = Detokenizer(TOKENIZER)
    text = "".join(detokenizer.decode(token) for token in ids) + detokenizer.flush()
    assert text == TOKENIZER.decode(ids)


@given(st.text(max_size=40))
def test_characters_come_whole(text: str) -> None:
    detokenizer = Detokenizer(TOKENIZER)
    pieces = [detokenizer.decode(token) for token in TOKENIZER.encode(text).ids]
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.flush() == text


def test_an_emoji_comes_when_its_last_byte_does() -> None:
    ids = TOKENIZER.encode("🙂").ids
    assert len(ids) > 1
    detokenizer = Detokenizer(TOKENIZER)
    assert [detokenizer.decode(token) for token in ids] == [""] * (len(ids) - 1) + ["🙂"]


@given(st.text("abc", max_size=20), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_stop_strings_are_found_whatever_the_split(text: str, stops: list[str], data: st.DataObject) -> None:
    finder, shown, rest, stopped = StopFinder(stops), "", text, False
    while rest and not stopped:
        size = data.draw(st.integers(1, len(rest)))
        piece, stopped = finder.decode(rest[:size])
        shown, rest = shown + piece, rest[size:]
    if not stopped:
        shown += finder.flush()
    # The first stop string to be complete ends the text, and cuts at its own start or an earlier one's.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert stopped == bool(ends)
    if stopped:
        assert text.startswith(shown)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
        assert not any(stop in shown for stop in stops)
    else:
        assert shown == text


def test_a_part_of_a_stop_string_is_held_back() -> None:
    finder = StopFinder(["END"])
    assert finder.decode("the E") == ("the ", False)
    assert finder.decode("N") == ("", False)
    assert finder.decode("ergy") == ("ENergy", False)
    assert finder.decode(" END of") == (" ", True)


def test_stop_strings_are_text_until_stopping_is_allowed() -> None:
    stream = TextStream(TOKENIZER, ["a"])
    token = TOKENIZER.encode("a").ids[0]
    assert stream.decode(token, may_stop=False) == ("a", False)
    assert stream.decode(token, may_stop=True) == ("", True)


@pytest.mark.parametrize("text", ["plain", " space", "é", "🙂"])
def test_bytes_of_tokens(text: str) -> None:
    token_bytes = TokenBytes(TOKENIZER)
    assert b"".join(token_bytes(token) for token in TOKENIZER.encode(text).ids) == text.encode()


def test_bytes_of_special_and_missing_tokens() -> None:
    token_bytes = TokenBytes(TOKENIZER)
    assert token_bytes(0) == BOS.encode()
    assert token_bytes(10**6) == b""
