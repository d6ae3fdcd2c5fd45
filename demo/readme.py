"""Runs README's examples against a service of the demo checkpoints, and sets what they print below them.

Usage: python -m demo.readme [--url http://localhost:8000]; needs `make up`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
URL = "http://localhost:8000"
SHOWN = re.compile(
    r"```(?P<language>python|sh)\n(?P<code>(?:(?!```).)*)```\n\n<!-- what it prints: make readme -->\n"
    r"````text\n(?P<output>.*?)````\n",
    re.DOTALL,
)
"""An example and what it printed."""


def run(language: str, code: str, url: str) -> str:
    """What an example prints.

    Raises:
        CalledProcessError: it failed.
    """
    command = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
    command.append(code.replace(URL, url))
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True, timeout=300).stdout
    return printed if printed.endswith("\n") else f"{printed}\n"


def refresh(text: str, show: Callable[[str, str], str]) -> str:
    """README with every output made anew by `show(language, code)`."""

    def with_output(example: re.Match[str]) -> str:
        start, end = (place - example.start() for place in example.span("output"))
        return example[0][:start] + show(example["language"], example["code"]) + example[0][end:]

    return SHOWN.sub(with_output, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=URL)
    url = parser.parse_args().url
    README.write_text(refresh(README.read_text(), lambda language, code: run(language, code, url)))


if __name__ == "__main__":
    main()
