"""Prints the figures of a coder checkpoint: `python -m demo.coder.evaluate [folder]`. Code that it writes is run.

`--write` sets them into the folder's model card.
"""

import argparse
from pathlib import Path

import torch

from demo.card import report
from demo.coder.checkpoint import Coder
from demo.coder.figures import all_figures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="set the figures into the folder's README.md")
    parser.add_argument("--verbose", action="store_true", help="print the questions that went wrong")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    card = arguments.folder / "README.md" if arguments.write else None
    report(all_figures(Coder(arguments.folder)), card, arguments.verbose)


if __name__ == "__main__":
    main()
