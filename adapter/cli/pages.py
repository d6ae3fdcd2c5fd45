"""What the pages of a document add up to, and which are asked for."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from adapter.cli.events import Page, PageFailed, PageResult, RestFailed


def joined(texts: Iterable[str]) -> str:
    """The pages' texts, a blank line between two; it ends with a line break."""
    text = "\n\n".join(stripped for text in texts if (stripped := text.strip("\n")))
    return f"{text}\n" if text else ""


def mark(failed: PageFailed | RestFailed) -> str:
    """What stands in the text where pages are missing."""
    match failed:
        case PageFailed():
            return f"[page {failed.page} is missing: {_line(failed.error.message)}]"
        case RestFailed():
            return f"[all pages after page {failed.last_page} are missing: {_line(failed.message)}]"


def blocks_json(pages: Sequence[Page]) -> bytes:
    """A list of pages, each with its size in pixels, which the boxes refer to, and its blocks or its error."""
    return orjson.dumps([_blocks_of(page) for page in pages], option=orjson.OPT_INDENT_2) + b"\n"


def pages_after(pages: str | None, last: int) -> str:
    """What of `1-3,7`, `5-`, `-2` and the like, which the server has accepted, comes after page `last`."""
    left = []
    for part in (pages or "1-").split(","):
        start, dash, end = (number.strip() for number in part.partition("-"))
        first = max(int(start or 1), last + 1)
        if dash and not end:
            left.append(f"{first}-")
        elif int(end or start) >= first:
            last_of_it = int(end or start)
            left.append(str(first) if first == last_of_it else f"{first}-{last_of_it}")
    return ",".join(left)


def _blocks_of(page: Page) -> dict[str, Any]:
    match page:
        case PageResult():
            return {"page": page.page, "width": page.width, "height": page.height, "blocks": page.blocks}
        case PageFailed():
            return {"page": page.page, "error": page.error.message}
        case RestFailed():
            return {"after_page": page.last_page, "error": page.message}


def _line(message: str) -> str:
    return " ".join(message.split())
