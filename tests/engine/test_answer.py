"""What answers hold: thoughts, text and calls, the same however the text is cut into pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.chat.answer import AnswerFormat, AnswerParser, ThoughtReader
from engine.chat.tool_syntax import DEEPSEEK, DEEPSEEK_V31, HERMES, ToolSyntax

SYNTAXES = {"hermes": HERMES, "deepseek": DEEPSEEK, "deepseek v3.1": DEEPSEEK_V31}
WEATHER = '{"city": "Paris \\" } ] <tool_call>", "days": [1, {"a": "\\\\"}]}'


def read(answer_format: AnswerFormat, pieces: list[str]) -> tuple[str, str, list[tuple[str, str]]]:
    """Thought, text, and the names and arguments of calls, joined."""
    parser = AnswerParser(answer_format)
    said = [parser.decode(piece) for piece in pieces] + [parser.flush()]
    names: list[str] = []
    arguments: list[str] = []
    for index, name, piece in (call for one in said for call in one.calls):
        if name is not None:
            assert index == len(names), "calls begin in order, each with its name"
            names.append(name)
            arguments.append("")
        assert index == len(names) - 1
        arguments[index] += piece
    text, thought = ("".join(getattr(one, part) for one in said) for part in ("text", "reasoning"))
    return thought, text, list(zip(names, arguments, strict=True))


def whole(text: str, syntax: ToolSyntax | None = None, thinking: str | None = None) -> object:
    return read(AnswerFormat(thinking, syntax), [text])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SYNTAXES)
def test_calls_are_read_as_they_are_written(name: str) -> None:
    syntax = SYNTAXES[name]
    calls = [("weather", WEATHER), ("now", "{}")]
    assert whole(syntax.write(calls), syntax) == ("", "", calls)
    assert whole("Let me see.\n\n" + syntax.write(calls[:1]), syntax) == ("", "Let me see.", calls[:1])
    assert whole(syntax.write(calls) + "\nDone.", syntax) == ("", "\nDone.", calls)


def test_both_of_deepseeks_forms_are_read_by_either() -> None:
    for syntax in (DEEPSEEK, DEEPSEEK_V31):
        assert whole(syntax.write([("f", "{}")]), DEEPSEEK) == whole(syntax.write([("f", "{}")]), DEEPSEEK_V31)


@pytest.mark.parametrize(
    ("said", "call"),
    [
        ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', ("f", '{"a": 1}')),
        ('<tool_call>{"name": "f"}</tool_call>', ("f", "{}")),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ("f", '{"a": 1}')),
        ('<tool_call>\n{"name":"f\\u0041","parameters":{}}\n</tool_call>', ("fA", "{}")),
    ],
)
def test_calls_written_otherwise(said: str, call: tuple[str, str]) -> None:
    assert whole(said, HERMES) == ("", "", [call])


@pytest.mark.parametrize(
    "said",
    [
        "<tool_call>nothing of the kind</tool_call>",
        '<tool_call>{"name": 3',
        "<tool_call>[]</tool_call>",
        "a < b, <tool, <tool_cal",
        "  two lines\n\n",
        "Use the <tool_call>x</tool_call> tag.",
        'a <tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "a\\_b", "arguments": {}}</tool_call>',
        "<tool_call>" + "[" * 20_000,
        "<tool_call>" + "[" * 20_000 + "</tool_call>",
    ],
)
def test_what_is_no_call_is_text(said: str) -> None:
    assert whole(said, HERMES) == ("", said, [])


def test_a_head_of_blanks_takes_no_time() -> None:
    """Each piece is looked at in time that does not grow with what was held back."""
    for syntax in SYNTAXES.values():
        blanks = " " * 20_000
        said = f"{syntax.begin}function<｜tool▁sep｜>{blanks}"
        assert read(AnswerFormat(None, syntax), list(said)) == ("", said, [])


def test_what_follows_a_call_that_nothing_closes() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}'
    assert whole(f"{call}\nMore.", HERMES) == ("", "More.", [("f", "{}")])
    assert whole(f"{call}\n{call}", HERMES) == ("", "", [("f", "{}")] * 2)


def test_a_call_that_is_cut_off_has_what_was_said() -> None:
    cut = HERMES.write([("f", '{"a": "b"}')])
    assert whole(cut[: cut.index('b"}')], HERMES) == ("", "", [("f", '{"a": "')])


@pytest.mark.parametrize(
    ("thinking", "said", "thought", "text"),
    [
        ("begun", "I think.\n</think>\n\nYes.", "I think.", "Yes."),
        ("begun", "I think", "I think", ""),
        ("begun", "\n</think>\n\nYes.", "", "Yes."),
        ("possible", "<think>\nI think.\n\nSo.\n</think>\n\nYes.", "I think.\n\nSo.", "Yes."),
        ("possible", "\n<think>a</think>b", "a", "b"),
        ("possible", "<thin", "", "<thin"),
        ("possible", "\nYes, <think>.", "", "\nYes, <think>."),
        ("possible", "<think>a</think>b</think>", "a", "b</think>"),
        (None, "<think>a</think>", "", "<think>a</think>"),
    ],
)
def test_thoughts(thinking: str | None, said: str, thought: str, text: str) -> None:
    assert whole(said, thinking=thinking) == (thought, text, [])


def test_a_thought_then_text_then_calls() -> None:
    said = "<think>\nWhich city?\n</think>\n\nOne moment.\n" + DEEPSEEK.write([("weather", WEATHER)])
    assert whole(said, DEEPSEEK, "possible") == ("Which city?", "One moment.", [("weather", WEATHER)])


# Built of what parsers stumble over, whole and in parts.
WORDS = st.sampled_from(
    [
        *("<think>", "</think>", "<think", "</", ">", "<", "\n", "\n\n", " ", "text", "é", "{", "}", '"', "\\"),
        *("<tool_call>", "</tool_call>", '{"name": "f", "arguments": {"a": "b"}}', "```json\n", "function"),
        *(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ),
        *(syntax.write([("f", '{"a": [1, "}"]}')]) for syntax in SYNTAXES.values()),
    ]
)


@given(
    st.lists(WORDS, max_size=12).map("".join),
    st.lists(st.integers(0, 300), max_size=8),
    st.sampled_from([None, *SYNTAXES.values()]),
    st.sampled_from([None, "begun", "possible"]),
)
def test_every_split_says_the_same(said: str, cuts: list[int], syntax: ToolSyntax | None, thinking: str | None) -> None:
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    pieces = [said[begin:end] for begin, end in pairwise(places)]
    answer_format = AnswerFormat(thinking, syntax)  # type: ignore[arg-type]
    assert read(answer_format, pieces) == read(answer_format, [said]) == read(answer_format, list(said))


@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_arguments_come_through(value: object) -> None:
    arguments = json.dumps({"value": value}, ensure_ascii=False)
    for syntax in SYNTAXES.values():
        assert whole(syntax.write([("f", arguments)]), syntax) == ("", "", [("f", arguments)])


def test_both_marks_count_as_the_thought_s() -> None:
    reader = ThoughtReader(is_inside=False)
    counted = []
    for piece in ("\n", "<think>", "a", "</think>", "\n", "b"):
        reader.decode(piece)
        counted.append(reader.is_reasoning)
    assert counted == [False, True, True, True, False, False]
