"""Results as files under --out: made in a folder aside, and moved to their places when all of them are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from adapter.cli.events import Page, PageResult
from adapter.cli.pages import blocks_json, joined, mark
from adapter.cli.sources import Source


@dataclass(frozen=True, slots=True)
class Wanted:
    markdown: bool
    """Markdown and its figures, rather than text."""
    blocks: bool
    annotated: bool

    def pictures(self, folder: Path) -> Iterator[Path]:
        """Those in `folder` that a source's pages have left there."""
        patterns = ["page-*-figure-*.png"] * self.markdown + ["page-*.annotated.png"] * self.annotated
        return (picture for pattern in patterns for picture in folder.glob(pattern))


class OutputFolder:
    """Below `path`, for a source named `a/b`: `a/b.md` or `a/b.txt`, `a/b.blocks.json`, and pictures in `a/b/`.

    Where pages are missing, an empty file such as `a/b.txt.incomplete` says so to the next run.
    """

    def __init__(self, path: Path, wanted: Wanted, overwrite: bool) -> None:
        self._path = path
        self._wanted = wanted
        self._overwrite = overwrite

    @property
    def parts(self) -> list[str]:
        """What to ask the server for."""
        parts = ["markdown", "figures"] if self._wanted.markdown else ["text"]
        return parts + ["blocks"] * self._wanted.blocks + ["annotated"] * self._wanted.annotated

    def existing(self, source: Source) -> Path | None:
        """A file that reading `source` would overwrite, unless that is wanted or it lacks pages."""
        places = self._places(source)
        if self._overwrite or places.incomplete.exists():
            return None
        files = [places.text, places.blocks] if self._wanted.blocks else [places.text]
        return next((file for file in (*files, *self._wanted.pictures(places.pictures)) if file.exists()), None)

    def open(self, source: Source) -> FileResult:
        return FileResult(self._path, self._places(source), self._wanted)

    def _places(self, source: Source) -> Places:
        return Places(self._path / source.name, ".md" if self._wanted.markdown else ".txt")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the results of one source belong."""

    pictures: Path
    """A folder."""
    suffix: str

    @property
    def text(self) -> Path:
        return self.pictures.with_name(self.pictures.name + self.suffix)

    @property
    def blocks(self) -> Path:
        return self.pictures.with_name(self.pictures.name + ".blocks.json")

    @property
    def incomplete(self) -> Path:
        return self.text.with_name(self.text.name + ".incomplete")


class FileResult:
    """Takes pages; nothing is in its place before `commit`, nothing is left aside after the `with`.

    Pictures go to the disk at once, so that a long document's don't fill the memory.
    """

    def __init__(self, folder: Path, places: Places, wanted: Wanted) -> None:
        self._folder = folder
        self._places = places
        self._wanted = wanted
        self._texts: list[str] = []
        self._pages: list[Page] = []
        self._lacks_pages = False
        self._pictures: list[str] = []

    def __enter__(self) -> FileResult:
        self._folder.mkdir(parents=True, exist_ok=True)
        # In the same file system as the places, or a move would be a copy; hidden, so that it is never read as input.
        self._aside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self._folder))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def add(self, page: Page) -> None:
        if isinstance(page, PageResult):
            self._texts.append((self._add_figures(page) if self._wanted.markdown else page.text) or "")
            if page.annotated is not None:
                self._add_picture(f"page-{page.page}.annotated.png", page.annotated)
            page = page.model_copy(update={"figures": None, "annotated": None})
        else:
            self._texts.append(mark(page))
            self._lacks_pages = True
        self._pages.append(page)

    def commit(self) -> None:
        """Move everything into its place, the text last; what lacks pages replaces nothing that is whole."""
        places = self._places
        if self._lacks_pages:
            if places.text.exists() and not places.incomplete.exists():
                return
            places.text.parent.mkdir(parents=True, exist_ok=True)
            places.incomplete.touch()
        for picture in self._wanted.pictures(places.pictures):
            picture.unlink()
        self._move()
        if not self._lacks_pages:
            places.incomplete.unlink(missing_ok=True)

    def _move(self) -> None:
        places = self._places
        moves = [(name, places.pictures / name) for name in self._pictures]
        if self._wanted.blocks:
            (self._aside / "blocks").write_bytes(blocks_json(self._pages))
            moves.append(("blocks", places.blocks))
        (self._aside / "text").write_bytes(joined(self._texts).encode())
        moves.append(("text", places.text))
        for name, place in moves:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._aside / name, place)

    def _add_figures(self, page: PageResult) -> str:
        """The page's Markdown, its links leading to where the figures will be."""
        markdown = page.markdown or ""
        for figure in page.figures or []:
            self._add_picture(figure.id, figure.image_base64)
            markdown = markdown.replace(f"]({figure.id})", f"]({quote(self._places.pictures.name)}/{figure.id})")
        return markdown

    def _add_picture(self, name: str, image: bytes) -> None:
        (self._aside / name).write_bytes(image)
        self._pictures.append(name)
