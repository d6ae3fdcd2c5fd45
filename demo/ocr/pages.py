"""Printed pages made up by a seed, with what an answer to each of the model's prompts has to say about them."""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.ocr.fonts import CODE_FONTS, TEXT_FONTS, advance, load_font
from demo.ocr.text import Writer

Point: TypeAlias = tuple[float, float]
"""Pixels of the page, x and y."""
BoxOf: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the page."""
Answer: TypeAlias = list[tuple[str, Point | None]]
"""Characters and tags in order, each with the place on the page that it speaks of."""
BlockType: TypeAlias = Literal["title", "text", "list", "code", "table"]
MAX_LINES = 15
VIEW_SIDE = 640
"""Pixels of the square view that the model reads a page in."""
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


@dataclass(frozen=True)
class Style:
    """How a page is set. Lengths in pixels of the page."""

    width: int
    height: int
    em: int
    pitch: float
    """From one baseline to the next."""
    margin: float
    max_lines: int
    font: str
    bold: str
    code_font: str
    kinds: tuple[BlockType, ...]


@dataclass
class Setter:
    """Sets blocks on an empty page, from its top."""

    style: Style
    writer: Writer
    draw: ImageDraw.ImageDraw
    ink: int
    y: float = 0.0
    lines_left: int = 0
    blocks: list[Block] = field(default_factory=list)

    def fill(self) -> list[Block]:
        """Blocks until the page or the number of lines is used up."""
        style, rng = self.style, self.writer.rng
        self.y, self.lines_left = style.margin + style.em, style.max_lines
        while self.lines_left > 0 and self._room() >= 1:
            before = len(self.blocks)
            kind = rng.choice(style.kinds)
            if kind == "title" and self.blocks and self.blocks[-1].type == "title":
                kind = "text"
            getattr(self, f"_set_{kind}")()
            if len(self.blocks) == before:
                break
            self.y += style.pitch * rng.uniform(0.6, 1.1)
        return self.blocks

    def _room(self) -> int:
        """Lines that still fit."""
        return min(self.lines_left, math.floor((self.style.height - self.style.margin - self.y) / self.style.pitch + 1))

    def _line(self, text: str, font: str, x: float, size: int | None = None) -> Line:
        size = size or self.style.em
        loaded = load_font(font, size)
        self.draw.text((x, self.y), text, fill=self.ink, font=loaded, anchor="ls")
        places, pen = [], x
        for character in text:
            width = advance(font, size, character)
            places.append((pen + width / 2, self.y - 0.3 * size))
            pen += width
        indent = len(text) - len(text.lstrip(" "))
        left = x + sum(advance(font, size, character) for character in text[:indent])
        _, top, right, bottom = loaded.getbbox(text.rstrip(" "), anchor="ls")
        return Line(text, places, (left, self.y + top, x + right, self.y + bottom))

    def _width(self, text: str, font: str, size: int | None = None) -> float:
        return sum(advance(font, size or self.style.em, character) for character in text)

    def _fitted(self, text: str, font: str, width: float, size: int | None = None) -> str:
        """As many whole words as fit, or as many characters of the first."""
        words, kept = text.split(" "), ""
        for word in words:
            longer = f"{kept} {word}" if kept else word
            if self._width(longer, font, size) > width:
                break
            kept = longer
        while not kept and words[0]:
            words[0] = words[0][:-1]
            kept = words[0] if self._width(words[0], font, size) <= width else ""
        return kept

    def _add(self, kind: BlockType, lines: list[Line], columns: int = 0) -> None:
        if lines:
            self.blocks.append(Block(kind, lines, columns))

    @property
    def _text_width(self) -> float:
        return self.style.width - 2 * self.style.margin

    def _next_line(self) -> None:
        self.y += self.style.pitch
        self.lines_left -= 1

    def _set_title(self) -> None:
        style, rng = self.style, self.writer.rng
        size = round(style.em * rng.uniform(1.25, 1.7))
        if self._room() < 2:
            return self._set_text()
        self.y += size - style.em
        text = self._fitted(self.writer.heading(), style.bold, self._text_width, size)
        if text:
            self._add("title", [self._line(text, style.bold, style.margin, size)])
            self._next_line()

    def _set_text(self) -> None:
        rng, lines = self.writer.rng, []
        num_lines = min(self._room(), rng.choice((1, 1, 2, 3, 4, 5, 8)))
        roll = rng.random()
        rest = self.writer.prose(round(num_lines * self._text_width / self.style.em * 2.1))
        for _ in range(num_lines):
            if roll < 0.15:
                text = self._fitted(self.writer.pair(), self.style.font, self._text_width)
            elif roll < 0.25:
                text = f"{self.writer.item()[:24].strip()}{' ' * rng.randint(3, 12)}{self.writer.number()}"
                text = text if self._width(text, self.style.font) <= self._text_width else self.writer.number()[:4]
            else:
                text = self._fitted(rest, self.style.font, self._text_width)
                rest = rest[len(text) :].lstrip(" ")
            if not text.strip():
                break
            lines.append(self._line(text, self.style.font, self.style.margin))
            self._next_line()
        self._add("text", lines)

    def _set_list(self) -> None:
        rng, lines = self.writer.rng, []
        numbered, mark = rng.random() < 0.4, rng.choice("-*")
        for index in range(min(self._room(), rng.randint(2, 5))):
            text = f"{f'{index + 1}.' if numbered else mark} {self.writer.item()}"
            text = self._fitted(text, self.style.font, self._text_width)
            if not text:
                break
            lines.append(self._line(text, self.style.font, self.style.margin))
            self._next_line()
        self._add("list", lines)

    def _set_code(self) -> None:
        lines = []
        font = self.style.code_font
        for text in self.writer.code(max(self._room(), 1)):
            while self._width(text, font) > self._text_width:
                text = text[:-1]
            if not text.strip():
                break
            lines.append(self._line(text.rstrip(), font, self.style.margin))
            self._next_line()
        self._add("code", lines)

    def _set_table(self) -> None:
        style, rng = self.style, self.writer.rng
        row_height = style.pitch * rng.uniform(1.0, 1.35)
        max_rows = min(5, self.lines_left, math.floor(self._room() * style.pitch / row_height))
        if max_rows < 2:
            return self._set_text()
        columns = rng.randint(2, 4)
        cells = self.writer.table(rng.randint(2, max_rows), columns)
        pad = style.em * rng.uniform(0.4, 1.2)
        widths = [max(self._width(row[column], style.font) for row in cells) + 2 * pad for column in range(columns)]
        while columns > 1 and sum(widths) > self._text_width:
            columns -= 1
            widths.pop()
            cells = [row[:columns] for row in cells]
        if columns < 2:
            return self._set_text()
        ruled = rng.random() < 0.6
        right_aligned = [rng.random() < 0.25 for _ in range(columns)]
        head_font = style.bold if rng.random() < 0.4 else style.font
        if head_font != style.font:
            widths = [
                max(width, self._width(head, head_font) + 2 * pad) for width, head in zip(widths, cells[0], strict=True)
            ]
        lines = []
        top = self.y - style.em
        for index, row in enumerate(cells):
            x = style.margin
            for text, width, align_right in zip(row, widths, right_aligned, strict=True):
                font = head_font if index == 0 else style.font
                shift = width - 2 * pad - self._width(text, font) if align_right else 0
                lines.append(self._line(text, font, x + pad + shift))
                x += width
            self.y += row_height
            self.lines_left -= 1
        if ruled:
            self._rule(top, row_height, len(cells), widths)
        self.y += style.pitch - row_height
        self._add("table", lines, columns)

    def _rule(self, top: float, row_height: float, num_rows: int, widths: list[float]) -> None:
        shift = (row_height - self.style.em) / 2 - 0.1 * self.style.em
        top -= shift
        thick = max(1, round(self.style.em / 18))
        right, bottom = self.style.margin + sum(widths), top + num_rows * row_height
        for row in range(num_rows + 1):
            y = top + row * row_height
            self.draw.line((self.style.margin, y, right, y), fill=self.ink, width=thick)
        x = self.style.margin
        for width in (*widths, 0):
            self.draw.line((x, top, x, bottom), fill=self.ink, width=thick)
            x += width


@dataclass(frozen=True)
class PageMaker:
    """Draws pages whose text, seen in a view of `view` pixels, has an em of `ems`."""

    view: int = VIEW_SIDE
    ems: tuple[float, float] = (18, 44)
    min_lines: int = 1
    max_lines: int = MAX_LINES
    max_characters: int = 900
    min_proportion: float = 0.35
    """Of the shorter side to the longer."""
    fonts: tuple[str, ...] = TEXT_FONTS
    code_fonts: tuple[str, ...] = CODE_FONTS
    kinds: tuple[BlockType, ...] = ("title", "text", "text", "text", "list", "code", "code", "table")
    held_out_texts: bool = False
    is_plain: bool = False
    """Neither noise nor rotation."""

    def page(self, rng: random.Random) -> Page:
        """A page; the same state of `rng` gives the same one."""
        while True:
            page = self._try(rng)
            if page.blocks and len(page.text()) <= self.max_characters:
                return page

    def _try(self, rng: random.Random) -> Page:
        style = self._style(rng)
        paper, ink = rng.randint(205, 255), rng.choice((0, 0, rng.randint(0, 90)))
        if rng.random() < 0.04:
            paper, ink = 255 - paper, 255 - ink
        image = Image.new("L", (style.width, style.height), paper)
        draw = ImageDraw.Draw(image)
        blocks = Setter(style, Writer(rng, self.held_out_texts), draw, ink).fill()
        if blocks and rng.random() < 0.5:  # no empty rest under the text
            bottom = max(block.box[3] for block in blocks) + style.margin * rng.uniform(0.6, 1.5)
            image = image.crop((0, 0, style.width, min(style.height, math.ceil(bottom))))
        page = Page(image, blocks)
        return page if self.is_plain else _worn(page, paper, rng)

    def _style(self, rng: random.Random) -> Style:
        em_in_view = math.exp(rng.uniform(*map(math.log, self.ems)))
        num_lines = rng.randint(self.min_lines, self.max_lines)
        pitch = rng.uniform(1.2, 1.75)
        num_lines = max(1, min(num_lines, int((self.view - 2 * em_in_view) / (em_in_view * pitch))))
        scale = max(math.exp(rng.uniform(math.log(0.5), math.log(1.25))), 11 / em_in_view)
        em = round(em_in_view * scale)
        long_side = round(self.view * em / em_in_view)
        short_side = round(long_side * rng.uniform(self.min_proportion, 1.0))
        needed = (num_lines + 1.5) * em * pitch
        tall = rng.random() < 0.35 and short_side > 10 * em
        width, height = (short_side, long_side) if tall else (long_side, max(short_side, min(long_side, round(needed))))
        font = rng.choice(self.fonts)
        return Style(
            width=width,
            height=height,
            em=em,
            pitch=em * pitch,
            margin=em * rng.uniform(0.5, 2.0),
            max_lines=num_lines,
            font=font,
            bold=_bold_of(font, self.fonts) if rng.random() < 0.7 else font,
            code_font=rng.choice(self.code_fonts if rng.random() < 0.85 else self.fonts),
            kinds=self.kinds,
        )


def _bold_of(font: str, fonts: tuple[str, ...]) -> str:
    """The bold face among `fonts` that belongs to one, else itself."""
    bold = f"{font.partition('-')[0]}-Bold"
    return bold if bold in fonts else font


def _worn(page: Page, paper: int, rng: random.Random) -> Page:
    """The page as a scanner or a camera gives it."""
    image, blocks = page.image, page.blocks
    if rng.random() < 0.3:
        image, blocks = _turned(image, blocks, rng.uniform(-1.5, 1.5), paper)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    if rng.random() < 0.4:
        noise = np.random.default_rng(rng.getrandbits(32))
        pixels = np.asarray(image, np.float32)
        if rng.random() < 0.5:  # unevenly lit
            slope = np.linspace(0, rng.uniform(-40, 0), pixels.shape[1], dtype=np.float32)
            pixels = pixels + (slope if rng.random() < 0.5 else slope[::-1])
        pixels = pixels + noise.normal(0, rng.uniform(1, 12), pixels.shape).astype(np.float32)
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.15:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=rng.randint(40, 90))
        image = Image.open(data).convert("L")
    if rng.random() < 0.1:
        tint = [rng.uniform(0.85, 1.0) for _ in range(3)]
        image = Image.merge("RGB", [image.point([round(value * part) for value in range(256)]) for part in tint])
    return Page(image, blocks)


def _turned(image: Image.Image, blocks: list[Block], degrees: float, paper: int) -> tuple[Image.Image, list[Block]]:
    centre_x, centre_y = image.width / 2, image.height / 2
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def turn(point: Point) -> Point:
        x, y = point[0] - centre_x, point[1] - centre_y
        return centre_x + x * cosine + y * sine, centre_y - x * sine + y * cosine

    def turn_box(box: BoxOf) -> BoxOf:
        left, top, right, bottom = box
        corners = [turn(corner) for corner in ((left, top), (right, top), (left, bottom), (right, bottom))]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    turned = [
        replace(
            block,
            lines=[Line(line.text, [turn(place) for place in line.places], turn_box(line.box)) for line in block.lines],
        )
        for block in blocks
    ]
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=paper), turned
