"""A page's raw text as Markdown, blocks and figures."""

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.ocr.layout import PageBlock
from adapter.ocr.markdown import MAX_FIGURES, FigureBox, PageContent, read_page

AT_BOX = "<|det|>[[0, 0, 999, 999]]<|/det|>"


def markdown(raw: str) -> str:
    return read_page(raw, 1, 100, 100).markdown


def test_a_whole_page() -> None:
    content = read_page(
        f"<|ref|>sub_title<|/ref|>{AT_BOX}\n## Results\n\n"
        "<|ref|>image<|/ref|><|det|>[[0, 0, 333, 333], [333, 333, 666, 666]]<|/det|>\n\n"
        f"<|ref|>image_caption<|/ref|>{AT_BOX}\n<center>Two</center>\n\n"
        "<|ref|>image<|/ref|><|det|>[[666, 666, 999, 999]]<|/det|>\n",
        page=7,
        width=300,
        height=600,
    )
    assert content.text == "## Results\n\n<center>Two</center>"
    assert content.markdown == (
        "## Results\n\n"
        "![page-7-figure-1.png](page-7-figure-1.png)\n\n"
        "![page-7-figure-2.png](page-7-figure-2.png)\n\n"
        "<center>Two</center>\n\n"
        "![page-7-figure-3.png](page-7-figure-3.png)"
    )
    assert list(content.figures) == [
        FigureBox("page-7-figure-1.png", (0, 0, 100, 200)),
        FigureBox("page-7-figure-2.png", (100, 200, 200, 400)),
        FigureBox("page-7-figure-3.png", (200, 400, 300, 600)),
    ]
    assert list(content.blocks) == [
        PageBlock("sub_title", "## Results", ((0, 0, 300, 600),), 7),
        PageBlock("image", "", ((0, 0, 100, 200), (100, 200, 200, 400)), 7),
        PageBlock("image_caption", "<center>Two</center>", ((0, 0, 300, 600),), 7),
        PageBlock("image", "", ((200, 400, 300, 600),), 7),
    ]
    assert orjson.loads(orjson.dumps(content.blocks[0])) == {
        "type": "sub_title",
        "text": "## Results",
        "boxes": [[0, 0, 300, 600]],
        "page": 7,
    }


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", ""),
        ("\n\n a\n\n", "a"),
        ("a\nb\n\nc", "a\nb\n\nc"),
        ("a\n\n\nb\n \n\t\n\n  c", "a\n\nb\n\n  c"),
        ("a  \nb", "a  \nb"),
        (f"<|ref|>image<|/ref|>{AT_BOX}a", "![page-1-figure-1.png](page-1-figure-1.png)\n\na"),
        (
            f"a<|ref|>chart<|/ref|>{AT_BOX}<|ref|>text<|/ref|>{AT_BOX}b",
            "a\n\n![page-1-figure-1.png](page-1-figure-1.png)\n\nb",
        ),
        ("a<|ref|>image<|/ref|><|det|>[[broken]]<|/det|>", "a"),
        (f"<|ref|>Hello World<|/ref|>{AT_BOX}\n<|ref|>you<|/ref|>{AT_BOX}\n", "Hello World\nyou"),
        (r"\[ a \coloneqq b \eqqcolon c \]", r"\[ a := b =: c \]"),
        (r"\( \frac{a}{b} \) and $x_1$", r"\( \frac{a}{b} \) and $x_1$"),
        ("a\n\n\n```\nb\n\n\n\nc\n```\n\n\n\nd", "a\n\n```\nb\n\n\n\nc\n```\n\nd"),
        ("~~~~ py\na\n\n\n~~~\n\n\nb\n~~~~\n\n\nc", "~~~~ py\na\n\n\n~~~\n\n\nb\n~~~~\n\nc"),
        ("```\na\n\n\nb", "```\na\n\n\nb"),
        ("a ``` b\n\n\nc\n```d``` e\n\n\nf", "a ``` b\n\nc\n```d``` e\n\nf"),
        (
            "a\n\n\n<table><tr><td>b\n\n\nc</td></tr></table>\n\n\nd",
            "a\n\n<table><tr><td>b\n\n\nc</td></tr></table>\n\nd",
        ),
        ('<TABLE border="1"><tr>\n\n\n<td>a', '<TABLE border="1"><tr>\n\n\n<td>a'),
        ("<tablet>\n\n\na", "<tablet>\n\na"),
    ],
)
def test_it_is_clean(raw: str, expected: str) -> None:
    assert markdown(raw) == expected


@given(st.text(alphabet="ab \n\t`~<table>/", max_size=80))
def test_cleaning_loses_no_words_and_is_done_once(raw: str) -> None:
    once = markdown(raw)
    assert once.split() == raw.split()
    assert markdown(once) == once
    assert "\n\n\n" not in once or "<table" in once or "```" in once or "~~~" in once


def test_text_is_what_was_streamed() -> None:
    content = read_page("\n a \\coloneqq b\n\n\n\nc \n", 1, 10, 10)
    assert content.text == "a \\coloneqq b\n\n\n\nc"


@given(st.lists(st.sampled_from([f"<|ref|>image<|/ref|>{AT_BOX}", "<|ref|>text<|/ref|>", "a", "\n\n\n", " b "])))
def test_every_figure_has_its_link_once(parts: list[str]) -> None:
    content = read_page("".join(parts), 2, 10, 10)
    assert links(content) == [figure.id for figure in content.figures]
    assert len(links(content)) == len({part for part in parts if part.startswith("<|ref|>image")})


def test_the_same_figure_again_is_left_out() -> None:
    boxes = "[[0, 0, 9, 9], [9, 9, 18, 18], [0, 0, 9, 9]]"
    content = read_page(f"a\n<|ref|>image<|/ref|><|det|>{boxes}<|/det|>\n" * 2 + "b", 1, 999, 999)
    assert [figure.box for figure in content.figures] == [(0, 0, 9, 9), (9, 9, 18, 18)]
    assert [len(block.boxes) for block in content.blocks if block.type == "image"] == [3, 3]
    first, second = (figure.link for figure in content.figures)
    assert content.markdown == f"a\n\n{first}\n\n{second}\n\na\n\nb"


def test_a_page_has_only_so_many_figures() -> None:
    raw = "".join(f"<|ref|>image<|/ref|><|det|>[[{k}, 0, {k + 1}, 1]]<|/det|>" for k in range(MAX_FIGURES + 9))
    content = read_page(raw, 1, 999, 999)
    assert len(content.figures) == MAX_FIGURES == len(links(content))
    assert len(content.blocks) == MAX_FIGURES + 9


def test_figures_do_not_cover_a_page_again_and_again() -> None:
    raw = "".join(f"<|ref|>image<|/ref|><|det|>[[{k}, 0, 999, 999]]<|/det|>" for k in range(99))
    content = read_page(raw + "<|ref|>chart<|/ref|><|det|>[[0, 0, 1, 1]]<|/det|>", 1, 999, 999)
    assert [figure.box for figure in content.figures] == [(0, 0, 999, 999), (1, 0, 999, 999), (0, 0, 1, 1)]
    assert links(content) == [figure.id for figure in content.figures]


def links(content: PageContent) -> list[str]:
    found = re.findall(r"!\[(.+?)\]\((.+?)\)", content.markdown)
    assert all(text == target for text, target in found)
    return [target for _, target in found]
