"""The one way in for images and PDFs: bytes or a file to a document, every limit checked."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from adapter.documents.images import Frames, check_image_bytes, open_image
from adapter.documents.media import START_BYTES, sniff
from adapter.documents.page import Document
from adapter.documents.pdf import PdfDocument, write_temporary
from adapter.documents.render_pool import RenderPool
from adapter.errors import InvalidRequest
from adapter.settings import Settings

_MIN_DPI, _MAX_DPI = 36, 600
_MAX_DECODING = 4
"""Images decoded at once, for their memory: 4 bytes for each pixel."""


class DocumentReader:
    """Opens documents, and owns the processes that render PDFs: `stop` ends them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = RenderPool(settings.render_processes, settings.render_timeout_s)
        self._decoding = asyncio.Semaphore(_MAX_DECODING)

    async def open(
        self,
        data: bytes,
        *,
        field: str,
        declared_type: str | None = None,
        pages: str | Sequence[int] | None = None,
        dpi: int | None = None,
        frames: Frames = "first",
    ) -> Document:
        """Open what a request brought in `field`; the caller closes it.

        Args:
            declared_type: the media type that the client gave it.
            pages: from 1, as in `1-3,7`; all if not given.
            dpi: at which a PDF is rendered.
            frames: which of an animated image or a TIFF are its pages.

        Raises:
            InvalidRequest: it is broken, or neither an image nor a PDF, or `pages` or `dpi` are out of range.
            UnsupportedMediaType: it is neither, and was not declared as either.
            TooLarge: it is beyond a limit of the settings.
        """
        dpi = self._check_dpi(dpi)
        if await asyncio.to_thread(sniff, data[:START_BYTES], field, declared_type) == "image":
            return await self._open_image(data, field, pages, frames)
        temporary = await asyncio.to_thread(write_temporary, data)
        return await self._open_pdf(Path(temporary.name), field, pages, dpi, temporary)

    async def open_file(
        self,
        path: Path,
        *,
        field: str,
        declared_type: str | None = None,
        pages: str | Sequence[int] | None = None,
        dpi: int | None = None,
        frames: Frames = "first",
    ) -> Document:
        """As `open`, of a file on disk, which must stay there until the document is closed.

        Raises:
            ApiError: as `open` does.
            OSError: the file can't be read.
        """
        dpi = self._check_dpi(dpi)
        start = await asyncio.to_thread(_read_start, path)
        if await asyncio.to_thread(sniff, start, field, declared_type) == "pdf":
            return await self._open_pdf(path, field, pages, dpi, None)
        data = await asyncio.to_thread(self._read_image, path, field)
        return await self._open_image(data, field, pages, frames)

    async def stop(self) -> None:
        await self._pool.stop()

    def _check_dpi(self, dpi: int | None) -> int:
        if dpi is None:
            return self._settings.default_dpi
        if not _MIN_DPI <= dpi <= _MAX_DPI:
            raise InvalidRequest(f"dpi: must be from {_MIN_DPI} to {_MAX_DPI}", param="dpi")
        return dpi

    def _read_image(self, path: Path, field: str) -> bytes:
        check_image_bytes(path.stat().st_size, field, self._settings)
        return path.read_bytes()

    async def _open_image(self, data: bytes, field: str, pages: str | Sequence[int] | None, frames: Frames) -> Document:
        async with self._decoding:
            return await asyncio.to_thread(
                open_image, data, field=field, pages=pages, frames=frames, settings=self._settings
            )

    async def _open_pdf(
        self, path: Path, field: str, pages: str | Sequence[int] | None, dpi: int, temporary: IO[bytes] | None
    ) -> Document:
        pdf = PdfDocument(path, field=field, dpi=dpi, pool=self._pool, settings=self._settings, temporary=temporary)
        try:
            await pdf.open(pages)
        except BaseException:
            await pdf.close()
            raise
        return pdf


def _read_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START_BYTES)
