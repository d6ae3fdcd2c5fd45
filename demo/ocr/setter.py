"""Sets made-up blocks on an empty page."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from PIL import ImageDraw

from demo.ocr.fonts import advance, load_font
from demo.ocr.pages import Block, BlockType, Line
from demo.ocr.text import Writer


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
