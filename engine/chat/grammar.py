"""The grammar of a chat's answers: a thought, then text of a form, or calls of functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.chat.answer import END_OF_THOUGHT, THINK, AnswerFormat
from engine.chat.tool_syntax import ToolSyntax, schema_of

_MOST_CALLS = 16
"""In one answer that must call: what never chooses to stop would go on to the last token."""

_ANY_TEXT = "/(.|\\n)+/"

Grammar = dict[str, Any]
"""One of llguidance's: `{"name", "lark_grammar"}` or `{"name", "json_schema"}`."""


def chat_grammar(
    answer_format: AnswerFormat,
    form: str | None,
    of_schema: Callable[[Any], str],
    tokens: Mapping[str, str],
) -> str:
    """In llguidance's JSON. `form`: a grammar of what is said if no function is called; None: any text.

    `of_schema` makes a grammar of a JSON schema; `tokens` is how those are written that no text is cut into.
    """
    writer = _Writer(tokens)
    grammars = [_named(form, "form")] if form else []
    answers = ["@form"] if form else []
    if syntax := answer_format.syntax:
        for i, function in enumerate(answer_format.functions):
            grammars.append(_named(of_schema(schema_of(function)), f"arguments_{i}"))
            call = [syntax.begin, syntax.head_of(function.name)], [syntax.tail, syntax.end]
            before, after = (writer.literal("".join(part)) for part in call)
            writer.rule(f"call_{i}", f"{before} @arguments_{i} {after}")
        writer.rule("call", " | ".join(f"call_{i}" for i in range(len(answer_format.functions))))
        writer.rule("calls", _calls(syntax, answer_format.is_parallel, writer))
        if answer_format.must_call:
            answers = ["calls"]
        elif form:
            answers.append("calls")
        else:
            answers = writer.text_or_calls(syntax.markers)
    writer.rule("answer", " | ".join(answers))
    match answer_format.thinking:
        case "begun":
            writer.thought("")
            start = "thought answer"
        case "possible":
            writer.thought(writer.literal(THINK))
            start = "thought? answer"
        case None:
            start = "answer"
    writer.rule("start", start)
    return json.dumps({"grammars": [{"lark_grammar": writer.lark}, *grammars]})


def _calls(syntax: ToolSyntax, is_parallel: bool, writer: _Writer) -> str:
    before, after = map(writer.literal, syntax.around)
    more = f"({writer.literal(syntax.between)} call){{0,{_MOST_CALLS - 1}}}" if is_parallel else ""
    return f"{before} call {more} {after}"


def _named(grammar: str, name: str) -> Grammar:
    if grammar.startswith("{"):
        found: Grammar = json.loads(grammar)["grammars"][0]
        return {key: value for key, value in found.items() if value is not None} | {"name": name}
    return {"name": name, "lark_grammar": grammar}


class _Writer:
    """Writes Lark, in llguidance's dialect."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        longest_first = sorted(tokens, key=len, reverse=True)
        self._tokens = tokens
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None
        self._lines: list[str] = []

    @property
    def lark(self) -> str:
        return "\n".join(reversed(self._lines)) + "\n"

    def rule(self, name: str, body: str) -> None:
        self._lines.append(f"{name}: {body}")

    def literal(self, text: str) -> str:
        """A text, and in it the tokens that are written as one."""
        pieces = self._cut.split(text) if self._cut else [text]
        return " ".join(self._tokens.get(piece) or _quoted(piece) for piece in pieces if piece)

    def text_or_calls(self, markers: Sequence[str]) -> list[str]:
        """Any text without calls, and calls, behind a text where it can be told where that ends."""
        self.rule("TEXT", _text_without(*markers))
        return ["TEXT? calls?"] if markers[0] in self._tokens else ["TEXT?", "calls"]

    def thought(self, begin: str) -> None:
        self.rule("NEWLINES", r"/\n{1,2}/")
        if END_OF_THOUGHT in self._tokens:  # what is a token of its own is in no text
            self.rule("THOUGHT", _text_without(END_OF_THOUGHT))
            self.rule("thought", f"{begin} THOUGHT? {self.literal(END_OF_THOUGHT)} NEWLINES?")
        else:
            self.rule("ended[lazy]", f"/(.|\\n)*{_pattern(END_OF_THOUGHT)}/")
            self.rule("thought", f"{begin} ended NEWLINES?")


def _text_without(*words: str) -> str:
    """Also where a word is a token: whoever reads the answer sees its text."""
    return _ANY_TEXT + "".join(f" & ~/(.|\\n)*{_pattern(word)}(.|\\n)*/" for word in words)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pattern(text: str) -> str:
    return re.escape(text).replace("/", "\\/")
