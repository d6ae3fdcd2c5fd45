"""Results on standard output, where no --out is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from adapter.cli.events import Page, PageResult
from adapter.cli.pages import blocks_json, joined, mark
from adapter.cli.sources import Source


class Printed:
    """Prints one part of each source, whole, in the order of the sources, whichever is read first."""

    def __init__(
        self, sources: Sequence[Source], part: Literal["text", "markdown", "blocks"], write: Callable[[str], None]
    ) -> None:
        self.part = part
        self._waiting = list(sources)
        self._with_headers = len(sources) > 1
        self._ended: dict[Source, str | None] = {}
        self._write = write

    @property
    def parts(self) -> list[str]:
        """What to ask the server for."""
        return [self.part]

    def existing(self, source: Source) -> None:
        """Nothing is overwritten here."""

    def open(self, source: Source) -> PrintedResult:
        return PrintedResult(self, source)

    def end(self, source: Source, text: str | None) -> None:
        """`text` is None for a source that failed; what waited for this one is printed too."""
        self._ended[source] = text
        while self._waiting and self._waiting[0] in self._ended:
            source = self._waiting.pop(0)
            text = self._ended.pop(source)
            if text is not None:
                self._write(f"==> {source.path} <==\n{text}\n" if self._with_headers else text)


class PrintedResult:
    """Takes pages; they are printed after the `with`, if `commit` was called."""

    def __init__(self, printed: Printed, source: Source) -> None:
        self._printed = printed
        self._source = source
        self._pages: list[Page] = []
        self._text: str | None = None

    def __enter__(self) -> PrintedResult:
        return self

    def __exit__(self, *_: object) -> None:
        self._printed.end(self._source, self._text)

    def add(self, page: Page) -> None:
        self._pages.append(page)

    def commit(self) -> None:
        if self._printed.part == "blocks":
            self._text = blocks_json(self._pages).decode()
        else:
            self._text = joined(map(_text_of, self._pages))


def _text_of(page: Page) -> str:
    return page.markdown or page.text or "" if isinstance(page, PageResult) else mark(page)
