"""What the pages of a document add up to."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from adapter.cli.events import PageFailed, PageResult


def joined(texts: Iterable[str]) -> str:
    """The pages' texts, a blank line between two; it ends with a line break."""
    text = "\n\n".join(stripped for text in texts if (stripped := text.strip("\n")))
    return f"{text}\n" if text else ""


def blocks_json(pages: Sequence[PageResult | PageFailed]) -> bytes:
    """A list of pages, each with its size in pixels, which the boxes refer to, and its blocks or its error."""
    return orjson.dumps([_blocks_of(page) for page in pages], option=orjson.OPT_INDENT_2) + b"\n"


def _blocks_of(page: PageResult | PageFailed) -> dict[str, Any]:
    if isinstance(page, PageFailed):
        return {"page": page.page, "error": page.error.message}
    return {"page": page.page, "width": page.width, "height": page.height, "blocks": page.blocks}
