"""Opens an encoded image: one page as it was sent, or a page for each of its frames."""

import asyncio
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Literal, TypeAlias

from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from adapter.documents.image_threads import ImageThreads
from adapter.documents.media import FORMATS
from adapter.documents.page import Document, Page
from adapter.documents.page_ranges import choose_pages
from adapter.errors import ApiError, InvalidRequest, TooLarge
from adapter.settings import Settings

Frames: TypeAlias = Literal["first", "all"]

# Not those of a camera's multi-picture JPEG: its other pictures are previews and depth maps.
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")
_MAX_TIFF_FRAMES = 10_000
_MAX_ANIMATION_PIXELS = 2_000_000_000
"""Decoded one frame after the other up to the last that is asked for: a frame of a dozen bytes may be a huge one."""
_MAX_JPEG_SCANS = 100
"""Each scan is decoded over the whole image, however few its bytes; encoders write ten or so."""
# A scan's start, with its length and number of components: what a scan holds can't look so, all else hardly by chance.
_JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x06\x00|\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_SIDEWAYS = (5, 6, 7, 8)
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_PNG_MODES = ("1", "L", "LA", "I;16", "I;16B", "P", "RGB", "RGBA")

Image.MAX_IMAGE_PIXELS = None  # the settings' limits are checked before any pixel is decoded, and say so better


