"""Reads an answer as it is said: what was thought, what is text, and which functions are called."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from engine.chat.schemas import Function
from engine.chat.tool_syntax import ToolSyntax
from engine.detokenizer import overlap

THINK, END_OF_THOUGHT = "<think>", "</think>"
_MOST_HEAD = 512
"""Characters before a call's arguments, at most: they are looked at anew with every token."""
_TAIL = re.compile(r"[\s}`]*")
"""What may be between a call's arguments and its end."""
_JSON_MARK = re.compile(r'["\\{}\[\]]')


class CallPiece(NamedTuple):
    """What is added to one of an answer's calls: first its name, then its arguments' JSON."""

    call: int
    """Which of the answer's."""
    name: str | None
    arguments: str


class AnswerPiece(NamedTuple):
    """What is added to an answer."""

    text: str
    reasoning: str
    calls: list[CallPiece]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How answers to one chat are written, and which calls they may have."""

    thinking: Literal["begun", "possible"] | None = None
    """Whether an answer begins in the middle of a thought, or may begin with one."""
    syntax: ToolSyntax | None = None
    """None: whatever looks like a call is text."""
    functions: tuple[Function, ...] = ()
    """Those that may be called."""
    must_call: bool = False
    is_parallel: bool = True
    """Whether there may be several calls."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What an answer is read by."""
        thoughts = (THINK, END_OF_THOUGHT) if self.thinking else ()
        return thoughts + (self.syntax.marks if self.syntax else ())

    @property
    def is_plain(self) -> bool:
        """Whether an answer is text and nothing else."""
        return self.thinking is None and self.syntax is None

    @property
    def holds_calls(self) -> bool:
        """Whether calls have to be of a form."""
        is_strict = any(function.strict for function in self.functions)
        return self.syntax is not None and (self.must_call or is_strict or not self.is_parallel)


class AnswerParser:
    """Of one answer. However its text is cut into pieces, together they come to the same."""

    def __init__(self, answer_format: AnswerFormat) -> None:
        self._thoughts = ThoughtReader(answer_format.thinking == "begun") if answer_format.thinking else None
        self._calls = CallReader(answer_format.syntax) if answer_format.syntax else None

    @property
    def is_reasoning(self) -> bool:
        """Whether the last piece counts as a thought's."""
        return self._thoughts is not None and self._thoughts.is_reasoning

    @property
    def has_calls(self) -> bool:
        """Whether functions are called, and the last call is whole."""
        return self._calls is not None and self._calls.num_calls > 0 and self._calls.is_whole

    def decode(self, text: str) -> AnswerPiece:
        reasoning = ""
        if self._thoughts:
            reasoning, text = self._thoughts.decode(text)
        calls: list[CallPiece] = []
        if self._calls:
            text, calls = self._calls.decode(text)
        return AnswerPiece(text, reasoning, calls)

    def flush(self) -> AnswerPiece:
        """What was held back, at the answer's end."""
        reasoning = text = ""
        if self._thoughts:
            reasoning, text = self._thoughts.flush()
        calls: list[CallPiece] = []
        if self._calls:
            before, calls = self._calls.decode(text)
            text = before + self._calls.flush()
        return AnswerPiece(text, reasoning, calls)


class ThoughtReader:
    """Separates what is between `<think>` and `</think>`, at an answer's beginning, from what follows."""

    def __init__(self, is_inside: bool) -> None:
        self._place: Literal["start", "thought", "gap", "text"] = "thought" if is_inside else "start"
        self._held = ""
        self._has_thought = False
        self.is_reasoning = False
        """Whether the last piece counts as a thought's, as both its marks do."""

    @property
    def is_inside(self) -> bool:
        return self._place == "thought"

    @property
    def is_over(self) -> bool:
        """Whether no thought follows any more."""
        return self._place in ("gap", "text")

    def decode(self, piece: str) -> tuple[str, str]:
        """The thought and the text that this makes certain."""
        was_inside = self.is_inside
        thought, text = self._decode(piece)
        self.is_reasoning = was_inside or self.is_inside
        return thought, text

    def flush(self) -> tuple[str, str]:
        held, self._held = self._held, ""
        return (held, "") if self._place == "thought" else ("", held)

    def _decode(self, piece: str) -> tuple[str, str]:
        thought, text = "", self._held + piece
        self._held = ""
        if self._place == "start":
            text = self._begin(text)
        if self._place == "thought":
            thought, text = self._go_on(text)
        if self._place == "gap":
            text = text.lstrip("\n")
            self._place = "text" if text else "gap"
        return thought, text

    def _begin(self, text: str) -> str:
        begun = text.lstrip()
        if begun.startswith(THINK):
            self._place = "thought"
            return begun.removeprefix(THINK)
        if THINK.startswith(begun):
            self._held = text
            return ""
        self._place = "text"
        return text

    def _go_on(self, text: str) -> tuple[str, str]:
        if not self._has_thought:
            text = text.lstrip("\n")
        thought, end, rest = text.partition(END_OF_THOUGHT)
        if end:
            self._place = "gap"
            return thought.rstrip("\n"), rest
        certain = text[: len(text) - overlap(text, END_OF_THOUGHT)].rstrip("\n")
        self._held = text[len(certain) :]
        self._has_thought |= bool(certain)
        return certain, ""


