"""A checkpoint's figures, and its model card's measured parts, which stand between two markers each."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

BLOCK = "<!-- {name}, written by program -->\n{text}\n<!-- end of {name} -->"


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    title: str
    value: str
    wanted: str = ""
    """The bar that the checkpoint was made for."""
    missed: tuple[str, ...] = ()
    """What went wrong, for the eye."""


def percent(share: float) -> str:
    """'90.0 %'."""
    return f"{100 * share:.1f} %"


def share(part: int, whole: int) -> str:
    """'9/10 (90.0 %)'."""
    return f"{part}/{whole} ({percent(part / whole)})"


def machine() -> str:
    """Cores and CPU model, as /proc/cpuinfo has them."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return f"{os.cpu_count()} cores of {model[1] if model else 'an unknown CPU'}"


def table(figures: Sequence[Figure]) -> str:
    """The figures as Markdown."""
    rows = "\n".join(f"| {figure.title} | {figure.value} | {figure.wanted} |" for figure in figures)
    return f"Measured on {machine()}.\n\n| | measured | aimed at |\n|---|---|---|\n{rows}"


def write_block(card: Path, name: str, text: str) -> None:
    """Sets a part of the card. Raises ValueError where its markers are missing."""
    before = card.read_text()
    start, end = (part.strip() for part in BLOCK.format(name=name, text="\0").split("\0"))
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(before):
        raise ValueError(f"{card} has no markers for {name}")
    card.write_text(pattern.sub(lambda _: BLOCK.format(name=name, text=text), before))


def report(figures: Iterable[Figure], card: Path | None = None, is_verbose: bool = False) -> None:
    """Measures, prints and, where a card is given, writes the figures."""
    found = []
    for figure in tqdm(figures, unit="figure", desc="evaluating"):
        found.append(figure)
        tqdm.write(f"{figure.title:<66} {figure.value:<20} {figure.wanted}")
        if is_verbose:
            for question in figure.missed:
                tqdm.write(f"    missed: {question}")
    if card:
        write_block(card, "figures", table(found))
