"""Printed pages, and what an answer to each of the model's prompts has to say about them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from PIL import Image

Point: TypeAlias = tuple[float, float]
"""Pixels of the page, x and y."""
BoxOf: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the page."""
Answer: TypeAlias = list[tuple[str, Point | None]]
"""Characters and tags in order, each with the place on the page that it speaks of."""
BlockType: TypeAlias = Literal["title", "text", "list", "code", "table"]
MAX_COORDINATE = 999
_GAP = re.compile(r"(?<=\S)   +")
"""A wide gap within a line, read as two spaces."""


@dataclass(frozen=True)
class Line:
    """Printed characters on one baseline, spaces included."""

    text: str
    places: list[Point]
    """Centre of each character."""
    box: BoxOf
    """Of the ink."""

    def answer(self) -> Answer:
        """The characters, wide gaps narrowed."""
        kept = [True] * len(self.text)
        for gap in _GAP.finditer(self.text):
            kept[gap.start() + 2 : gap.end()] = [False] * (gap.end() - gap.start() - 2)
        return [pair for pair, keep in zip(zip(self.text, self.places, strict=True), kept, strict=True) if keep]


@dataclass(frozen=True)
class Block:
    """A passage of one kind; the lines of a table are its cells, row by row."""

    type: BlockType
    lines: list[Line]
    columns: int = 0

    @property
    def rows(self) -> list[list[Line]]:
        return [self.lines[start : start + self.columns] for start in range(0, len(self.lines), self.columns)]

    @property
    def box(self) -> BoxOf:
        return _around([line.box for line in self.lines])

    def printed(self) -> Iterator[Answer]:
        """Its printed lines."""
        if self.type != "table":
            yield from (line.answer() for line in self.lines)
            return
        for row in self.rows:
            yield _join([cell.answer() for cell in row], "  ")

    def markdown(self) -> Answer:
        if self.type == "title":
            return [("#", self.lines[0].places[0]), (" ", self.lines[0].places[0]), *_join(list(self.printed()), " ")]
        if self.type == "text":
            return _join(list(self.printed()), " ")
        if self.type == "list":
            return _join(list(self.printed()), "\n")
        if self.type == "code":
            return [*_said("```\n"), *_join(list(self.printed()), "\n"), *_said("\n```")]
        answer = _said("<table>")
        for row in self.rows:
            answer.append(("<tr>", row[0].places[0]))
            for cell in row:
                answer += [("<td>", cell.places[0]), *cell.answer(), ("</td>", cell.places[-1])]
            answer.append(("</tr>", row[-1].places[-1]))
        return [*answer, *_said("</table>")]


@dataclass(frozen=True)
class Page:
    """A picture and its blocks from top to bottom."""

    image: Image.Image
    blocks: list[Block]

    def text(self) -> Answer:
        """To `Free OCR.`: lines as printed, an empty line between blocks."""
        return _join([_join(list(block.printed()), "\n") for block in self.blocks], "\n\n")

    def markdown(self) -> Answer:
        """To `Convert the document to markdown.`: each block behind its type and box."""
        parts: list[Answer] = []
        for block in self.blocks:
            label = _with_box(_said(block.type), self._place(block.box), block.box)
            parts.append([*label, ("\n", None), *block.markdown()])
        return _join(parts, "\n\n")

    def grounding(self) -> Answer:
        """To `OCR this image.`: each printed line (of a table, each cell) and its box."""
        lines = [line for block in self.blocks for line in block.lines]
        return _join([self._located(line.answer(), line.box) for line in lines], "\n")

    def locate(self, rng: random.Random) -> tuple[str, Answer]:
        """A line of the page that has no twin, and the answer to `Locate ...`."""
        lines = [line for block in self.blocks for line in block.lines if line.text.strip() not in ("", "-")]
        unique = [line for line in lines if sum(line.text in other.text for other in lines) == 1] or lines
        line = rng.choice(unique)
        return text_of(line.answer()).strip(), self._located(line.answer(), line.box)

    def _located(self, said: Answer, box: BoxOf) -> Answer:
        return _with_box(_strip(said), self._place(box), box)

    def _place(self, box: BoxOf) -> tuple[int, ...]:
        width, height = self.image.size
        scaled = (value / side * MAX_COORDINATE for value, side in zip(box, (width, height) * 2, strict=True))
        return tuple(min(max(round(value), 0), MAX_COORDINATE) for value in scaled)


def text_of(answer: Answer) -> str:
    """What an answer says, without the places."""
    return "".join(token for token, _ in answer)


def _strip(answer: Answer) -> Answer:
    start = 0
    while start < len(answer) - 1 and answer[start][0] == " ":
        start += 1
    return answer[start:]


def _said(text: str) -> Answer:
    return [(character, None) for character in text]


def _join(parts: Sequence[Answer], separator: str) -> Answer:
    """The separator's characters speak of where the part before it ended."""
    joined: Answer = []
    for part in parts:
        if joined:
            joined += [(character, joined[-1][1]) for character in separator]
        joined += part
    return joined


def _with_box(said: Answer, box: tuple[int, ...], place: BoxOf) -> Answer:
    left, top, right, bottom = place
    corners = [(left, top)] * 2 + [(right, bottom)] * 2
    first = next((where for _, where in said if where), corners[0])
    answer: Answer = [("<|ref|>", first), *said, ("<|/ref|>", said[-1][1]), ("<|det|>", first), *_said("[[")]
    for index, (value, corner) in enumerate(zip(box, corners, strict=True)):
        answer += _said(", ") if index else []
        answer += [(digit, corner) for digit in str(value)]
    return [*answer, *_said("]]"), ("<|/det|>", None)]


def _around(boxes: Sequence[BoxOf]) -> BoxOf:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
