"""A page as Mistral's API has it: figures, tables, headers and footers taken out of the Markdown."""

import base64
from collections.abc import Iterable, Sequence, Set
from itertools import islice

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
from adapter.ocr.grounding import GroundingParser, TextDelta
from adapter.ocr.layout import FIGURES, Box, PageBlock
from adapter.ocr.markdown import FigureBox, read_page
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
    texts = _texts(result.raw)
    figures = iter(content.figures)
    for block, text in zip(content.blocks, texts, strict=False):
        page.add(block, text, list(islice(figures, len(block.boxes) if block.type in FIGURES else 0)))
    markdown = "".join(page.markdown) + texts[-1]
    pngs = {figure.id: figure.png for figure in result.figures or ()}
    return OcrPage(
        result.page - 1,
        read_page(markdown, result.page, result.width, result.height).markdown,  # tidied
        [_image(figure, pngs.get(figure.id)) for figure in kept],
        page.tables,
        "\n".join(page.headers) or None,
        "\n".join(page.footers) or None,
        Dimensions(dpi, result.height, result.width),
        page.blocks if body.include_blocks else None,
    )


def _texts(raw: str) -> list[str]:
    """The text of each block, with the space around it, and that behind the last."""
    texts = [""]
    parser = GroundingParser()
    for event in parser.decode(raw) + parser.flush():
        if isinstance(event, TextDelta):
            texts[-1] += event.text
        else:
            texts.append("")
    return texts


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

    def add(self, block: PageBlock, text: str, figures: Sequence[FigureBox]) -> None:
        """`text` is the block's with the space around it."""
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
        for figure in figures:
            self.markdown.append(f"\n\n{_link(figure.id)}\n\n" if figure.id in self._figure_ids else "\n\n")
        self.markdown.append(text)
        self.blocks += self._blocks(block, figures, table_id)

    def _blocks(self, block: PageBlock, figures: Sequence[FigureBox], table_id: str | None) -> Iterable[AnyBlock]:
        """None of text without a box, since a block has one."""
        if block.type in FIGURES:
            for figure in figures:
                if figure.id in self._figure_ids:
                    yield ImageBlock("image", *figure.box, _link(figure.id), figure.id)
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


def _link(figure_id: str) -> str:
    return f"![{figure_id}]({figure_id})"
