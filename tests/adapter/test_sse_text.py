"""Text with line breaks through an event stream, read by a reader that is not ours."""

import pytest
import sseclient
from hypothesis import given
from hypothesis import strategies as st

from adapter.ocr.sse_text import TextEvents, text_event

PIECES = st.lists(st.text(alphabet="a \r\n[]DONE:\u2028é", max_size=8) | st.sampled_from(["[DONE]", "\r\n", "data: "]))


def read(stream: bytes) -> list[str]:
    return [event.data for event in sseclient.SSEClient(iter([stream])).events()]


def normalised(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("a", b"data: a\n\n"),
        (" a ", b"data:  a \n\n"),
        ("a\nb", b"data: a\ndata: b\n\n"),
        ("a\r\nb\rc", b"data: a\ndata: b\ndata: c\n\n"),
        ("\n", b"data: \ndata: \n\n"),
        ("é", "data: é\n\n".encode()),
    ],
)
def test_one_event(text: str, event: bytes) -> None:
    assert text_event(text) == event
    assert read(event) == [normalised(text)]


@pytest.mark.parametrize("text", ["[DONE]", "a\n[DONE]", "[DONE]\n", "[DONE]\n[DONE]"])
def test_no_line_of_a_text_ends_the_stream(text: str) -> None:
    stream = text_event(text)
    assert b"data: [DONE]\n" not in stream
    assert "".join(read(stream)) == text


def test_a_line_break_over_two_pieces_is_one() -> None:
    events = TextEvents()
    assert [events.decode(piece) for piece in ("a\r", "", "\n", "\nb\r", "c\r", "\nd")] == [
        text_event("a\n"),
        b"",
        b"",
        text_event("\nb\n"),
        text_event("c\n"),
        text_event("d"),
    ]


@given(PIECES)
def test_the_text_comes_back(pieces: list[str]) -> None:
    events = TextEvents()
    stream = b"".join(map(events.decode, pieces))
    assert "".join(read(stream)) == normalised("".join(pieces))
    assert "data: [DONE]" not in stream.decode().split("\n")
