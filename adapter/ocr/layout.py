"""Blocks of a page and their boxes: as the model writes them, and in pixels."""

import re
from dataclasses import dataclass
from typing import TypeAlias

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom."""

MAX_COORDINATE = 999
"""The right or bottom edge of the image, in the model's coordinates; 0 is the left or top."""
TEXT = "text"
FIGURES = frozenset({"image", "figure", "chart"})
"""Types whose content is the picture itself. Few, since a line of text may read just so."""

_BOX = re.compile(r"\[" + r",".join([r"\s*(-?[0-9]{1,6})\s*"] * 4) + r"\]")


@dataclass(frozen=True, slots=True)
class Block:
    """`boxes` are in the model's coordinates, 0 to `MAX_COORDINATE`; `text` has no tags and no space around it."""

    type: str
    text: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class PageBlock:
    """A block with `boxes` in pixels of the upright image; `page` is from 1. JSON's shape of it too."""

    type: str
    text: str
    boxes: tuple[Box, ...]
    page: int


def parse_boxes(text: str) -> tuple[Box, ...]:
    """Return every `[x1, y1, x2, y2]` of four integers, its corners ordered and clamped; all else is skipped."""
    return tuple(_ordered(*map(int, match.groups())) for match in _BOX.finditer(text))


def to_pixels(block: Block, width: int, height: int) -> tuple[Box, ...]:
    """Return the block's boxes in an image of that size: `0 <= x1 < x2 <= width`, the same for y and height."""
    boxes = []
    for x1, y1, x2, y2 in block.boxes:
        left, right = _span(x1, x2, width)
        top, bottom = _span(y1, y2, height)
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


def on_page(block: Block, page: int, width: int, height: int) -> PageBlock:
    """`width` and `height` are those of page `page` in pixels."""
    return PageBlock(block.type, block.text, to_pixels(block, width, height), page)


def _ordered(x1: int, y1: int, x2: int, y2: int) -> Box:
    x1, y1, x2, y2 = (min(max(value, 0), MAX_COORDINATE) for value in (x1, y1, x2, y2))
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _span(start: int, end: int, side: int) -> tuple[int, int]:
    """At least one pixel wide, whatever was rounded away."""
    first = min(round(start / MAX_COORDINATE * side), side - 1)
    return first, max(round(end / MAX_COORDINATE * side), first + 1)
