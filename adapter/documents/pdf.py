"""Opens a PDF; its pages are rendered one by one, in processes of their own."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

from adapter.documents.page import Page
from adapter.documents.page_ranges import choose_pages
from adapter.documents.render_pool import RenderCrashed, RenderPool, RenderTimedOut
from adapter.documents.rendering import BrokenPdf, CountPages, RenderPage, Task
from adapter.errors import InvalidRequest
from adapter.settings import Settings

T = TypeVar("T")


class PdfDocument:
    """A PDF on disk; nothing of it is kept in memory between pages."""

    def __init__(
        self, path: Path, *, field: str, dpi: int, pool: RenderPool, settings: Settings, temporary: IO[bytes] | None
    ) -> None:
        """`temporary` is the file at `path` if it is to be closed on `close`."""
        self.numbers: Sequence[int] = ()
        self.dpi: int | None = dpi
        self._path = path
        self._field = field
        self._dpi = dpi
        self._pool = pool
        self._settings = settings
        self._temporary = temporary
        # No more: what waits in the pool waits there in turn with the pages of other documents.
        self._places = asyncio.Semaphore(settings.render_processes)

    async def open(self, pages: str | Sequence[int] | None) -> None:
        """Read how many pages there are and choose from them.

        Raises:
            InvalidRequest: the PDF needs a password, is damaged or has no pages, or `pages` are not in it.
            TooLarge: more than `max_pages` are chosen.
        """
        num_pages = await self._run(CountPages(str(self._path)), self._field)
        self.numbers = choose_pages(pages, "pages", num_pages, self._settings.max_pages)

    async def page(self, number: int) -> Page:
        """Render a page as PNG at the document's dpi.

        A page too large for `max_image_pixels` or `max_image_side` is rendered at the highest dpi that fits, never
        refused.

        Raises:
            InvalidRequest: this page is broken, crashes the renderer or takes longer than `render_timeout_s`.
        """
        settings = self._settings
        task = RenderPage(str(self._path), number, self._dpi, settings.max_image_pixels, settings.max_image_side)
        async with self._places:
            rendered = await self._run(task, f"{self._field}: page {number} can't be rendered")
        return Page(number, rendered.image, rendered.width, rendered.height)

    async def close(self) -> None:
        if self._temporary is not None:
            await asyncio.to_thread(self._temporary.close)

    async def _run(self, task: Task[T], what: str) -> T:
        try:
            return await self._pool.run(task)
        except BrokenPdf as error:
            reason = str(error)
        except RenderTimedOut:
            reason = f"it takes longer than {self._settings.render_timeout_s:g} s"
        except RenderCrashed:
            reason = "the PDF renderer crashes on it"
        raise InvalidRequest(f"{what}: {reason}", param=self._field)


def write_temporary(source: IO[bytes]) -> IO[bytes]:
    """A copy without a name, which is gone when it is closed or this process ends, however it ends. Blocks."""
    file = TemporaryFile()  # noqa: SIM115 - the document closes it
    try:
        source.seek(0)
        shutil.copyfileobj(source, file)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def path_of(file: IO[bytes]) -> Path:
    """Where this process and those that it started can open `file` as long as it is open here."""
    return Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
