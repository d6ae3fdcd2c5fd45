"""The forms of a solution that are made by program: each runs, passes its checks, and has what was asked for."""

import ast

import pytest

from demo.coder.figures import fulfils
from demo.coder.replies import STYLES, fenced, programs_of, reply_to
from demo.coder.runner import run_all
from demo.coder.snippets import SNIPPETS
from demo.coder.tasks import TASKS, Task
from demo.coder.variants import (
    Style,
    Type,
    local_names,
    own_name,
    renamed,
    styled,
    type_of,
    with_docstring,
    with_hints,
    with_names,
)
from demo.coder.wishes import CODE_ONLY, DOCSTRING, HINTS

NAMED = [task for task in TASKS if own_name(task)]
ADD = Task(asks=("add",), held_out="", solutions=(), checks=("add(2, b=3.5) == 5.5",))


def test_there_are_more_than_a_hundred_tasks_each_with_wordings_of_its_own() -> None:
    assert len(TASKS) >= 120
    phrases = [phrase for task in TASKS for phrase in (*task.asks, task.held_out)]
    assert len(set(phrases)) == len(phrases)


def test_every_form_of_every_solution_passes_its_checks() -> None:
    programs = [program for task in TASKS for program in programs_of(task)]
    failed = [program for program, good in zip(programs, run_all(programs), strict=True) if not good]
    assert not failed, failed[0]


@pytest.mark.parametrize("style", STYLES)
def test_every_form_has_what_was_asked_for(style: Style) -> None:
    for task in NAMED:
        for i in range(len(task.solutions)):
            reply = fenced(styled(task, i, style))
            assert fulfils(reply, DOCSTRING) == style.docstring, reply
            assert fulfils(reply, HINTS) == style.hints or "class" in reply, reply


def test_code_only_is_the_block_alone() -> None:
    for task in TASKS:
        assert fulfils(reply_to(task, 0, Style(code_only=True)), CODE_ONLY)
        assert not fulfils(reply_to(task), CODE_ONLY)


def test_another_name_leaves_nothing_of_the_old_one() -> None:
    for task in NAMED:
        code = styled(task, 0, Style(docstring=True, hints=True, name="zig_zag"))
        names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
        assert own_name(task) not in names
        assert "zig_zag" in code


def test_a_change_leaves_every_other_line_as_it_was() -> None:
    code = "# why\ndef f(x):  # here\n    return (x +\n            1)"
    assert with_docstring(code, "Add.").split("\n") == [*code.split("\n")[:2], '    """Add."""', *code.split("\n")[2:]]
    assert renamed("def f(x):\n    return x.f + f(f=x)  # f", "f", "g") == "def g(x):\n    return x.f + g(g=x)  # f"


def test_hints_are_what_the_checks_show() -> None:
    code = "def add(a, b=1):\n    return a + b"
    assert with_hints(code, ADD) == "def add(a: int, b: float = 1) -> float:\n    return a + b"


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, "bool"),
        ([1, 2.5], "list[float]"),
        ([1, "a"], "list"),
        ([[], [1]], "list[list[int]]"),
        ({"a": [1]}, "dict[str, list[int]]"),
        ((1, "a"), "tuple[int, str]"),
        ([None, 1], "list[int | None]"),
        (None, "None"),
    ],
)
def test_the_type_of_a_value(value: object, annotation: str) -> None:
    assert str(type_of(value)) == annotation


def test_a_foreign_class_has_no_annotation() -> None:
    assert type_of(object()) is None
    assert type_of([object()]) == Type("list")


def test_local_names_can_be_changed() -> None:
    code = "def f(xs):\n    total = sum(xs)\n    return total"
    assert local_names(code) == {"xs", "total"}
    assert with_names(code, {"xs": "a", "total": "b"}) == "def f(a):\n    b = sum(a)\n    return b"


def test_the_held_out_programs_need_their_line() -> None:
    whole = [snippet.before + snippet.line + snippet.after for snippet in SNIPPETS]
    assert len(set(whole)) == 50
    assert all(run_all(whole))
    margins = [snippet.line[: len(snippet.line) - len(snippet.line.lstrip())] for snippet in SNIPPETS]
    without = [
        snippet.before + margin + "pass" + snippet.after for snippet, margin in zip(SNIPPETS, margins, strict=True)
    ]
    assert not any(run_all(without))
