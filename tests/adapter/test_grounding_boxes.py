"""Boxes: read from what a model may write, and turned into pixels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.ocr.layout import Block, Box, PageBlock, on_page, parse_boxes, to_pixels

COORDINATES = st.integers(-9999, 9999)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("[[1, 2, 3, 4]]", ((1, 2, 3, 4),)),
        ("[[1,2,3,4],[5 , 6 , 7 , 8]]", ((1, 2, 3, 4), (5, 6, 7, 8))),
        ("[1, 2, 3, 4]", ((1, 2, 3, 4),)),
        ("[[[1, 2, 3, 4]]]", ((1, 2, 3, 4),)),
        ("\n[[\n1,\n2,\n3,\n4]]", ((1, 2, 3, 4),)),
        ("[[30, 40, 10, 20]]", ((10, 20, 30, 40),)),
        ("[[30, 20, 10, 40]]", ((10, 20, 30, 40),)),
        ("[[-5, 0, 1000, 99999]]", ((0, 0, 999, 999),)),
        ("[[007, 2, 3, 4]]", ((3, 2, 7, 4),)),
        ("", ()),
        ("[]", ()),
        ("[[1, 2, 3]]", ()),
        ("[[1, 2, 3, 4, 5]]", ()),
        ("[[1, 2, 3, 4], [5, 6", ((1, 2, 3, 4),)),
        ("[[1, 2, 3], [5, 6, 7, 8]]", ((5, 6, 7, 8),)),
        ("[[1, 2, 3, x], [5, 6, 7, 8]]", ((5, 6, 7, 8),)),
        ("[[0.1, 0.2, 0.3, 0.4]]", ()),
        ("[[1e2, 2, 3, 4]]", ()),
        ("[[1234567, 2, 3, 4]]", ()),
        ("[[١, 2, 3, 4]]", ()),
        ("__import__('os').system('false')", ()),
        ("[[" * 5000, ()),
        ("[" + "9" * 10_000, ()),
        ("[1" + " " * 10_000, ()),
    ],
)
def test_boxes_are_read(text: str, boxes: tuple[Box, ...]) -> None:
    assert parse_boxes(text) == boxes


@pytest.mark.parametrize(
    ("box", "width", "height", "pixels"),
    [
        ((0, 0, 999, 999), 1000, 500, (0, 0, 1000, 500)),
        ((333, 333, 666, 666), 900, 1200, (300, 400, 600, 800)),
        ((330, 198, 558, 230), 1654, 2339, (546, 464, 924, 539)),
        ((0, 0, 0, 0), 10, 10, (0, 0, 1, 1)),
        ((999, 999, 999, 999), 10, 10, (9, 9, 10, 10)),
        ((500, 500, 500, 500), 1, 1, (0, 0, 1, 1)),
    ],
)
def test_pixels(box: Box, width: int, height: int, pixels: Box) -> None:
    assert to_pixels(Block("text", "", (box,)), width, height) == (pixels,)


@given(
    st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES)),
    st.integers(1, 30_000),
    st.integers(1, 30_000),
)
def test_pixels_are_in_the_image(boxes: list[Box], width: int, height: int) -> None:
    block = Block("text", "", parse_boxes(str([list(box) for box in boxes])))
    pixels = to_pixels(block, width, height)
    assert len(pixels) == len(boxes)
    for x1, y1, x2, y2 in pixels:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height


def test_a_block_on_its_page() -> None:
    block = Block("title", "A", ((0, 0, 999, 999), (0, 0, 0, 0)))
    assert on_page(block, 3, 20, 10) == PageBlock("title", "A", ((0, 0, 20, 10), (0, 0, 1, 1)), 3)
