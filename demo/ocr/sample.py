"""Draws the page of README's examples: `python -m demo.ocr.sample`."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

SAMPLE = Path(__file__).with_name("page.png")
TITLE = "Invoice 2041"
DATE = "Date: 21 November 2026"
TABLE = (("Item", "Boxes", "Price"), ("Paper", "3", "12.60"), ("Pencils", "10", "25.20"))
TOTAL = "Please pay 37.80 in 30 days."
COLUMNS = (40, 240, 380, 520)
ROW_HEIGHT = 46


def draw() -> Image.Image:
    """In the font that Pillow carries."""
    page = Image.new("L", (640, 440), "white")
    pen = ImageDraw.Draw(page)
    pen.text((40, 36), TITLE, font_size=40)
    pen.text((40, 116), DATE, font_size=26)
    for row, cells in enumerate(TABLE):
        for left, cell in zip(COLUMNS, cells, strict=False):
            pen.text((left + 14, 184 + row * ROW_HEIGHT), cell, font_size=26)
    top, bottom = 176, 176 + len(TABLE) * ROW_HEIGHT
    for row in range(len(TABLE) + 1):
        pen.line((COLUMNS[0], top + row * ROW_HEIGHT, COLUMNS[-1], top + row * ROW_HEIGHT), width=2)
    for left in COLUMNS:
        pen.line((left, top, left, bottom), width=2)
    pen.text((40, 350), TOTAL, font_size=26)
    return page


def main() -> None:
    draw().save(SAMPLE, optimize=True)


if __name__ == "__main__":
    main()
