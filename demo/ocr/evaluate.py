"""Measures an OCR checkpoint, read by the engine: `python -m demo.ocr.evaluate [folder]`.

`--write` sets the figures into the folder's model card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from demo.card import report
from demo.ocr.figures import all_figures
from demo.ocr.fonts import check_fonts
from demo.ocr.reader import Reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="set the figures into the folder's README.md")
    parser.add_argument("--verbose", action="store_true", help="print what was read wrong")
    arguments = parser.parse_args()
    check_fonts()
    card = arguments.folder / "README.md" if arguments.write else None
    report(all_figures(Reader(arguments.folder, arguments.threads)), card, arguments.verbose)


if __name__ == "__main__":
    main()
