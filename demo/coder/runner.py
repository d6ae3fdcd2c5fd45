"""Runs programs that nobody has read, each in a process and an empty folder of its own, many to one interpreter.

As a module it is imported; as a script it is the interpreter that forks: a JSON list of programs on stdin, a JSON list
of truths on stdout.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

TIMEOUT_S = 5
AT_ONCE = 200  # programs to one interpreter
# Imported before the interpreter forks, so that each program need not do it again.
USUAL = (
    "csv",
    "dataclasses",
    "datetime",
    "functools",
    "itertools",
    "math",
    "pathlib",
    "random",
    "re",
    "secrets",
    "string",
)


def run_all(programs: Sequence[str], timeout_s: int = TIMEOUT_S) -> list[bool]:
    """Whether each program ends without an error, in time."""
    results: list[bool] = []
    for start in range(0, len(programs), AT_ONCE):
        batch = list(programs[start : start + AT_ONCE])
        done = subprocess.run(
            [sys.executable, "-I", __file__, str(timeout_s)],
            input=json.dumps(batch),
            capture_output=True,
            check=True,
            text=True,
        )
        results += json.loads(done.stdout)
    return results


def runs(program: str, timeout_s: int = TIMEOUT_S) -> bool:
    """Whether one program ends without an error, in time."""
    return run_all([program], timeout_s)[0]


def run_forked(program: str, timeout_s: int) -> bool:
    """Runs a program in a child, whose output goes nowhere and whose time is up with an alarm."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            signal.alarm(timeout_s)
            os.chdir(folder)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            try:
                exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
            except BaseException:
                os._exit(1)
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    for usual in USUAL:
        importlib.import_module(usual)
    print(json.dumps([run_forked(program, int(sys.argv[1])) for program in json.load(sys.stdin)]))
