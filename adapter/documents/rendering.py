"""What a render process does: PDF pages to PNGs. It imports nothing of the adapter."""

import io
import math
import os
import resource
import sys
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

T_co = TypeVar("T_co", covariant=True)


class BrokenPdf(Exception):
    """Its text is the reason, such as `the PDF is damaged`."""


class Task(Protocol[T_co]):
    """What a render process is asked to do; pickled."""

    def run(self) -> T_co: ...


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    result: T_co


@dataclass(frozen=True, slots=True)
class Failed:
    """The machine's fault, not the PDF's: `cause` is for the log."""

    cause: str


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A PNG, RGB on white; sides in pixels."""

    image: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class CountPages:
    path: str

    def run(self) -> int:
        """Raises `BrokenPdf`."""
        pdf = _open(self.path)
        try:
            return len(pdf)
        finally:
            pdf.close()


@dataclass(frozen=True, slots=True)
class RenderPage:
    """At `dpi`, or the most that keeps the page within `max_pixels` and its sides within `max_side`."""

    path: str
    number: int
    """From 1."""
    dpi: int
    max_pixels: int
    max_side: int

    def run(self) -> RenderedPage:
        """As a viewer shows it: rotated, cropped, with its annotations and forms. Raises `BrokenPdf`."""
        pdf = _open(self.path)
        try:
            pdf.init_forms()
            page = pdf[self.number - 1]
            scale = self._scale(*page.get_size())
            image = page.render(scale=scale, rev_byteorder=True).to_pil()
            encoded = io.BytesIO()
            image.save(encoded, "PNG", compress_level=1)
        except (pypdfium2.PdfiumError, ArithmeticError, ValueError) as error:
            raise BrokenPdf(f"it is damaged ({error or type(error).__name__})") from error
        finally:
            pdf.close()
        return RenderedPage(encoded.getvalue(), image.width, image.height)

    def _scale(self, width: float, height: float) -> float:
        """Pixels per point."""
        low, high = 0.0, self.dpi / 72
        if self._fits(width, height, high):
            return high
        for _ in range(48):
            middle = (low + high) / 2
            low, high = (middle, high) if self._fits(width, height, middle) else (low, middle)
        return low

    def _fits(self, width: float, height: float, scale: float) -> bool:
        sides = math.ceil(width * scale), math.ceil(height * scale)
        return max(sides) <= self.max_side and math.prod(sides) <= self.max_pixels


def serve(connection: Connection, max_memory_bytes: int) -> None:
    """Say `True`, then do one `Task` after the other until the parent closes the connection or dies."""
    os.setsid()  # a Ctrl-C or a stop is for the adapter, which lets its requests finish first
    _limit_memory(max_memory_bytes)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection.send(True)
    while True:
        try:
            task: Task[Any] = connection.recv()
        except EOFError:
            return
        try:
            answer: Done[Any] | BrokenPdf | Failed = Done(task.run())
        except BrokenPdf as error:
            answer = BrokenPdf(str(error))
        except (OSError, MemoryError) as error:
            answer = Failed(repr(error))
        connection.send(answer)


def _limit_memory(max_bytes: int) -> None:
    """A PDF of a few kilobytes may ask for all of the machine's: here it takes this process with it and no more."""
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    limit = min(max_bytes, sys.maxsize if allowed == resource.RLIM_INFINITY else allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _open(path: str) -> Any:
    # Not by PdfDocument(path): it gives a PDF without pages the error of the file before.
    raw = pdfium.FPDF_LoadDocument(os.fsencode(path) + b"\0", None)
    if not raw:
        match pdfium.FPDF_GetLastError():
            case pdfium.FPDF_ERR_PASSWORD:
                raise BrokenPdf("the PDF needs a password; send it without one")
            case pdfium.FPDF_ERR_SECURITY:
                raise BrokenPdf("the PDF is encrypted in a way that can't be read; send it unencrypted")
            case pdfium.FPDF_ERR_FILE:
                raise OSError(f"cannot read {path}")
            case _:
                raise BrokenPdf("the PDF is damaged")
    pdf = pypdfium2.PdfDocument(raw)
    if len(pdf) < 1:
        pdf.close()
        raise BrokenPdf("the PDF has no pages")
    return pdf
