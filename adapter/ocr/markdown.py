"""The raw text that the model wrote for a page, made into all that a client may ask for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from adapter.ocr.grounding import GroundingParser, TextDelta
from adapter.ocr.layout import FIGURES, Box, PageBlock, on_page

MAX_FIGURES = 64
"""Of a page."""
MAX_FIGURE_AREA = 2
"""Of all its figures together, in pages: one may hold others."""

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

    @property
    def link(self) -> str:
        return f"![{self.id}]({self.id})"


@dataclass(frozen=True, slots=True)
class Passage:
    """A block as it stands in the page: its figures, then its text with the space around it."""

    block: PageBlock
    figures: Sequence[FigureBox]
    text: str

    @property
    def markdown(self) -> str:
        if self.block.type not in FIGURES:
            return self.text
        return "\n\n".join(["", *(figure.link for figure in self.figures), self.text])


@dataclass(frozen=True, slots=True)
class PageContent:
    passages: Sequence[Passage]

    @property
    def text(self) -> str:
        """Clean, as it was streamed."""
        return "".join(passage.text for passage in self.passages)

    @property
    def markdown(self) -> str:
        return tidy("".join(passage.markdown for passage in self.passages))

    @property
    def blocks(self) -> list[PageBlock]:
        return [passage.block for passage in self.passages]

    @property
    def figures(self) -> list[FigureBox]:
        return list(chain.from_iterable(passage.figures for passage in self.passages))


def read_page(raw: str, page: int, width: int, height: int) -> PageContent:
    """`raw` is the whole output for page `page`, which is an upright image of that size in pixels."""
    parser = GroundingParser()
    figures = _Figures(MAX_FIGURE_AREA * width * height)
    passages: list[Passage] = []
    text = ""
    for event in parser.decode(raw) + parser.flush():
        if isinstance(event, TextDelta):
            text += event.text
        else:
            block = on_page(event.block, page, width, height)
            passages.append(Passage(block, figures.of(block), text))
            text = ""
    assert not text, "all text is some block's"
    return PageContent(passages)


def tidy(markdown: str) -> str:
    """The same with one empty line where there are several, outside of code and tables, and none around it."""
    for command, plain in _SPELLED_OUT:
        markdown = markdown.replace(command, plain)
    parts = []
    end = 0
    for verbatim in _VERBATIM.finditer(markdown):
        parts += [_MANY_BREAKS.sub("\n\n", markdown[end : verbatim.start()]), verbatim[0]]
        end = verbatim.end()
    parts.append(_MANY_BREAKS.sub("\n\n", markdown[end:]))
    return "".join(parts).strip()


class _Figures:
    """Finds a page's figures: one per box, since a ref may have several.

    A model that goes round in a loop writes boxes without end: one that came before is left out, and so are those
    beyond the limits of a page.
    """

    def __init__(self, max_area: int) -> None:
        """In pixels, of all of them."""
        self._area_left = max_area
        self._boxes: set[Box] = set()

    def of(self, block: PageBlock) -> list[FigureBox]:
        figures = []
        for box in block.boxes if block.type in FIGURES else ():
            left, top, right, bottom = box
            area = (right - left) * (bottom - top)
            if box in self._boxes or area > self._area_left or len(self._boxes) == MAX_FIGURES:
                continue
            self._area_left -= area
            self._boxes.add(box)
            figures.append(FigureBox(f"page-{block.page}-figure-{len(self._boxes)}.png", box))
        return figures
