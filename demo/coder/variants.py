"""One solution, many forms: with a docstring, with type hints, under another name. The source keeps its layout.

Hints are what running the checks shows: the arguments that each function was called with, and what it returned.
"""

import ast
import builtins
import contextlib
import io
import os
import re
import sys
import tempfile
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import FrameType, FunctionType

from demo.coder.tasks import Task

SOURCE = "<solution>"
IMPORT_CALLABLE = "from collections.abc import Callable"
NONE = "None"


@dataclass(frozen=True)
class Style:
    """What the asker wishes about the form of an answer. `name` replaces the solution's own."""

    docstring: bool = False
    hints: bool = False
    code_only: bool = False
    name: str | None = None

    def with_(self, **changes: object) -> "Style":
        """A copy with changed fields."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Type:
    """`list[int]` is Type("list", (Type("int"),)); an element type that nothing tells is left out."""

    head: str
    arguments: tuple["Type", ...] = ()

    def __str__(self) -> str:
        return f"{self.head}[{', '.join(map(str, self.arguments))}]" if self.arguments else self.head


def type_of(value: object) -> Type | None:
    """The annotation of a value; None for a class of the solution's own."""
    if value is None:
        return Type(NONE)
    if isinstance(value, (bool, int, float, str)):
        return Type(type(value).__name__)
    if isinstance(value, (list, set)):
        return container(type(value).__name__, list(value))
    if isinstance(value, tuple):
        parts = [type_of(item) for item in value]
        return Type("tuple", tuple(part for part in parts if part)) if all(parts) else Type("tuple")
    if isinstance(value, dict):
        keys, values = merge_all(map(type_of, value)), merge_all(map(type_of, value.values()))
        return Type("dict", (keys, values)) if keys and values else Type("dict")
    return Type("Callable") if isinstance(value, FunctionType) or value is len else None


def container(head: str, items: list[object]) -> Type:
    """`list[int]`, or `list` where the elements differ or are missing."""
    element = merge_all(map(type_of, items))
    return Type(head, (element,)) if element else Type(head)


def merge_all(types: Iterator[Type | None]) -> Type | None:
    """One annotation for all; None where there is none."""
    merged: Type | None = None
    for i, kind in enumerate(types):
        merged = kind if i == 0 else merge(merged, kind)
        if merged is None:
            return None
    return merged