class CallReader:
    """Separates calls from the text around them."""

    def __init__(self, syntax: ToolSyntax) -> None:
        self._syntax = syntax
        self._place: Literal["text", "head", "arguments", "tail"] = "text"
        self._held = ""
        self._before = ""
        """The blanks before a call, which belong to the text if it proves to be none."""
        self._arguments = JsonObjectEnd()
        self.num_calls = 0

    @property
    def is_whole(self) -> bool:
        return self._place in ("text", "tail")

    def decode(self, piece: str) -> tuple[str, list[CallPiece]]:
        """The text, and the pieces of calls, that this makes certain."""
        self._held += piece
        texts: list[str] = []
        calls: list[CallPiece] = []
        while self._read(texts, calls):
            pass
        return "".join(texts), calls

    def flush(self) -> str:
        """What was held back, and is no call."""
        held, self._held = self._held, ""
        match self._place:
            case "text":
                return held
            case "head":
                return self._before + self._syntax.begin + held
            case _:
                return ""

    def _read(self, texts: list[str], calls: list[CallPiece]) -> bool:
        """Read on to the next place; False where that is not in sight."""
        match self._place:
            case "text":
                return self._read_text(texts)
            case "head":
                return self._read_head(texts, calls)
            case "arguments":
                return self._read_arguments(calls)
            case "tail":
                return self._skip_to_end()

    def _read_text(self, texts: list[str]) -> bool:
        text, markers = self._held, self._syntax.markers
        found = [(place, marker) for marker in markers if (place := text.find(marker)) >= 0]
        if found:
            place, marker = min(found)
            texts.append(text[:place].rstrip())
            self._before = text[len(texts[-1]) : place]
            self._held = text[place + len(marker) :]
            self._place = "head" if marker == self._syntax.begin else "text"
            return True
        certain = text[: len(text) - max(overlap(text, marker) for marker in markers)].rstrip()
        texts.append(certain)
        self._held = text[len(certain) :]
        return False

    def _read_head(self, texts: list[str], calls: list[CallPiece]) -> bool:
        match = self._syntax.pattern.match(self._held, 0, _MOST_HEAD)
        if match and (name := _name_of(match)):
            self._call(calls, name, "")
            self._held = self._held[match.end() :]
            self._arguments = JsonObjectEnd()
            self._place = "arguments"
            return True
        written, end, rest = self._held.partition(self._syntax.end)
        if not end:
            return False
        if whole := self._syntax.read_whole(written):
            self._call(calls, *whole)
        else:
            texts.append(self._before + self._syntax.begin + written + end)
        self._held, self._place = rest, "text"
        return True

    def _read_arguments(self, calls: list[CallPiece]) -> bool:
        text, self._held = self._held, ""
        end = self._arguments.find(text)
        if said := text[:end]:
            calls.append(CallPiece(self.num_calls - 1, None, said))
        if end is None:
            return False
        self._held, self._place = text[end:], "tail"
        return True

    def _skip_to_end(self) -> bool:
        """Behind the end, or to where something else follows than it."""
        rest = _TAIL.sub("", self._held, count=1)
        if self._syntax.end.startswith(rest):
            return self._syntax.end == rest and self._read_on("")
        return self._read_on(rest.removeprefix(self._syntax.end))

    def _read_on(self, text: str) -> bool:
        self._held, self._place = text, "text"
        return True

    def _call(self, calls: list[CallPiece], name: str, arguments: str) -> None:
        calls.append(CallPiece(self.num_calls, name, arguments))
        self.num_calls += 1


def _name_of(match: re.Match[str]) -> str:
    """Empty where it is none."""
    name = next(filter(None, match.groups()), "").strip()
    if "\\" in name:
        try:
            name = str(json.loads(f'"{name}"'))
        except ValueError:
            return ""
    return name.encode("utf-8", "replace").decode()


class JsonObjectEnd:
    """Finds where a JSON object that comes in pieces ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_string = False
        self._is_escaped = False

    def find(self, piece: str) -> int | None:
        """The place behind its last brace; None while it goes on."""
        at = 0
        if self._is_escaped and piece:
            self._is_escaped, at = False, 1
        while mark := _JSON_MARK.search(piece, at):
            at = mark.end()
            match mark[0]:
                case "\\" if self._is_string:
                    self._is_escaped = at == len(piece)
                    at += 1
                case '"':
                    self._is_string = not self._is_string
                case "{" | "[" if not self._is_string:
                    self._depth += 1
                case "}" | "]" if not self._is_string:
                    self._depth -= 1
                    if self._depth == 0:
                        return at
        return None
