"""Draws pages by a seed, worn as a scanner or a camera gives them."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.ocr.fonts import CODE_FONTS, TEXT_FONTS
from demo.ocr.pages import Block, BlockType, BoxOf, Line, Page, Point
from demo.ocr.setter import Setter, Style
from demo.ocr.text import Writer

MAX_LINES = 15
VIEW_SIDE = 1024
"""Pixels of the square view that the model reads a page in."""


@dataclass(frozen=True)
class PageMaker:
    """Draws pages whose text, seen in a view of `view` pixels, has an em of `ems`."""

    view: int = VIEW_SIDE
    ems: tuple[float, float] = (24, 52)
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