def merge(a: Type | None, b: Type | None) -> Type | None:
    """What accepts both, as simply as a person would write it."""
    if a is None or b is None or a == b:
        return a if a == b else None
    heads = {a.head, b.head}
    if heads == {"int", "float"}:
        return Type("float")
    if NONE in heads:
        other = b if a.head == NONE else a
        return Type(f"{str(other).removesuffix(' | None')} | None")
    if any(head.endswith(" | None") for head in heads):
        longer, shorter = sorted((str(a), str(b)), key=len, reverse=True)
        return Type(longer) if longer == f"{shorter} | None" else None
    if a.head != b.head:
        return None
    if not a.arguments or not b.arguments:
        return a if a.arguments else b
    if len(a.arguments) != len(b.arguments):
        return Type(a.head)
    merged = [merge(x, y) for x, y in zip(a.arguments, b.arguments, strict=True)]
    return Type(a.head, tuple(part for part in merged if part)) if all(merged) else Type(a.head)


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """A working directory for what checks write."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def seen_types(code: str, after: str) -> dict[tuple[int, str], Type | None]:
    """The annotation of each function's parameters and `return`, by first line, that fits what `after` does."""
    seen: dict[tuple[int, str], list[Type | None]] = {}

    def watch(frame: FrameType, event: str, result: object) -> None:
        if frame.f_code.co_filename != SOURCE or event not in ("call", "return"):
            return
        line = frame.f_code.co_firstlineno
        if event == "return":
            seen.setdefault((line, "return"), []).append(type_of(result))
            return
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount]
        for name in names:
            seen.setdefault((line, name), []).append(type_of(frame.f_locals[name]))

    scope: dict[str, object] = {"__name__": "solution"}
    before = sys.getprofile()
    with contextlib.redirect_stdout(io.StringIO()), in_empty_folder(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a check may leave a file to be closed by itself
        exec(compile(code, SOURCE, "exec"), scope)
        sys.setprofile(watch)
        try:
            exec(compile(after, "<checks>", "exec"), scope)
        finally:
            sys.setprofile(before)
    return {key: merge_all(iter(types)) for key, types in seen.items()}


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions and methods at the top; those inside another function are nobody's business."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from (part for part in node.body if isinstance(part, ast.FunctionDef))


def main_definition(code: str) -> ast.FunctionDef | ast.ClassDef | None:
    """What the solution is about: its last function or class; None for a bare script."""
    nodes = [node for node in ast.parse(code).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return nodes[-1] if nodes else None


def main_name(code: str) -> str | None:
    """The name of the main definition."""
    node = main_definition(code)
    return node.name if node else None


def with_docstring(code: str, sentence: str) -> str:
    """The code with a docstring under its main definition's header, or unchanged where there is none."""
    node = main_definition(code)
    if node is None:
        return code
    lines = code.split("\n")
    first = node.body[0].lineno - 1
    if isinstance(node.body[0], ast.FunctionDef):
        first -= len(node.body[0].decorator_list)
    gap = [""] if isinstance(node, ast.ClassDef) else []
    return "\n".join([*lines[:first], f'    """{sentence}"""', *gap, *lines[first:]])


def with_hints(code: str, task: Task) -> str:
    """The code with type hints, or unchanged where no function is."""
    seen = seen_types(code, f"{task.setup}\n" + "\n".join(task.checks))
    lines = code.split("\n")
    used: list[str] = []
    for function in functions_of(ast.parse(code)):
        line = function.decorator_list[0].lineno if function.decorator_list else function.lineno

        def hint(name: str, key: str, line: int = line) -> str | None:
            kind = task.hints.get(key) or seen.get((line, name))
            if kind:
                used.append(str(kind))
            return str(kind) if kind else None

        at = function.lineno - 1
        returns = "None" if function.name == "__init__" else hint("return", f"{function.name}()")
        if returns:
            lines[at] = f"{lines[at].removesuffix(':')} -> {returns}:"
        parameters = [*function.args.args, *([function.args.vararg] if function.args.vararg else [])]
        for parameter in reversed(parameters):
            annotation = None if parameter.arg == "self" else hint(parameter.arg, parameter.arg)
            if annotation:
                end = parameter.end_col_offset or 0
                rest = lines[at][end:]
                rest = f" = {rest[1:]}" if rest.startswith("=") else rest
                lines[at] = f"{lines[at][:end]}: {annotation}{rest}"
    if any("Callable" in annotation for annotation in used):
        lines = [IMPORT_CALLABLE, *([] if lines[0].startswith(("import ", "from ")) else [""]), *lines]
    return "\n".join(lines)


def split_at_name(code: str, name: str) -> list[str]:
    """The code between the places where `name` stands, hints in quotes included; attributes keep theirs."""
    offsets = [0]
    for line in code.split("\n"):
        offsets.append(offsets[-1] + len(line) + 1)
    places: list[int] = []
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        start = offsets[token.start[0] - 1] + token.start[1]
        if token.type == tokenize.NAME and token.string == name and before != ".":
            places.append(start)
        elif token.type == tokenize.STRING and before in (":", "->"):
            places += [start + found.start() for found in re.finditer(rf"\b{name}\b", token.string)]
        before = token.string
    parts, last = [], 0
    for place in places:
        parts.append(code[last:place])
        last = place + len(name)
    return [*parts, code[last:]]


def renamed(code: str, old: str, new: str) -> str:
    """The code with its main definition under another name."""
    return new.join(split_at_name(code, old))


def example(task: Task, code: str) -> str:
    """A line that shows the first check's call and its result: `print(add(2, 3))  # 5`."""
    call = task.checks[0].rpartition(" == ")[0]
    scope: dict[str, object] = {}
    exec(code, scope)
    return f"print({call})  # {eval(call, scope)}"


@cache
def form(task: Task, solution: int, docstring: bool, hints: bool) -> str:
    """One of the task's solutions in one form, with its example under it, under its own name."""
    code = task.solutions[solution].strip()
    shown = f"\n\n{example(task, code)}" if task.example else ""
    if hints:
        code = with_hints(code, task)
    if docstring:
        phrase = task.asks[0]
        code = with_docstring(code, f"{phrase[0].upper()}{phrase[1:]}.")
    return code + shown


@cache
def parts_around_name(task: Task, solution: int, docstring: bool, hints: bool) -> tuple[str, ...]:
    """The form, cut where its name stands."""
    code = form(task, solution, docstring, hints)
    name = main_name(code)
    return tuple(split_at_name(code, name)) if name else (code,)


def styled(task: Task, solution: int, style: Style) -> str:
    """The solution's code in the wished form."""
    if style.name is None:
        return form(task, solution, style.docstring, style.hints)
    return style.name.join(parts_around_name(task, solution, style.docstring, style.hints))


@cache
def own_name(task: Task) -> str | None:
    """The name that the task's solutions use; None for a bare script, which takes no style."""
    return main_name(task.solutions[0])


def checks_of(task: Task, name: str | None) -> str:
    """The task's setup and checks as a program that follows the solution called `name`."""
    program = "\n".join([task.setup, *(f"assert {check}" for check in task.checks)])
    old = own_name(task)
    return renamed(program, old, name) if old and name and name != old else program


def local_names(code: str) -> set[str]:
    """The parameters and variables of a function that can be renamed by their tokens alone."""
    tree = ast.parse(code)
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    fixed = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {"self", "_"}
    fixed |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}
    fixed |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(dir(builtins))
    return names - fixed


def with_names(code: str, names: Mapping[str, str]) -> str:
    """The code with other local names; code with formatted strings, whose names are hidden from us, stays as it is."""
    if 'f"' in code or "f'" in code:
        return code
    for old, new in names.items():
        code = renamed(code, old, new)
    return code
