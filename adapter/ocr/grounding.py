"""DeepSeek-OCR's output as it streams: clean text and finished blocks.

With `<|grounding|>` the model writes `<|ref|>LABEL<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>`, perhaps with a
content behind it. What the label is shows only then:

    content follows, LABEL like `sub_title`   a block of that type; its text is the content
    content follows, any other LABEL          a block of text: the label and the content
    nothing follows, LABEL a kind of figure   a block of that type without text
    nothing follows, any other LABEL          a line of text: the label

"Nothing" is white space up to the next `<|ref|>` or the end. Text before the first ref is a block of text without
boxes. A tag out of place is dropped, and what would have been inside it is text: nothing is lost but the tags. Each
block begins on a line of its own; the clean text has no white space at its start or end.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from adapter.ocr.layout import FIGURES, TEXT, Block, Box, parse_boxes

MAX_LABEL_CHARACTERS = 2000
"""A longer label is text, so that what is held back stays small."""
MAX_COORDINATES_CHARACTERS = 10_000

_TAGS = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>")
_REF, _END_REF, _DET, _END_DET, _GROUNDING = _TAGS
_TAG = re.compile("(" + "|".join(map(re.escape, _TAGS)) + ")")
_MAX_TAG = max(map(len, _TAGS))
_TYPE = re.compile(r"[a-z_]+")
_COORDINATES = re.compile(r"[\s0-9,\[\]-]*")


@dataclass(frozen=True, slots=True)
class TextDelta:
    """What the clean text goes on with: all of them, joined, are the text."""

    text: str


@dataclass(frozen=True, slots=True)
class BlockEnd:
    """A block is whole; its text came before, in `TextDelta`s."""

    block: Block


Event: TypeAlias = TextDelta | BlockEnd


class _Inside(Enum):
    CONTENT = auto()
    LABEL = auto()
    COORDINATES = auto()


class GroundingParser:
    """Incremental: the events, but for how the text is cut, are the same for any split of the output."""

    def __init__(self) -> None:
        self._begun_tag = ""
        self._inside = _Inside.CONTENT
        self._tag_text: list[str] = []  # of the label or the coordinates being read
        self._num_tag_characters = 0
        self._events: list[Event] = []
        self._is_first = True
        self._at_line_start = True
        self._space_after: list[str] = []  # what was said last; told when more is said
        self._begin_block()

    def decode(self, chunk: str) -> list[Event]:
        """Return what `chunk` makes certain."""
        pieces = _TAG.split(self._begun_tag + chunk)  # text, tag, text, ..., tag, text
        rest = pieces[-1]
        self._begun_tag = rest[_begun_tag(rest) :]
        pieces[-1] = rest[: len(rest) - len(self._begun_tag)]
        for i, piece in enumerate(pieces):
            if i % 2:
                self._read_tag(piece)
            elif piece:
                self._read_text(piece)
        return self._take_events()

    def flush(self) -> list[Event]:
        """Return the rest, at the end of the output."""
        if self._begun_tag:
            self._read_text(self._begun_tag)
            self._begun_tag = ""
        self._give_tag_up()
        self._end_block()
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _read_tag(self, tag: str) -> None:
        if tag == _GROUNDING:
            return
        if self._inside is _Inside.LABEL and tag in (_END_REF, _DET):  # a label without its end, too
            self._end_label()
        elif self._inside is _Inside.COORDINATES and tag == _END_DET:
            self._end_coordinates()
        elif self._inside is not _Inside.LABEL or tag == _REF:
            self._give_tag_up()
        if tag == _REF:
            self._end_block()
            self._inside = _Inside.LABEL
        elif tag == _DET and self._is_bare:
            self._inside = _Inside.COORDINATES

    def _read_text(self, text: str) -> None:
        if self._inside is _Inside.CONTENT:
            self._read_content(text)
            return
        self._tag_text.append(text)
        self._num_tag_characters += len(text)
        is_label = self._inside is _Inside.LABEL
        if self._num_tag_characters > (MAX_LABEL_CHARACTERS if is_label else MAX_COORDINATES_CHARACTERS):
            self._release()

    def _read_content(self, text: str) -> None:
        if self._is_bare:
            content = text.lstrip()
            self._space.append(text[: len(text) - len(content)])
            if not content:
                return
            self._begin_content()
            text = content
        self._say(text)

    def _begin_content(self) -> None:
        """The label that came is followed by more than white space."""
        self._is_bare = False
        if _is_type(self._label):
            self._type = self._label
            self._begin_line()
        else:
            self._say("".join(self._space))

    def _end_label(self) -> None:
        self._inside = _Inside.CONTENT
        self._label = self._take_tag_text().strip()
        self._is_bare = True
        if not _is_type(self._label):  # text, whatever follows
            self._begin_line()
            self._say(self._label)

    def _end_coordinates(self) -> None:
        self._inside = _Inside.CONTENT
        self._boxes += parse_boxes(self._take_tag_text())

    def _give_tag_up(self) -> None:
        """A ref or det has no end. Coordinates that break off are kept as far as they go; all else is text."""
        if self._inside is _Inside.CONTENT:
            return
        if self._inside is _Inside.COORDINATES and _COORDINATES.fullmatch("".join(self._tag_text)):
            self._end_coordinates()
        else:
            self._release()

    def _release(self) -> None:
        """What was held as a label or coordinates is text."""
        text = self._take_tag_text()
        if self._inside is _Inside.LABEL and text:
            self._begin_line()
        self._inside = _Inside.CONTENT
        if text:
            self._read_content(text)

    def _take_tag_text(self) -> str:
        text = "".join(self._tag_text)
        self._tag_text, self._num_tag_characters = [], 0
        return text

    def _begin_block(self) -> None:
        self._type = TEXT
        self._text: list[str] = []
        self._boxes: tuple[Box, ...] = ()
        self._label = ""
        self._is_bare = False  # a label came, and since then only coordinates and white space
        self._space: list[str] = []

    def _end_block(self) -> None:
        if self._is_bare:
            if self._label in FIGURES:
                self._type = self._label
            elif self._label:
                if _is_type(self._label):
                    self._begin_line()
                    self._say(self._label)
                self._say("\n")
        text = "".join(self._text).strip()
        if text or self._boxes or self._type != TEXT:
            self._events.append(BlockEnd(Block(self._type, text, self._boxes)))
        self._begin_block()

    def _begin_line(self) -> None:
        """Keep a block's words apart from those of the block before."""
        if not self._at_line_start:
            self._say("\n")

    def _say(self, text: str) -> None:
        if not text:
            return
        self._text.append(text)
        self._at_line_start = text.endswith("\n")
        words = text.strip() if self._is_first else text.rstrip()
        if not words:
            self._space_after.append(text)
            return
        before = "" if self._is_first else "".join(self._space_after)
        self._events.append(TextDelta(before + words))
        self._is_first = False
        self._space_after = [text[len(text.rstrip()) :]]


def _is_type(label: str) -> bool:
    return _TYPE.fullmatch(label) is not None


def _begun_tag(text: str) -> int:
    """Where the tag starts that `text` may end in the middle of, else the text's length."""
    start = text.rfind("<", max(0, len(text) - _MAX_TAG + 1))
    if start >= 0 and any(tag.startswith(text[start:]) for tag in _TAGS):
        return start
    return len(text)
