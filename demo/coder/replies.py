"""What the model should say, and whether code does what was asked: every reply to a task is run before it is taught."""

import re
from collections.abc import Sequence

from demo.coder.runner import run_all
from demo.coder.tasks import Task
from demo.coder.variants import Style, checks_of, own_name, styled
from demo.coder.wordings import third_person

FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)
STYLES = tuple(Style(docstring=doc, hints=hints) for doc in (False, True) for hints in (False, True))


def fenced(code: str) -> str:
    """A code block as a chat shows it."""
    return f"```python\n{code}\n```"


def extras(style: Style) -> str:
    """', with a docstring and type hints'."""
    wished = [words for words, on in (("a docstring", style.docstring), ("type hints", style.hints)) if on]
    return f", with {' and '.join(wished)}" if wished else ""


def intro(task: Task, style: Style) -> str:
    """The sentence before the code."""
    plain = task.intro or f"Here is a Python function that {third_person(task.asks[0])}:"
    start = f"Here is `{style.name}`" if style.name else plain.removesuffix(":")
    return f"{start}{extras(style)}:"


def reply_to(task: Task, solution: int = 0, style: Style | None = None) -> str:
    """A sentence and a fenced block, or the block alone."""
    style = style or Style()
    block = fenced(styled(task, solution, style))
    return block if style.code_only else f"{intro(task, style)}\n\n{block}"


def fenced_code(reply: str) -> str | None:
    """The code of the first fenced block."""
    found = FENCE.search(reply)
    return found.group(1) if found else None


def checked_program(task: Task, reply: str, name: str | None = None) -> str:
    """The reply's code with its task's checks, under `name` or the task's own; it fails where there is no code."""
    code = fenced_code(reply)
    return "raise SystemExit(1)" if code is None else f"{code}\n{checks_of(task, name)}\n"


def programs_of(task: Task) -> list[str]:
    """Every solution in every style with its checks; where it has a name, the fully dressed one under another too."""
    styles: list[Style] = [*STYLES]
    if own_name(task):
        styles.append(Style(docstring=True, hints=True, name="zig_zag"))
    return [
        f"{styled(task, i, style)}\n{checks_of(task, style.name)}\n"
        for i in range(len(task.solutions))
        for style in styles
    ]


def verify(tasks: Sequence[Task]) -> int:
    """Runs every form of every solution with its checks; how many. Raises ValueError where one fails."""
    programs = [program for task in tasks for program in programs_of(task)]
    for program, good in zip(programs, run_all(programs), strict=True):
        if not good:
            raise ValueError(f"fails its checks:\n{program}")
    return len(programs)
