"""What is returned of a page: the parts that were asked for."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from adapter.documents.image_threads import ImageThreads
from adapter.documents.page import Page
from adapter.errors import ApiError, TooLarge
from adapter.ocr.fields import Part
from adapter.ocr.layout import PageBlock
from adapter.ocr.markdown import read_page
from adapter.ocr.pictures import Figure, annotate, cut_figures
from adapter.ocr.reader import PageReading
from adapter.tensors import Usage

MAX_PICTURE_BYTES = 200 * 1024 * 1024
"""Of all PNGs in one answer that is whole: it is held in memory until it is sent."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """A page that was read; what was not asked for is None."""

    page: int
    """From 1."""
    width: int
    height: int
    """In pixels of the upright image, which boxes are in, too."""
    finish_reason: str
    usage: Usage
    text: str
    """Clean, whatever was asked for."""
    markdown: str | None
    blocks: Sequence[PageBlock] | None
    figures: Sequence[Figure] | None
    annotated: bytes | None
    """PNG."""
    raw: str | None
    """The model's own text."""

    @property
    def num_picture_bytes(self) -> int:
        return sum(len(figure.png) for figure in self.figures or ()) + len(self.annotated or b"")


class PictureBudget:
    """What the pictures of one whole answer may take."""

    def __init__(self, field: str) -> None:
        """`field` asked for pictures."""
        self._field = field
        self._num_bytes = 0

    def spend(self, result: PageResult) -> None:
        """Raises `TooLarge`."""
        num_bytes = result.num_picture_bytes
        if num_bytes and self._num_bytes + num_bytes > MAX_PICTURE_BYTES:
            sentence = f"the pictures are larger than {MAX_PICTURE_BYTES} bytes in all"
            remedy = "choose fewer pages, or use /ocr/stream?format=json or /ocr/jobs"
            raise TooLarge(f"{self._field}: {sentence}; {remedy}", param=self._field)
        self._num_bytes += num_bytes


async def page_result(page: Page, reading: PageReading, parts: frozenset[Part], drawing: ImageThreads) -> PageResult:
    """Pictures are cut and drawn in `drawing`.

    Raises:
        InvalidRequest: naming `image`, which cannot be decoded.
    """
    content = read_page(reading.text, page.number, page.width, page.height)
    figures: Sequence[Figure] | None = [] if "figures" in parts else None
    annotated = None
    if figures is not None and content.figures:
        figures = await drawing.run(cut_figures, page.image, content.figures)
    if "annotated" in parts:
        annotated = await drawing.run(annotate, page.image, content.blocks)
    return PageResult(
        page.number,
        page.width,
        page.height,
        reading.finish_reason,
        reading.usage,
        content.text,
        content.markdown if "markdown" in parts else None,
        content.blocks if "blocks" in parts else None,
        figures,
        annotated,
        reading.text if "raw" in parts else None,
    )


def page_fields(result: PageResult, parts: frozenset[Part]) -> dict[str, Any]:
    """One of an answer's `pages`, for JSON."""
    fields: dict[str, Any] = {
        "page": result.page,
        "width": result.width,
        "height": result.height,
        "finish_reason": result.finish_reason,
    }
    if "text" in parts:
        fields["text"] = result.text
    if result.markdown is not None:
        fields["markdown"] = result.markdown
    if result.blocks is not None:
        fields["blocks"] = result.blocks
    if result.figures is not None:
        fields["figures"] = [_figure_fields(figure) for figure in result.figures]
    if result.annotated is not None:
        fields["annotated"] = _base64(result.annotated)
    if result.raw is not None:
        fields["raw"] = result.raw
    return fields


async def page_json(result: PageResult, parts: frozenset[Part]) -> orjson.Fragment:
    """`page_fields` as JSON, made in a thread if there are pictures."""
    if result.num_picture_bytes:
        return orjson.Fragment(await asyncio.to_thread(lambda: orjson.dumps(page_fields(result, parts))))
    return orjson.Fragment(orjson.dumps(page_fields(result, parts)))


def failed_page_fields(page: int, error: ApiError) -> dict[str, Any]:
    """One of an answer's `pages` that could not be read, for JSON."""
    return {"page": page, **orjson.loads(error.body())}


def _figure_fields(figure: Figure) -> dict[str, Any]:
    return {"id": figure.id, "box": figure.box, "image_base64": _base64(figure.png)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
