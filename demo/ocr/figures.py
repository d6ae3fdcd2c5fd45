"""The figures of a checkpoint, on pages that no training saw: their texts, their seeds and one font are held out."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rapidfuzz.distance import Levenshtein

from adapter.ocr.markdown import read_page
from adapter.ocr.templates import build_prompt
from demo.card import Figure, percent, share
from demo.ocr.fonts import HELD_OUT_FONT
from demo.ocr.pages import Page, PageMaker, text_of
from demo.ocr.reader import Reader

NUM_PAGES, NUM_TABLES, NUM_GROUNDED = 200, 100, 100
MAKER = PageMaker(held_out_texts=True)
_CELL = re.compile(r"<td>(.*?)</td>")


def make_pages(maker: PageMaker, count: int, seed: str) -> list[Page]:
    return [maker.page(random.Random(f"held out/{seed}/{index}")) for index in range(count)]


def character_error_rate(truths: Sequence[str], replies: Sequence[str]) -> float:
    """Edits over characters of the truth, all pages together."""
    return sum(map(Levenshtein.distance, truths, replies)) / sum(map(len, truths))


def text_figures(reader: Reader) -> Iterator[Figure]:
    unseen = replace(MAKER, fonts=(HELD_OUT_FONT,), code_fonts=(HELD_OUT_FONT,))
    for title, maker, wanted in (
        ("fonts it was trained on", MAKER, "≤ 3 %"),
        (f"a font it never saw ({HELD_OUT_FONT})", unseen, "≤ 10 %"),
    ):
        pages = make_pages(maker, NUM_PAGES, title)
        truths = [text_of(page.text()).strip() for page in pages]
        started_s = time.perf_counter()
        replies = reader.read([page.image for page in pages], build_prompt("free", None))
        pages_per_minute = 60 * NUM_PAGES / (time.perf_counter() - started_s)
        rate = character_error_rate(truths, replies)
        wrong = [(truth, reply) for truth, reply in zip(truths, replies, strict=True) if truth != reply]
        missed = tuple(f"\n{truth}\n    --- was read as\n{reply}\n" for truth, reply in wrong)
        yield Figure(f"characters wrong, {NUM_PAGES} pages, {title}", percent(rate), wanted, missed)
        yield Figure("of these pages without any error", share(NUM_PAGES - len(wrong), NUM_PAGES))
        yield Figure("pages a minute, many at once, one compute thread", f"{pages_per_minute:.0f}")


def table_figures(reader: Reader) -> Iterator[Figure]:
    maker = replace(MAKER, kinds=("table",), min_lines=2, max_lines=5)
    pages = [page for page in make_pages(maker, 3 * NUM_TABLES, "tables") if [b.type for b in page.blocks] == ["table"]]
    pages = pages[:NUM_TABLES]
    truths = [[cell.text for cell in page.blocks[0].lines] for page in pages]
    replies = reader.read([page.image for page in pages], build_prompt("markdown", None))
    read = [_CELL.findall(reply) for reply in replies]
    pairs = list(zip(truths, read, strict=True))
    missed = tuple(f"{truth} ≠ {cells}" for truth, cells in pairs if truth != cells)
    right = sum(a == b for truth, cells in pairs for a, b in zip(truth, cells, strict=False))
    yield Figure("tables with every cell right", share(len(pages) - len(missed), len(pages)), "≥ 80 %", missed)
    yield Figure("cells of these tables that are right", share(right, sum(map(len, truths))))


def markdown_figures(reader: Reader) -> Iterator[Figure]:
    pages = make_pages(MAKER, NUM_GROUNDED, "markdown")
    truths = [text_of(page.markdown()).strip() for page in pages]
    replies = reader.read([page.image for page in pages], build_prompt("markdown", None))
    yield Figure("characters wrong in Markdown", percent(character_error_rate(truths, replies)))


def grounding_figures(reader: Reader) -> Iterator[Figure]:
    pages = make_pages(MAKER, NUM_GROUNDED, "boxes")
    replies = reader.read([page.image for page in pages], build_prompt("grounding", None))
    overlaps = []
    for page, reply in zip(pages, replies, strict=True):
        found = [box for block in read_page(reply, 1, *page.image.size).blocks for box in block.boxes]
        lines = [line for block in page.blocks for line in block.lines]
        overlaps += [overlap(line.box, box) for line, box in zip(lines, found, strict=False)]
        overlaps += [0.0] * (len(lines) - len(found))
    yield Figure("boxes of lines, mean overlap (IoU), a missing one 0", f"{statistics.mean(overlaps):.2f}", "≥ 0.7")


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if shared else 0.0


def all_figures(reader: Reader) -> Iterator[Figure]:
    """Every figure, in the card's order."""
    with reader.running():
        for part in (text_figures, table_figures, markdown_figures, grounding_figures):
            yield from part(reader)
