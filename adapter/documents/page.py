"""What a document is made of, wherever it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MIN_DPI, MAX_DPI = 36, 600
"""At which pages are rendered."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page, as an encoded image that the model can read."""

    number: int
    """From 1, in the document as sent."""
    image: bytes
    width: int
    """In pixels, upright: after the EXIF orientation."""
    height: int


class Document(Protocol):
    """An image, the frames of one, or a PDF."""

    numbers: Sequence[int]
    """The chosen pages, ascending."""
    dpi: int | None
    """At which its pages are rendered; None where they are images as they were sent."""

    async def page(self, number: int) -> Page:
        """Read or render one page; nothing of it is kept here.

        Raises:
            ApiError: this page can't be had; others may.
        """

    async def close(self) -> None: ...
