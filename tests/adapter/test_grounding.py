"""The grounding parser: what a text means, whatever it is split into and whatever is broken in it."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.ocr.grounding import (
    MAX_COORDINATES_CHARACTERS,
    MAX_LABEL_CHARACTERS,
    BlockEnd,
    Event,
    GroundingParser,
    TextDelta,
)
from adapter.ocr.layout import Block

BOX = (1, 2, 3, 4)
AT_BOX = "<|det|>[[1, 2, 3, 4]]<|/det|>"

TAGS = ["<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"]
TAG = "|".join(map(re.escape, TAGS))
# What a model could write, whole and broken.
FRAGMENTS = st.sampled_from(
    [
        *TAGS,
        *TAGS,
        "<|ref|>title<|/ref|>",
        "<|ref|>image<|/ref|>",
        "<|ref|>Two words<|/ref|>",
        AT_BOX,
        AT_BOX,
        "[[1,2,3,4],[5",
        "<",
        "<|",
        "<|re",
        "<|/",
        "|>",
        " ",
        "\n",
        "\n\n",
        "a",
        "b c",
        "é\r\n",
        "x" * (MAX_LABEL_CHARACTERS - 1),
        "y" * (MAX_COORDINATES_CHARACTERS + 1),
    ]
)
OUTPUTS = st.lists(FRAGMENTS, max_size=14).map("".join).filter(lambda output: len(output) < 20_000)


def events(*chunks: str) -> list[Event]:
    parser = GroundingParser()
    return [event for chunk in chunks for event in parser.decode(chunk)] + parser.flush()


def clean(found: list[Event]) -> str:
    return "".join(event.text for event in found if isinstance(event, TextDelta))


def blocks(found: list[Event]) -> list[Block]:
    return [event.block for event in found if isinstance(event, BlockEnd)]


def merged(found: list[Event]) -> list[Event]:
    """Adjacent `TextDelta`s made one."""
    whole: list[Event] = []
    for event in found:
        if whole and isinstance(event, TextDelta) and isinstance(whole[-1], TextDelta):
            whole[-1] = TextDelta(whole[-1].text + event.text)
        else:
            whole.append(event)
    return whole


def test_a_page_as_markdown() -> None:
    found = events(
        f"<|ref|>title<|/ref|>{AT_BOX}\n# A title\n\n"
        f"<|ref|>image<|/ref|>{AT_BOX}\n\n"
        f"<|ref|>image_caption<|/ref|>{AT_BOX}\n<center>One</center>\n\n"
        "<|ref|>table<|/ref|><|det|>[[1, 2, 3, 4], [5, 6, 7, 8]]<|/det|>\n<table><tr><td>a</td></tr></table>\n"
    )
    assert blocks(found) == [
        Block("title", "# A title", (BOX,)),
        Block("image", "", (BOX,)),
        Block("image_caption", "<center>One</center>", (BOX,)),
        Block("table", "<table><tr><td>a</td></tr></table>", (BOX, (5, 6, 7, 8))),
    ]
    assert clean(found) == "# A title\n\n<center>One</center>\n\n<table><tr><td>a</td></tr></table>"


def test_lines_of_text() -> None:
    found = events(f"<|ref|>Invoice<|/ref|>{AT_BOX}\n<|ref|>Total: 5 €<|/ref|>{AT_BOX}\n<|ref|>title<|/ref|>{AT_BOX}")
    assert blocks(found) == [Block("text", text, (BOX,)) for text in ("Invoice", "Total: 5 €", "title")]
    assert clean(found) == "Invoice\nTotal: 5 €\ntitle"


@pytest.mark.parametrize(
    ("output", "text", "found_blocks"),
    [
        ("", "", []),
        (" \n", "", []),
        ("Free text.\n\nMore.", "Free text.\n\nMore.", [Block("text", "Free text.\n\nMore.", ())]),
        (f"a<|ref|>text<|/ref|>{AT_BOX}b", "a\nb", [Block("text", "a", ()), Block("text", "b", (BOX,))]),
        (f"<|ref|>Two words<|/ref|>{AT_BOX}: c", "Two words: c", [Block("text", "Two words: c", (BOX,))]),
        (f"<|ref|>new_type<|/ref|>{AT_BOX}c", "c", [Block("new_type", "c", (BOX,))]),
        (f"<|ref|>image<|/ref|>{AT_BOX}c", "c", [Block("image", "c", (BOX,))]),
        ("<|ref|>image<|/ref|>", "", [Block("image", "", ())]),
        ("<|ref|>Title<|/ref|>", "Title", [Block("text", "Title", ())]),
        (f"<|ref|><|/ref|>{AT_BOX}", "", [Block("text", "", (BOX,))]),
        (f"a<|ref|><|/ref|>{AT_BOX}b", "a\nb", [Block("text", "a", ()), Block("text", "b", (BOX,))]),
        ("<|ref|>a<|/ref|> <|det|>[1,2,3,4]<|/det|>", "a", [Block("text", "a", (BOX,))]),
        (f"<|ref|>a<|/ref|>{AT_BOX}{AT_BOX}", "a", [Block("text", "a", (BOX, BOX))]),
        ("1 < 2 <|det <|ref", "1 < 2 <|det <|ref", [Block("text", "1 < 2 <|det <|ref", ())]),
        ("<|grounding|>a", "a", [Block("text", "a", ())]),
    ],
)
def test_what_it_means(output: str, text: str, found_blocks: list[Block]) -> None:
    found = events(output)
    assert (clean(found), blocks(found)) == (text, found_blocks)


@pytest.mark.parametrize(
    ("output", "text", "found_blocks"),
    [
        ("a<|/ref|>b<|/det|>c", "abc", [Block("text", "abc", ())]),
        ("a<|det|>[[1]]<|/det|>b", "a[[1]]b", [Block("text", "a[[1]]b", ())]),
        ("<|ref|>a<|ref|>b c<|/ref|>", "a\nb c", [Block("text", "a", ()), Block("text", "b c", ())]),
        (f"<|ref|>text{AT_BOX}b", "b", [Block("text", "b", (BOX,))]),
        ("a<|ref|>b", "a\nb", [Block("text", "a", ()), Block("text", "b", ())]),
        ("a<|ref|>", "a", [Block("text", "a", ())]),
        ("<|ref|>a<|/det|>b c<|/ref|>", "ab c", [Block("text", "ab c", ())]),
        ("<|ref|>A<|/ref|><|det|>[[1,2,3,4],[5,6", "A", [Block("text", "A", (BOX,))]),
        ("<|ref|>A<|/ref|><|det|>[[1,2,3,4]] b", "A[[1,2,3,4]] b", [Block("text", "A[[1,2,3,4]] b", ())]),
        (
            "<|ref|>A<|/ref|><|det|>[[1,2,3,4]]<|ref|>B<|/ref|>",
            "A\nB",
            [Block("text", "A", (BOX,)), Block("text", "B", ())],
        ),
        ("<|ref|>A<|/ref|><|det|>no box<|/det|>", "A", [Block("text", "A", ())]),
    ],
)
def test_what_is_broken(output: str, text: str, found_blocks: list[Block]) -> None:
    found = events(output)
    assert (clean(found), blocks(found)) == (text, found_blocks)


def test_text_comes_as_soon_as_it_is_certain() -> None:
    parser = GroundingParser()
    assert parser.decode("a <") == [TextDelta("a")]
    assert parser.decode("b") == [TextDelta(" <b")]
    assert parser.decode("\n<|ref|>Two wo") == [BlockEnd(Block("text", "a <b", ()))]
    assert parser.decode("rds<|/ref|>") == [TextDelta("\nTwo words")]
    assert parser.decode(AT_BOX + "\n<|ref|>text<|/ref|>") == [BlockEnd(Block("text", "Two words", (BOX,)))]
    assert parser.decode(AT_BOX + "\n") == []
    assert clean(parser.decode("c")) == "\nc"
    assert parser.flush() == [BlockEnd(Block("text", "c", (BOX,)))]


def test_what_is_held_back_is_bounded() -> None:
    parser = GroundingParser()
    parser.decode("<|ref|>")
    assert clean(parser.decode("x" * MAX_LABEL_CHARACTERS)) == ""
    assert clean(parser.decode("x")) == "x" * (MAX_LABEL_CHARACTERS + 1)
    assert clean(parser.decode("y<|/ref|>z")) == "yz"
    parser.decode("<|ref|>A b<|/ref|><|det|>")
    assert clean(parser.decode("1" * MAX_COORDINATES_CHARACTERS)) == ""
    assert clean(parser.decode("1")) == "1" * (MAX_COORDINATES_CHARACTERS + 1)
    assert clean(parser.decode("2<|/det|>3")) == "23"


@given(OUTPUTS, st.lists(st.floats(0, 1), max_size=8))
def test_any_split_gives_the_same(output: str, places: list[float]) -> None:
    cuts = [0, *sorted(int(place * len(output)) for place in places), len(output)]
    chunks = [output[start:end] for start, end in pairwise(cuts)]
    assert merged(events(*chunks)) == merged(events(*output)) == merged(events(output))


@given(OUTPUTS)
def test_nothing_is_lost_but_the_tags(output: str) -> None:
    found = events(output)
    output = output.replace("<|grounding|>", "")
    # Only what stands between these two, and nothing else between, may be coordinates, which are not text.
    output = re.sub(rf"<\|det\|>(?:(?!{TAG}).)*<\|/det\|>", " ", output, flags=re.DOTALL)
    kept = clean(found) + " ".join(block.type for block in blocks(found))
    for word in re.findall(r"\w+", re.sub(TAG, " ", output)):
        if not word.isdigit():  # coordinates that break off
            assert word in kept
    assert "".join(text for block in blocks(found) for text in block.text.split()) == "".join(clean(found).split())


@given(OUTPUTS)
def test_the_blocks_are_tidy(output: str) -> None:
    found = events(output)
    assert clean(found) == clean(found).strip()
    for block in blocks(found):
        assert block.type
        assert block.text == block.text.strip()


@given(st.text(alphabet="<|/refdtgouni> a\n[]1,", max_size=60))
def test_no_text_makes_it_fail(output: str) -> None:
    assert merged(events(*output)) == merged(events(output))
