"""A page as Mistral's API has it: figures, tables, headers and footers taken out of the Markdown."""

import base64
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

from adapter.mistral_ocr.schemas import (
    AnyBlock,
    Block,
    Dimensions,
    Image,
    ImageBlock,
    MistralOcrRequest,
    OcrPage,
    Table,
    TableBlock,
)
from adapter.ocr.layout import FIGURES, Box, PageBlock
from adapter.ocr.markdown import FigureBox, Passage, read_page, tidy
from adapter.ocr.results import PageResult

# Those of our layout types that Mistral's client calls otherwise. What it has no name for is text.
_TYPES = {"sub_title": "title", "formula": "equation", "reference": "references", "algorithm": "code"}
_MISTRAL_TYPES = {"aside_text", "caption", "code", "equation", "footer", "header", "list", "references", "text"}
_MISTRAL_TYPES |= {"signature", "title"}


def mistral_page(result: PageResult, body: MistralOcrRequest, max_images: int | None, dpi: int) -> OcrPage:
    """`result` has the part `raw`, and `figures` if the body wants the images; `max_images`: None for no limit."""
    assert result.raw is not None
    content = read_page(result.raw, result.page, result.width, result.height)
    min_size = body.image_min_size or 0
    kept = [figure for figure in content.figures if min(_size(figure.box)) >= min_size][:max_images]
    page = _Page(result.page, body, {figure.id for figure in kept})
    for passage in content.passages:
        page.add(passage)
    pngs = {figure.id: figure.png for figure in result.figures or ()}
    return OcrPage(
        result.page - 1,
        tidy("".join(page.markdown)),
        [_image(figure, pngs.get(figure.id)) for figure in kept],
        page.tables,
        "\n".join(page.headers) or None,
        "\n".join(page.footers) or None,
        Dimensions(dpi, result.height, result.width),
        page.blocks if body.include_blocks else None,
    )


class _Page:
    """Gathers a page's Markdown, its blocks, and what is taken out of the Markdown."""

    def __init__(self, number: int, body: MistralOcrRequest, figure_ids: Set[str]) -> None:
        """`figure_ids`: those that are not left out."""
        self.markdown: list[str] = []
        self.blocks: list[AnyBlock] = []
        self.headers: list[str] = []
        self.footers: list[str] = []
        self.tables: list[Table] = []
        self._number = number
        self._body = body
        self._figure_ids = figure_ids

    def add(self, passage: Passage) -> None:
        block, text = passage.block, passage.text
        table_id = None
        if block.type == "header" and self._body.extract_header:
            self.headers.append(block.text)
            text = "\n\n"
        elif block.type == "footer" and self._body.extract_footer:
            self.footers.append(block.text)
            text = "\n\n"
        elif block.type == "table" and self._body.table_format == "html" and block.text.startswith("<table"):
            table_id = f"page-{self._number}-table-{len(self.tables) + 1}.html"
            self.tables.append(Table(table_id, block.text))
            text = f"\n\n[{table_id}]({table_id})\n\n"
        kept = [figure for figure in passage.figures if figure.id in self._figure_ids]
        self.markdown.append(replace(passage, figures=kept, text=text).markdown)
        self.blocks += self._blocks(block, kept, table_id)

    def _blocks(self, block: PageBlock, figures: Sequence[FigureBox], table_id: str | None) -> Iterable[AnyBlock]:
        """None of text without a box, since a block has one."""
        if block.type in FIGURES:
            for figure in figures:
                yield ImageBlock("image", *figure.box, figure.link, figure.id)
        elif block.boxes and block.type == "table":
            yield TableBlock("table", *_around(block.boxes), block.text, table_id)
        elif block.boxes:
            yield Block(_type(block.type), *_around(block.boxes), block.text)


def _image(figure: FigureBox, png: bytes | None) -> Image:
    data_url = None if png is None else "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return Image(figure.id, *figure.box, data_url)


def _type(block_type: str) -> str:
    name = "caption" if block_type.endswith("_caption") else _TYPES.get(block_type, block_type)
    return name if name in _MISTRAL_TYPES else "text"


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _size(box: Box) -> tuple[int, int]:
    left, top, right, bottom = box
    return right - left, bottom - top