class SingleImage:
    """The image as it was sent."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.numbers: Sequence[int] = (page.number,)
        self.dpi: int | None = None

    async def page(self, number: int) -> Page:
        assert number == self._page.number
        return self._page

    async def close(self) -> None:
        """There is nothing to give back."""


class ImageFrames:
    """The frames of an animated image, or the pages of a TIFF; each is encoded when it is asked for."""

    def __init__(
        self, data: bytes, numbers: Sequence[int], field: str, settings: Settings, threads: ImageThreads
    ) -> None:
        self._data = data
        self.numbers = numbers
        self.dpi: int | None = None
        self._field = field
        self._settings = settings
        self._threads = threads
        self._turn = asyncio.Lock()
        self._opened: Image.Image | None = None

    async def page(self, number: int) -> Page:
        """A PNG, upright; a TIFF if its pixels have more than 16 bits."""
        # In turn, on one opened image: a frame of an animation is drawn over the one before.
        async with self._turn:
            # Taken away while a thread has it: that thread runs on if we are cancelled.
            opened, self._opened = self._opened, None
            page, self._opened = await self._threads.run(self._encode, opened, number)
            return page

    async def close(self) -> None:
        self._opened = None

    def _encode(self, image: Image.Image | None, number: int) -> tuple[Page, Image.Image]:
        with _decoding(f"{self._field}: frame {number}", self._field):
            if image is None or image.tell() >= number:  # Pillow rewinds animated PNGs wrongly
                image = Image.open(io.BytesIO(self._data), formats=FORMATS)
            image.seek(number - 1)
            _check_size(image, self._field, self._settings)
            frame = ImageOps.exif_transpose(image)
            encoded = io.BytesIO()
            if frame.mode in ("I", "F"):
                frame.save(encoded, "TIFF")
            else:
                if frame.mode not in _PNG_MODES:
                    frame = frame.convert("RGBA" if frame.has_transparency_data else "RGB")
                frame.save(encoded, "PNG", compress_level=1)
            return Page(number, encoded.getvalue(), *frame.size), image


def open_image(
    data: bytes,
    *,
    field: str,
    pages: str | Sequence[int] | None,
    frames: Frames | None,
    settings: Settings,
    threads: ImageThreads,
) -> Document:
    """Check an image and, where it is one page, decode it all: a truncated one is found here. Blocks.

    Args:
        frames: None: all of a TIFF, which are pages, and the first of an animation.
        threads: where frames are decoded when they are asked for.

    Raises:
        InvalidRequest: it is broken, takes too long to decode, or `pages` are not in it.
        TooLarge: it is beyond `max_image_bytes`, `max_image_pixels`, `max_image_side` or `max_pages`.
    """
    check_image_bytes(len(data), field, settings)
    with _decoding(field, field):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image, field, settings)
        wants_all = frames == "all" or (frames is None and image.format == "TIFF")
        num_frames = _count_frames(data, image.format) if wants_all and image.format in _ANIMATED else 1
        numbers = choose_pages(pages, "pages", num_frames, settings.max_pages)
        if num_frames > 1:
            _check_animation(image, numbers[-1])
            return ImageFrames(data, numbers, field, settings, threads)
        if image.format in ("JPEG", "MPO"):
            _check_scans(data, field)
        return SingleImage(Page(1, data, *_decode(image)))


def check_image_bytes(size_bytes: int, field: str, settings: Settings) -> None:
    if size_bytes > settings.max_image_bytes:
        sentence = f"{size_bytes} bytes are more than the {settings.max_image_bytes} of the largest image that is read"
        raise TooLarge(f"{field}: {sentence}; send it smaller", param=field)


def _check_size(image: Image.Image, field: str, settings: Settings) -> None:
    width, height = image.size
    num_pixels = width * height
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # A tile is decoded whole, however small the image is.
        num_pixels = max(num_pixels, image.tag_v2.get(_TILE_WIDTH, 1) * image.tag_v2.get(_TILE_LENGTH, 1))
    if num_pixels > settings.max_image_pixels:
        sentence = f"{width}×{height}: {num_pixels} pixels are more than the {settings.max_image_pixels} that are read"
        raise TooLarge(f"{field}: {sentence}; send it smaller", param=field)
    if max(width, height) > settings.max_image_side:
        sentence = f"{width}×{height}: a side is longer than the {settings.max_image_side} pixels that are read"
        raise TooLarge(f"{field}: {sentence}; send it smaller", param=field)


def _check_scans(data: bytes, field: str) -> None:
    if len(list(islice(_JPEG_SCAN.finditer(data), _MAX_JPEG_SCANS + 1))) > _MAX_JPEG_SCANS:
        sentence = f"the JPEG has more than {_MAX_JPEG_SCANS} scans; save it as an ordinary JPEG or as PNG"
        raise InvalidRequest(f"{field}: {sentence}", param=field)


def _check_animation(image: Image.Image, last_frame: int) -> None:
    width, height = image.size
    if image.format != "TIFF" and last_frame * width * height > _MAX_ANIMATION_PIXELS:
        sentence = f"{last_frame} frames of {width}×{height} are more than the {_MAX_ANIMATION_PIXELS} pixels in all"
        raise TooLarge(f"frames: {sentence} that are read; choose fewer of the first with pages", param="frames")


def _count_frames(data: bytes, name: str) -> int:
    image = Image.open(io.BytesIO(data), formats=(name,))
    if name != "TIFF":
        return getattr(image, "n_frames", 1)
    # Pillow's own count takes time that grows with the square of the frames.
    for num_frames in range(1, _MAX_TIFF_FRAMES + 1):
        try:
            image.seek(num_frames)
        except EOFError:
            return num_frames
    raise TooLarge(f"frames: there are more than {_MAX_TIFF_FRAMES}; split the image", param="frames")


def _decode(image: Image.Image) -> tuple[int, int]:
    """The upright width and height, once all of the image has been read."""
    width, height = image.size
    image.draft(image.mode, (1, 1))  # a JPEG is read to its end, but decoded at an eighth
    image.load()
    is_sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    return (height, width) if is_sideways else (width, height)


@contextmanager
def _decoding(what: str, field: str) -> Iterator[None]:
    """Pillow's decoders raise whatever a broken file makes them raise."""
    try:
        yield
    except ApiError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, OSError | SyntaxError | ValueError) else ""
        if isinstance(error, UnidentifiedImageError) or not reason:
            reason = "its content makes no sense"
        raise InvalidRequest(f"{what}: the image is broken: {reason}", param=field, cause=repr(error)) from error
