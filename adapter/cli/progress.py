"""What the user sees while files are read."""

from __future__ import annotations

import sys
from typing import NoReturn

from tqdm import tqdm


class Progress:
    """A bar of pages on standard error, and lines that don't break it.

    `shown` is None for: on a terminal only. The total grows as documents tell how many pages they have.
    """

    def __init__(self, num_files: int, shown: bool | None) -> None:
        self._num_files = num_files
        self._num_files_done = 0
        self._num_pages = 0
        disable = None if shown is None else not shown
        self._bar: tqdm[NoReturn] = tqdm(total=0, unit="page", file=sys.stderr, disable=disable, dynamic_ncols=True)
        self._show_files()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def expect(self, num_pages: int) -> None:
        """More pages, or fewer where a document breaks off."""
        self._num_pages += num_pages
        self._bar.total = self._num_pages
        self._bar.refresh()

    def page_done(self) -> None:
        self._bar.update()

    def file_done(self) -> None:
        self._num_files_done += 1
        self._show_files()

    def say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)

    def print(self, text: str) -> None:
        self._bar.write(text, file=sys.stdout, end="")
        sys.stdout.flush()

    def _show_files(self) -> None:
        self._bar.set_postfix_str(f"{self._num_files_done}/{self._num_files} files")
