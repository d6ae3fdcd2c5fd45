"""How checkpoints write that they call functions: DeepSeek's own forms, and the one of Hermes and Qwen."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat.schemas import Function

_CALLS_BEGIN, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolSyntax:
    """A call is `begin`, `head` with the function's name in it, its arguments as JSON, `tail`, and `end`."""

    begin: str
    head: str
    tail: str
    end: str
    between: str
    """What separates two calls."""
    around: tuple[str, str]
    """What surrounds all calls of an answer; empty where nothing does."""
    pattern: re.Pattern[str]
    """The head as models write it, up to the brace that begins the arguments; one of its groups is the name."""
    has_text_arguments: bool
    """Whether chat templates take the arguments of earlier calls as text, not as an object."""
    description: str
    """Tells the model of its functions, where its template does not."""

    @property
    def markers(self) -> tuple[str, ...]:
        """What never is a part of an answer's text."""
        return tuple(filter(None, (self.begin, *self.around)))

    @property
    def marks(self) -> tuple[str, ...]:
        """All that calls are read by."""
        return (*self.markers, self.end, _SEPARATOR)

    def head_of(self, name: str) -> str:
        return self.head.replace("NAME", name)

    def write(self, calls: Sequence[tuple[str, str]]) -> str:
        """Some calls, each a name and the JSON of its arguments, as an answer has them."""
        written = (f"{self.begin}{self.head_of(name)}{given}{self.tail}{self.end}" for name, given in calls)
        return self.around[0] + self.between.join(written) + self.around[1]

    def describe(self, functions: Sequence[Function]) -> str:
        """What tells a model of its functions."""
        if self is HERMES:
            listed = "\n".join(
                json.dumps({"type": "function", "function": function.model_dump(exclude_none=True, exclude={"strict"})})
                for function in functions
            )
        else:
            listed = "\n\n".join(
                f"### {function.name}\nDescription: {function.description or 'none'}\n\n"
                f"Parameters: {json.dumps(schema_of(function))}"
                for function in functions
            )
        return self.description.replace("LISTED", listed)

    def read_whole(self, text: str) -> tuple[str, str] | None:
        """The name and the arguments of a call that is not written as `pattern` has it, from between its marks."""
        if self is not HERMES:
            name, separator, given = text.rpartition(_SEPARATOR)
            is_named = separator and name.strip() not in ("", "function")
            return (name.strip(), given.strip() or "{}") if is_named else None
        try:
            call = json.loads(text)
            name, given = call["name"], call.get("arguments", call.get("parameters", {}))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        if not isinstance(name, str) or not name:
            return None
        written = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        return _as_unicode(name), _as_unicode(written)


def schema_of(function: Function) -> dict[str, Any]:
    """The JSON schema of a function's arguments, which are an object."""
    return {"type": "object"} | function.parameters if function.parameters else _NO_ARGUMENTS


def _as_unicode(text: str) -> str:
    """The same without halves of characters, which JSON's escapes can write."""
    return text.encode("utf-8", "replace").decode()


HERMES = ToolSyntax(
    begin="<tool_call>",
    head='\n{"name": "NAME", "arguments": ',
    tail="}\n",
    end="</tool_call>",
    between="\n",
    around=("", ""),
    pattern=re.compile(
        r'\s*\{\s*"name"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)', re.DOTALL
    ),
    has_text_arguments=False,
    description="# Tools\n\nThese functions can be called:\n<tools>\nLISTED\n</tools>\n\n"
    "A call is a JSON object between marks:\n"
    '<tool_call>\n{"name": "the function\'s name", "arguments": {"an argument": "its value"}}\n</tool_call>',
)
"""NousResearch's Hermes, and Qwen2.5 and 3."""

DEEPSEEK = ToolSyntax(
    begin="<｜tool▁call▁begin｜>",
    head=f"function{_SEPARATOR}NAME\n```json\n",
    tail="\n```",
    end="<｜tool▁call▁end｜>",
    between="\n",
    around=(_CALLS_BEGIN, _CALLS_END),
    # No two parts of it match the same: it is tried again with each token.
    pattern=re.compile(rf"\s*(?:function{_SEPARATOR}([^\n{{]+)\n```json\s*|([^\s<][^<\n]*){_SEPARATOR}\s*)(?=\{{)"),
    has_text_arguments=True,
    description="## Tools\n\nYou have these functions:\n\nLISTED\n\nTo call some, answer in exactly this form:\n"
    f"{_CALLS_BEGIN}<｜tool▁call▁begin｜>function{_SEPARATOR}the function's name\n```json\n"
    f'{{"an argument": "its value"}}\n```<｜tool▁call▁end｜>{_CALLS_END}',
)
"""DeepSeek-V2.5, V3 and R1."""

DEEPSEEK_V31 = ToolSyntax(
    begin=DEEPSEEK.begin,
    head=f"NAME{_SEPARATOR}",
    tail="",
    end=DEEPSEEK.end,
    between="",
    around=DEEPSEEK.around,
    pattern=DEEPSEEK.pattern,
    has_text_arguments=True,
    description="## Tools\n\nYou have these functions:\n\nLISTED\n\nTo call some, answer in exactly this form:\n"
    f"{_CALLS_BEGIN}<｜tool▁call▁begin｜>the function's name{_SEPARATOR}"
    f'{{"an argument": "its value"}}<｜tool▁call▁end｜>{_CALLS_END}',
)
"""DeepSeek-V3.1."""


def syntax_of(template: str, vocabulary: Sequence[str] | set[str] | dict[str, int]) -> ToolSyntax:
    """Which of them a checkpoint has, by its chat template, or else by its tokens."""
    if DEEPSEEK.begin in template:
        return DEEPSEEK if "```json" in template else DEEPSEEK_V31
    if HERMES.begin not in template and DEEPSEEK.begin in vocabulary:
        return DEEPSEEK
    return HERMES
