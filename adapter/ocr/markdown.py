"""The raw text that the model wrote for a page, made into all that a client may ask for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adapter.ocr.grounding import Event, GroundingParser, TextDelta
from adapter.ocr.layout import FIGURES, Box, PageBlock, on_page

# Fenced code and HTML tables, up to the end of the text where they have none.
_VERBATIM = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^`\n]*\n(?:.*?^ {0,3}(?P=fence)[`~]*[ \t]*$|.*)"
    r"|<table\b(?:.*?</table>|.*)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_MANY_BREAKS = re.compile(r"\n(?:[ \t]*\n){2,}")
# As DeepSeek's own script does: few renderers of formulas know these two.
_SPELLED_OUT = (("\\coloneqq", ":="), ("\\eqqcolon", "=:"))


@dataclass(frozen=True, slots=True)
class FigureBox:
    """Where a figure is on its page, in pixels of the upright image; `id` is a file name, as in the Markdown."""

    id: str
    box: Box


@dataclass(frozen=True, slots=True)
class PageContent:
    """`text` is the clean text, as it was streamed."""

    text: str
    markdown: str
    blocks: Sequence[PageBlock]
    figures: Sequence[FigureBox]


def read_page(raw: str, page: int, width: int, height: int) -> PageContent:
    """`raw` is the whole output for page `page`, which is an upright image of that size in pixels."""
    parser = GroundingParser()
    return page_content(parser.decode(raw) + parser.flush(), page, width, height)


def page_content(events: Sequence[Event], page: int, width: int, height: int) -> PageContent:
    """The same from the events of the whole output."""
    text: list[str] = []
    markdown: list[str] = []
    blocks: list[PageBlock] = []
    figures: list[FigureBox] = []
    block_start = 0  # in markdown
    for event in events:
        if isinstance(event, TextDelta):
            text.append(event.text)
            markdown.append(event.text)
            continue
        block = on_page(event.block, page, width, height)
        blocks.append(block)
        new = _figures(block, len(figures))
        markdown[block_start:block_start] = [f"\n\n![{figure.id}]({figure.id})\n\n" for figure in new]
        figures += new
        block_start = len(markdown)
    return PageContent("".join(text), _tidy("".join(markdown)), blocks, figures)


def _figures(block: PageBlock, num_before: int) -> list[FigureBox]:
    """One figure per box: a ref may have several."""
    if block.type not in FIGURES:
        return []
    return [
        FigureBox(f"page-{block.page}-figure-{number}.png", box)
        for number, box in enumerate(block.boxes, num_before + 1)
    ]


def _tidy(markdown: str) -> str:
    for command, plain in _SPELLED_OUT:
        markdown = markdown.replace(command, plain)
    parts = []
    end = 0
    for verbatim in _VERBATIM.finditer(markdown):
        parts += [_MANY_BREAKS.sub("\n\n", markdown[end : verbatim.start()]), verbatim[0]]
        end = verbatim.end()
    parts.append(_MANY_BREAKS.sub("\n\n", markdown[end:]))
    return "".join(parts).strip()
