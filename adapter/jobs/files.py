"""The jobs' files: the document as it was sent, and the parts of pages that are too large for the database."""

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Final

MAX_ORPHAN_AGE_S: Final = 3600.0
"""A folder without a job is left alone so long: its job may be about to be created, by another process."""

_JOB_ID = re.compile(r"job-[0-9a-f]{32}")


class JobFiles:
    """One folder per job. All paths are made of our own ids and page numbers. Blocking; raises `OSError`."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock

    def source(self, job_id: str) -> Path:
        return self._job(job_id) / "source"

    def save_source(self, job_id: str, source: IO[bytes]) -> None:
        self._job(job_id).mkdir(parents=True)
        _write(self.source(job_id), source)

    def remove_source(self, job_id: str) -> None:
        """Of a job that has ended: only its results are read any more."""
        self.source(job_id).unlink(missing_ok=True)

    def save_page(self, job_id: str, number: int, content: bytes) -> None:
        """Replaces what a killed process may have left of this page."""
        _write(self._page(job_id, number), io.BytesIO(content))

    def load_page(self, job_id: str, number: int) -> bytes | None:
        """None where the page has no large parts."""
        try:
            return self._page(job_id, number).read_bytes()
        except FileNotFoundError:
            return None

    def num_pages(self, job_id: str) -> int:
        """How many pages have large parts."""
        return sum(1 for _ in self._job(job_id).glob("page-*.json"))

    def remove(self, job_id: str) -> None:
        shutil.rmtree(self._job(job_id), ignore_errors=True)

    def remove_orphans(self, job_ids: Collection[str]) -> None:
        """Remove the folders of jobs that are not among `job_ids`."""
        oldest_s = self._clock() - MAX_ORPHAN_AGE_S
        for folder in self._folder.glob("job-*"):
            if _JOB_ID.fullmatch(folder.name) and folder.name not in job_ids and _modified_s(folder) < oldest_s:
                shutil.rmtree(folder, ignore_errors=True)

    def _job(self, job_id: str) -> Path:
        assert _JOB_ID.fullmatch(job_id), "ids are ours, and looked up before they are used"
        return self._folder / job_id

    def _page(self, job_id: str, number: int) -> Path:
        return self._job(job_id) / f"page-{number}.json"


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _write(path: Path, content: IO[bytes]) -> None:
    """Whole or not at all, also when the machine stops: the database will say that it is there."""
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
