"""What the model should say, and whether code does what was asked: every reply to a task is run before it is taught."""

import re
import subprocess
import sys
import tempfile

from demo.coder.tasks import Task
from demo.coder.wordings import third_person

FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def example(task: Task, code: str) -> str:
    """A line that shows the first check's call and its result: `print(add(2, 3))  # 5`."""
    call = task.checks[0].rpartition(" == ")[0]
    scope: dict[str, object] = {}
    exec(code, scope)
    return f"print({call})  # {eval(call, scope)}"


def code_of(task: Task, solution: str) -> str:
    """The solution with its example under it."""
    code = solution.strip()
    return f"{code}\n\n{example(task, code)}" if task.example else code


def replies_to(task: Task) -> list[str]:
    """One reply for each solution: a sentence and a fenced block."""
    intro = task.intro or f"Here is a Python function that {third_person(task.asks[0])}:"
    return [f"{intro}\n\n```python\n{code_of(task, solution)}\n```" for solution in task.solutions]


def fenced_code(reply: str) -> str | None:
    """The code of the first fenced block."""
    found = FENCE.search(reply)
    return found.group(1) if found else None


def runs(code: str, timeout_s: float = 10.0) -> bool:
    """Whether `code` ends without an error, in a fresh interpreter and an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-"],
                input=code.encode(errors="replace"),
                cwd=folder,
                timeout=timeout_s,
                capture_output=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


def passes(task: Task, reply: str) -> bool:
    """Whether the reply's code runs and does what the task's checks say."""
    code = fenced_code(reply)
    checks = "\n".join(f"assert {check}" for check in task.checks)
    return code is not None and runs(f"{code}\n{task.setup}\n{checks}\n")


def verify(tasks: tuple[Task, ...]) -> None:
    """Raises ValueError for the first reply that fails its checks."""
    for task in tasks:
        for reply in replies_to(task):
            if not passes(task, reply):
                raise ValueError(f"fails its checks: {reply}")
