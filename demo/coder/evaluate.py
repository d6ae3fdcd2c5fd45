"""Prints the figures of a coder checkpoint: `python -m demo.coder.evaluate [folder]`. Code that it writes is run.

`--write` sets them into the folder's model card.
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from demo.card import table, write_block
from demo.coder.checkpoint import Coder
from demo.coder.figures import Figure, all_figures

FIGURES = "figures"


def report(folder: Path, card: Path | None = None, verbose: bool = False) -> list[Figure]:
    """Measures, prints and, where a card is given, writes the figures."""
    found: list[Figure] = []
    for figure in tqdm(all_figures(Coder(folder)), unit="figure", desc="evaluating"):
        found.append(figure)
        tqdm.write(f"{figure.title:<66} {figure.value}")
        if verbose:
            for question in figure.missed:
                tqdm.write(f"    missed: {question}")
    if card:
        write_block(card, FIGURES, table(found))
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="set the figures into the folder's README.md")
    parser.add_argument("--verbose", action="store_true", help="print the questions that went wrong")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report(arguments.folder, arguments.folder / "README.md" if arguments.write else None, arguments.verbose)


if __name__ == "__main__":
    main()
