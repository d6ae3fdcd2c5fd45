"""The figures of a checkpoint, on pages that no training drew: texts are from files of their own, and two fonts."""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rapidfuzz.distance import Levenshtein

from adapter.ocr.layout import Box
from adapter.ocr.markdown import PageContent, read_page
from adapter.ocr.templates import build_prompt
from demo.card import Figure, percent, share
from demo.ocr.fonts import HELD_OUT_FONTS
from demo.ocr.maker import PageMaker
from demo.ocr.pages import BoxOf, Page, text_of
from demo.ocr.reader import Reader

NUM_PAGES, NUM_TABLES, NUM_MARKDOWN, NUM_BOXES = 200, 100, 100, 100
MAKER = PageMaker(held_out_texts=True)
_ROW, _CELL = re.compile(r"<tr>(.*?)</tr>"), re.compile(r"<td>(.*?)</td>")


def make_pages(maker: PageMaker, seed: str) -> Iterator[Page]:
    """Ever more pages, the same for the same seed."""
    index = 0
    while True:
        yield maker.page(random.Random(f"held out/{seed}/{index}"))
        index += 1


def first(count: int, pages: Iterator[Page]) -> list[Page]:
    """So many of the pages."""
    return [next(pages) for _ in range(count)]


def character_error_rate(truths: Sequence[str], replies: Sequence[str]) -> float:
    """Edits over characters of the truth, all pages together."""
    return sum(map(Levenshtein.distance, truths, replies)) / sum(map(len, truths))


def text_figures(reader: Reader) -> Iterator[Figure]:
    """Text as printed, every space and line break counted."""
    fonts = [("fonts it was trained on", MAKER, "≤ 3 %")]
    for font in HELD_OUT_FONTS:
        fonts.append((f"{font}, a font it never saw", replace(MAKER, fonts=(font,), code_fonts=(font,)), "≤ 10 %"))
    for title, maker, wanted in fonts:
        pages = first(NUM_PAGES, make_pages(maker, title))
        truths = [text_of(page.text()).strip() for page in pages]
        replies = reader.read([(page.image, build_prompt("free", None)) for page in pages])
        wrong = [(truth, reply) for truth, reply in zip(truths, replies, strict=True) if truth != reply]
        missed = tuple(f"\n{truth}\n    --- was read as\n{reply}\n" for truth, reply in wrong)
        rate = percent(character_error_rate(truths, replies))
        yield Figure(f"characters wrong, {NUM_PAGES} pages, {title}", rate, wanted, missed)
        yield Figure("of these pages without any error", share(NUM_PAGES - len(wrong), NUM_PAGES))


def table_figures(reader: Reader) -> Iterator[Figure]:
    """Tables of 2 to 5 rows and 2 to 4 columns, one or more on a page."""
    pages: list[Page] = []
    truths: list[list[list[list[str]]]] = []
    for page in make_pages(replace(MAKER, kinds=("table",), min_lines=4), "tables"):
        tables = [[[cell.text for cell in row] for row in block.rows] for block in page.blocks if block.type == "table"]
        if tables:
            pages.append(page)
            truths.append(tables)
        if sum(map(len, truths)) >= NUM_TABLES:
            break
    replies = reader.read([(page.image, build_prompt("markdown", None)) for page in pages])
    good, missed = 0, []
    for tables, reply in zip(truths, replies, strict=True):
        read = [[_CELL.findall(row) for row in _ROW.findall(part)] for part in reply.split("<table>")[1:]]
        for index, table in enumerate(tables):
            if read[index : index + 1] == [table]:
                good += 1
            else:
                missed.append(f"{table} ≠ {read[index : index + 1]}")
    yield Figure("tables with every cell right", share(good, good + len(missed)), "≥ 80 %", tuple(missed))


def markdown_figures(reader: Reader) -> Iterator[Figure]:
    """Headings, paragraphs, lists, code and tables."""
    pages = first(NUM_MARKDOWN, make_pages(MAKER, "markdown"))
    replies = reader.read([(page.image, build_prompt("markdown", None)) for page in pages])
    truths = [_content(page, text_of(page.markdown())) for page in pages]
    read = [_content(page, reply) for page, reply in zip(pages, replies, strict=True)]
    rate = character_error_rate([content.markdown for content in truths], [content.markdown for content in read])
    yield Figure(f"characters wrong in the Markdown of {NUM_MARKDOWN} pages", percent(rate))
    kinds = [[[block.type for block in content.blocks] for content in contents] for contents in (truths, read)]
    same = sum(a == b for a, b in zip(*kinds, strict=True))
    yield Figure("of these pages with all headings, lists, … found", share(same, NUM_MARKDOWN))


def box_figures(reader: Reader) -> Iterator[Figure]:
    """Boxes of all lines, and of one that is asked for."""
    pages = first(NUM_BOXES, make_pages(MAKER, "boxes"))
    replies = reader.read([(page.image, build_prompt("grounding", None)) for page in pages])
    overlaps: list[float] = []
    for page, reply in zip(pages, replies, strict=True):
        lines = [line.box for block in page.blocks for line in block.lines]
        overlaps += best_overlaps(lines, _boxes(page, reply))
    yield Figure("boxes of lines, mean IoU (0 where there is none)", f"{statistics.mean(overlaps):.2f}", "≥ 0.7")
    asked = [page.locate(random.Random(index)) for index, page in enumerate(pages)]
    prompts = [build_prompt("locate", target) for target, _ in asked]
    replies = reader.read([(page.image, prompt) for page, prompt in zip(pages, prompts, strict=True)])
    overlaps = []
    for page, (_, answer), reply in zip(pages, asked, replies, strict=True):
        overlaps += best_overlaps(_boxes(page, text_of(answer)), _boxes(page, reply)[:1])
    yield Figure("box of a line that is asked for, mean IoU", f"{statistics.mean(overlaps):.2f}")


def best_overlaps(boxes: Sequence[BoxOf], found: Sequence[BoxOf]) -> list[float]:
    """The overlap of each box with a found one of its own, best pairs first; 0 where none is left."""
    pairs = sorted(((overlap(box, other), i, j) for i, box in enumerate(boxes) for j, other in enumerate(found)))
    best: dict[int, float] = {}
    taken: set[int] = set()
    for value, i, j in reversed(pairs):
        if i not in best and j not in taken:
            best[i] = value
            taken.add(j)
    return [best.get(i, 0.0) for i in range(len(boxes))]


def overlap(one: BoxOf, other: BoxOf) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if shared else 0.0


def _content(page: Page, reply: str) -> PageContent:
    return read_page(reply, 1, *page.image.size)


def _boxes(page: Page, reply: str) -> list[Box]:
    return [box for block in _content(page, reply).blocks for box in block.boxes]


def all_figures(reader: Reader) -> Iterator[Figure]:
    """Every figure, in the card's order."""
    with reader.running():
        for part in (text_figures, table_figures, markdown_figures, box_figures):
            yield from part(reader)
