"""Results as files under --out: made in a folder aside, and moved to their places when all of them are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from adapter.cli.events import PageFailed, PageResult
from adapter.cli.pages import blocks_json, joined
from adapter.cli.sources import Source


@dataclass(frozen=True, slots=True)
class Wanted:
    markdown: bool
    """Markdown and its figures, rather than text."""
    blocks: bool
    annotated: bool


class OutputFolder:
    """Below `path`, for a source named `a/b`: `a/b.md` or `a/b.txt`, `a/b.blocks.json`, and pictures in `a/b/`."""

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
        """A file that reading `source` would overwrite, unless that is wanted."""
        if self._overwrite:
            return None
        places = self._places(source)
        files = [places.text, places.blocks] if self._wanted.blocks else [places.text]
        patterns = ["page-*-figure-*.png"] * self._wanted.markdown + ["page-*.annotated.png"] * self._wanted.annotated
        pictures = (picture for pattern in patterns for picture in places.pictures.glob(pattern))
        return next((file for file in (*files, *pictures) if file.exists()), None)

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


class FileResult:
    """Takes pages; nothing is in its place before `commit`, nothing is left aside after the `with`.

    Pictures go to the disk at once, so that a long document's don't fill the memory.
    """

    def __init__(self, folder: Path, places: Places, wanted: Wanted) -> None:
        self._folder = folder
        self._places = places
        self._wanted = wanted
        self._texts: list[str] = []
        self._pages: list[PageResult | PageFailed] = []
        self._pictures: list[str] = []

    def __enter__(self) -> FileResult:
        self._folder.mkdir(parents=True, exist_ok=True)
        # In the same file system as the places, or a move would be a copy; hidden, so that it is never read as input.
        self._aside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self._folder))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def add(self, page: PageResult | PageFailed) -> None:
        if isinstance(page, PageResult):
            self._texts.append((self._add_figures(page) if self._wanted.markdown else page.text) or "")
            if page.annotated is not None:
                self._add_picture(f"page-{page.page}.annotated.png", page.annotated)
            page = page.model_copy(update={"figures": None, "annotated": None})
        self._pages.append(page)

    def commit(self) -> None:
        """Move everything into its place, the text last."""
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
