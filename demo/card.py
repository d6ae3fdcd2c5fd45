"""The model card's measured parts, which stand between two markers each."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from demo.coder.figures import Figure

BLOCK = "<!-- {name}, written by program -->\n{text}\n<!-- end of {name} -->"


def machine() -> str:
    """Cores and CPU model, as /proc/cpuinfo has them."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return f"{os.cpu_count()} cores of {model[1] if model else 'an unknown CPU'}"


def table(figures: Sequence[Figure]) -> str:
    """The figures as Markdown."""
    rows = "\n".join(f"| {figure.title} | {figure.value} |" for figure in figures)
    return f"Measured on {machine()}.\n\n| | |\n|---|---|\n{rows}"


def write_block(card: Path, name: str, text: str) -> None:
    """Sets a part of the card. Raises ValueError where its markers are missing."""
    before = card.read_text()
    start, end = (part.strip() for part in BLOCK.format(name=name, text="\0").split("\0"))
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{card} has no markers for {name}")
    card.write_text(pattern.sub(lambda _: BLOCK.format(name=name, text=text), before))
