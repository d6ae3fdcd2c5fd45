from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from engine.detokenizer import (
    ByteDetokenizer,
    Detokenizer,
    StopFinder,
    TextStream,
    TokenBytes,
    WindowDetokenizer,
    make_detokenizer,
)
from tests.checkpoints import BOS, VOCAB_SIZE, train_tokenizer

TOKENIZER = train_tokenizer().backend_tokenizer
TOKEN_BYTES = TokenBytes(TOKENIZER)
MAKERS: tuple[Callable[[bool], Detokenizer], ...] = (
    lambda skips: ByteDetokenizer(TOKEN_BYTES, TOKEN_BYTES.special if skips else frozenset()),
    lambda skips: WindowDetokenizer(TOKENIZER, skips),
)
both = pytest.mark.parametrize("make", MAKERS, ids=("bytes", "window"))


def test_tokens_of_bytes_need_no_window() -> None:
    assert isinstance(make_detokenizer(TOKENIZER, TOKEN_BYTES), ByteDetokenizer)
    metaspace = Tokenizer.from_str(TOKENIZER.to_str())
    metaspace.decoder = decoders.Metaspace()
    assert isinstance(make_detokenizer(metaspace, TokenBytes(metaspace)), WindowDetokenizer)


@both
@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40), st.booleans())
def test_the_pieces_joined_are_the_whole(make: Callable[[bool], Detokenizer], ids: list[int], skips: bool) -> None:
    detokenizer = make(skips)
    text = "".join(detokenizer.decode(token) for token in ids) + detokenizer.flush()
    assert text == TOKENIZER.decode(ids, skip_special_tokens=skips)


@both
@given(st.text(max_size=40))
def test_characters_come_whole(make: Callable[[bool], Detokenizer], text: str) -> None:
    detokenizer = make(True)
    pieces = [detokenizer.decode(token) for token in TOKENIZER.encode(text).ids]
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.flush() == text


@both
def test_an_emoji_comes_when_its_last_byte_does(make: Callable[[bool], Detokenizer]) -> None:
    ids = TOKENIZER.encode("🙂").ids
    assert len(ids) > 1
    detokenizer = make(True)
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
        assert finder.found in stops
        assert text[len(shown) :].startswith(finder.found)
        assert not any(stop in shown for stop in stops)
    else:
        assert (shown, finder.found) == (text, None)


def test_a_part_of_a_stop_string_is_held_back() -> None:
    finder = StopFinder(["END"])
    assert finder.decode("the E") == ("the ", False)
    assert finder.decode("N") == ("", False)
    assert finder.decode("ergy") == ("ENergy", False)
    assert finder.decode(" END of") == (" ", True)


def test_stop_strings_are_text_until_stopping_is_allowed() -> None:
    stream = TextStream(make_detokenizer(TOKENIZER, TOKEN_BYTES), ["a"])
    token = TOKENIZER.encode("a").ids[0]
    assert stream.decode(token, may_stop=False) == ("a", False)
    assert stream.decode(token, may_stop=True) == ("", True)


@pytest.mark.parametrize("text", ["plain", " space", "é", "🙂"])
def test_bytes_of_tokens(text: str) -> None:
    assert b"".join(TOKEN_BYTES(token) for token in TOKENIZER.encode(text).ids) == text.encode()


def test_bytes_of_special_and_missing_tokens() -> None:
    assert TOKEN_BYTES(0) == BOS.encode()
    assert TOKEN_BYTES(10**6) == b""
