"""The one way in for images and PDFs: bytes or a file to a document, every limit checked."""

import asyncio
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal

from adapter.documents.image_threads import ImageThreads
from adapter.documents.images import Frames, check_image_bytes, open_image
from adapter.documents.media import START_BYTES, sniff
from adapter.documents.page import MAX_DPI, MIN_DPI, Document
from adapter.documents.pdf import PdfDocument, path_of, write_temporary
from adapter.documents.render_pool import RenderPool
from adapter.errors import InvalidRequest
from adapter.settings import Settings

_NUM_IMAGE_THREADS = 4
_RENDER_BYTES, _RENDER_PIXEL_BYTES = 1 << 30, 16
"""Most memory of a render process: whatever the PDF, and for each pixel of the largest page, which takes 7."""


class DocumentReader:
    """Opens documents, and owns the processes that render PDFs: `stop` ends them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = RenderPool(
            settings.render_processes,
            settings.render_timeout_s,
            _RENDER_BYTES + _RENDER_PIXEL_BYTES * settings.max_image_pixels,
        )
        self._threads = ImageThreads(_NUM_IMAGE_THREADS)

    async def open(
        self,
        source: bytes | IO[bytes],
        *,
        field: str,
        declared_type: str | None = None,
        pages: str | Sequence[int] | None = None,
        dpi: int | None = None,
        frames: Frames | None = "first",
    ) -> Document:
        """Open what a request brought in `field`; the caller closes it. A `source` that is a file is read now or never.

        Args:
            declared_type: the media type that the client gave it.
            pages: from 1, as in `1-3,7`; all if not given.
            dpi: at which a PDF is rendered.
            frames: which of an animated image or a TIFF are its pages; None: all of a TIFF, else the first.

        Raises:
            InvalidRequest: it is broken, or neither an image nor a PDF, or `pages` or `dpi` are out of range.
            UnsupportedMediaType: it is neither, and was not declared as either.
            TooLarge: it is beyond a limit of the settings.
        """
        dpi = self._check_dpi(dpi)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        if await asyncio.to_thread(_sniff, file, field, declared_type) == "image":
            data = await asyncio.to_thread(self._read_image, file, field)
            return await self._open_image(data, field, pages, frames)
        temporary = await asyncio.to_thread(write_temporary, file)
        return await self._open_pdf(path_of(temporary), field, pages, dpi, temporary)

    async def open_file(
        self,
        path: Path,
        *,
        field: str,
        declared_type: str | None = None,
        pages: str | Sequence[int] | None = None,
        dpi: int | None = None,
        frames: Frames | None = "first",
    ) -> Document:
        """As `open`, of a file on disk, which must stay there until the document is closed.

        Raises:
            ApiError: as `open` does.
            OSError: the file can't be read.
        """
        dpi = self._check_dpi(dpi)
        with await asyncio.to_thread(path.open, "rb") as file:
            if await asyncio.to_thread(_sniff, file, field, declared_type) == "pdf":
                return await self._open_pdf(path, field, pages, dpi, None)
            data = await asyncio.to_thread(self._read_image, file, field)
        return await self._open_image(data, field, pages, frames)

    async def stop(self) -> None:
        self._threads.stop()
        await self._pool.stop()

    def _check_dpi(self, dpi: int | None) -> int:
        if dpi is None:
            return self._settings.default_dpi
        if not MIN_DPI <= dpi <= MAX_DPI:
            raise InvalidRequest(f"dpi: must be from {MIN_DPI} to {MAX_DPI}", param="dpi")
        return dpi

    def _read_image(self, file: IO[bytes], field: str) -> bytes:
        check_image_bytes(file.seek(0, os.SEEK_END), field, self._settings)
        file.seek(0)
        return file.read()

    async def _open_image(
        self, data: bytes, field: str, pages: str | Sequence[int] | None, frames: Frames | None
    ) -> Document:
        return await self._threads.run(
            open_image,
            data,
            field=field,
            pages=pages,
            frames=frames,
            settings=self._settings,
            threads=self._threads,
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


def _sniff(file: IO[bytes], field: str, declared_type: str | None) -> Literal["image", "pdf"]:
    file.seek(0)
    return sniff(file.read(START_BYTES), field, declared_type)
