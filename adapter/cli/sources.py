"""Which files are read, and under what name each one's results are kept."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter.cli.errors import UsageError

# What a folder is searched for. A file that is named itself is sent whatever it is called.
# fmt: off
SUFFIXES = frozenset({
    ".pdf", ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff",
    ".bmp", ".gif", ".avif", ".jp2", ".j2k", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Source:
    path: Path
    """As the user wrote it, or below the folder that the user wrote."""
    name: Path
    """Of its results, below --out and without their suffix; no other source of a run has the same."""


def find_sources(given: Sequence[Path], out: Path | None) -> list[Source]:
    """The files among `given` and the images and PDFs in its folders, each once, an earlier run's `out` left out.

    Results keep the structure of the sources below the deepest folder that holds all of `given`.

    Raises:
        UsageError: a path does not exist, a folder can't be read, or there is nothing to read.
    """
    paths: dict[Path, Path] = {}
    roots = []
    for path in given:
        if path.is_dir():
            roots.append(_absolute(path))
            found = sorted(_walk(path, out))
        elif path.exists():
            roots.append(_absolute(path).parent)
            found = [path]
        else:
            raise UsageError(f"{path}: no such file or folder")
        for file in found:
            paths.setdefault(_absolute(file), file)
    if not paths:
        raise UsageError(f"no images or PDFs in {', '.join(map(str, given))}")
    root = os.path.commonpath(roots)
    names = _names([absolute.relative_to(root) for absolute in paths])
    return [Source(path, name) for path, name in zip(paths.values(), names, strict=True)]


def _walk(folder: Path, out: Path | None) -> Iterator[Path]:
    skipped = None if out is None else _absolute(out)
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and _absolute(Path(parent, name)) != skipped]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)


def _names(files: list[Path]) -> list[Path]:
    """`a.png` becomes `a`; where that could be another's name too, as beside `a.pdf`, it stays `a.png`."""
    # Not every file system tells A from a.
    claims = Counter(str(claim).casefold() for file in files for claim in (file, file.with_suffix("")))
    return [stem if claims[str(stem := file.with_suffix("")).casefold()] == 1 else file for file in files]


def _absolute(path: Path) -> Path:
    # Not resolve(): a link is a file of its own.
    return Path(os.path.abspath(path))


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: {error.strerror}")
