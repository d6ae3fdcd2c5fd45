"""Encoded images to the views that a vision encoder sees: one of the whole, and tiles of a large one.

Geometry and pixels follow DeepSeek-OCR's own preprocessing: Pillow's bicubic resize, grey padding, tiles row by row.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffTags
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
TOKEN_SIDE = 64
"""Pixels of a view's side that become one embedding."""
_MAX_SIDE = 1280
_MIN_TILES, _MAX_TILES = 2, 6
_GREY = (127, 127, 127)
_MAX_PROPORTION = 200
"""Longer side to shorter; beyond it nothing is left of the shorter one in a view."""
_SCAN = re.compile(rb"\xff\xda\x00(?:\x06\x00|\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""The head of a JPEG's scan: length, and number of components. Other bytes in a file may look like its start alone."""
_MAX_SCANS = 100
"""Of a progressive JPEG, which has about ten: each costs as much time as the whole image, and next to no bytes."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
_PNG_EXIF = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp"})
"""Where the part of a PNG that is before its pixels may say how it lies."""
_BITS_PER_SAMPLE = next(tag for tag, info in TiffTags.TAGS_V2.items() if info.name == "BitsPerSample")

Image.MAX_IMAGE_PIXELS = None  # the engine's own limit is checked before any pixel is decoded, and says so better


@dataclass(frozen=True, slots=True)
class ImageMode:
    """How an image is cut into views. Sides in pixels."""

    base_size: int
    """Side of the view of the whole image."""
    tile_size: int
    crop: bool
    """Whether an image larger than a tile is also seen in tiles."""
    stretch: bool = False
    """Whether the view is stretched to a square; else it keeps its proportions and is padded."""


@dataclass(frozen=True, slots=True)
class ViewLayout:
    """The views that an image of some size is cut into."""

    mode: ImageMode
    columns: int = 0
    """Of tiles; 0 where there are none."""
    rows: int = 0

    @property
    def num_tiles(self) -> int:
        return self.columns * self.rows


@dataclass(frozen=True, slots=True, eq=False)
class ImageViews:
    """The pixels of an image's views, as they are; the encoder scales them to -1 … 1."""

    view: NDArray[np.uint8]
    """Of the whole: `[base_size, base_size, 3]`."""
    tiles: NDArray[np.uint8]
    """`[num_tiles, tile_size, tile_size, 3]`, row by row."""


class ImageParameters(BaseModel):
    """The JSON of the `image_parameters` input. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: str | None = None
    base_size: int | None = Field(None, ge=TOKEN_SIDE, le=_MAX_SIDE, multiple_of=TOKEN_SIDE)
    image_size: int | None = Field(None, ge=TOKEN_SIDE, le=_MAX_SIDE, multiple_of=TOKEN_SIDE)
    crop_mode: bool | None = None


def parse_mode(text: bytes, modes: Mapping[str, ImageMode], default: ImageMode) -> ImageMode:
    """Read `image_parameters`: a mode by name, or what differs from the default one.

    Raises:
        InvalidRequest: names the parameter.
    """
    try:
        given = ImageParameters.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "image_parameters"
        raise InvalidRequest(field, first["msg"]) from error
    stated = given.model_dump(exclude_none=True)
    if not stated:
        return default
    if given.mode is None:
        return _mode_of_sizes(given, modes, default)
    if given.mode not in modes:
        raise InvalidRequest("mode", f"there is no mode {given.mode!r}; this model has {', '.join(modes)}")
    if len(stated) > 1:
        raise InvalidRequest("mode", "it says all about the sizes; leave base_size, image_size and crop_mode out")
    return modes[given.mode]


def _mode_of_sizes(given: ImageParameters, modes: Mapping[str, ImageMode], base: ImageMode) -> ImageMode:
    if base.crop if given.crop_mode is None else given.crop_mode:
        return ImageMode(given.base_size or base.base_size, given.image_size or base.tile_size, crop=True)
    sides = {given.base_size, given.image_size} - {None} or {base.base_size}
    if len(sides) > 1:
        raise InvalidRequest("image_size", "without crop_mode there is one view; give base_size or image_size")
    side = sides.pop() or base.base_size
    stretched_up_to = max((mode.base_size for mode in modes.values() if mode.stretch), default=0)
    return ImageMode(side, side, crop=False, stretch=side <= stretched_up_to)


class EncodedImage:
    """An image whose header is read; its pixels are not decoded yet."""

    def __init__(self, data: bytes) -> None:
        """Read the header.

        Raises:
            InvalidRequest: it is no image, or one that can't be cut into views.
        """
        try:
            self._image = Image.open(io.BytesIO(data), formats=FORMATS)
            orientation = _orientation(self._image, data)
        except Exception as error:  # Pillow's readers raise whatever a broken file makes them raise
            raise InvalidRequest("image", f"it can't be read as an image: {error}") from error
        self._upright = _UPRIGHT.get(orientation)
        width, height = self._image.size
        self.size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
        """Width and height in pixels, upright."""
        if max(self.size) > _MAX_PROPORTION * min(self.size):
            raise InvalidRequest("image", f"{width}×{height} pixels are too narrow to read; send a part of it")
        if self._image.format in ("JPEG", "MPO") and len(_SCAN.findall(data)) > _MAX_SCANS:
            raise InvalidRequest("image", f"it is a JPEG of more than {_MAX_SCANS} scans; save it anew")

    @property
    def num_pixels(self) -> int:
        return self.size[0] * self.size[1]

    def decode(self) -> Image.Image:
        """The first frame: upright, RGB, transparency over white.

        Raises:
            InvalidRequest: it is broken.
        """
        try:
            image = _to_rgb(self._image)
        except Exception as error:  # as above
            raise InvalidRequest("image", f"it can't be read as an image: {error}") from error
        return image if self._upright is None else image.transpose(self._upright)


def _orientation(image: Image.Image, data: bytes) -> int:
    """The EXIF orientation, 1 to 8, that is still to be undone; nothing is decoded for it."""
    if image.format == "TIFF":
        return 1  # Pillow turns it when it decodes it, and gives its size upright
    exif = Image.Exif()
    if image.format != "PNG" or not _PNG_EXIF.isdisjoint(image.info):
        exif = image.getexif()
    elif (start := data.rfind(b"eXIf")) >= 4:  # behind the pixels: Pillow would decode them all to come there
        exif.load(data[start + 4 : start + 4 + int.from_bytes(data[start - 4 : start], "big")])
    orientation = exif.get(_ORIENTATION)
    return orientation if isinstance(orientation, int) else 1


def lay_out(size: tuple[int, int], mode: ImageMode) -> ViewLayout:
    """Choose the views of an image of this width and height."""
    if mode.crop and max(size) > mode.tile_size:
        return ViewLayout(mode, *choose_grid(*size, mode.tile_size))
    return ViewLayout(mode)


def cut_views(image: Image.Image, layout: ViewLayout) -> ImageViews:
    """Resize and cut an RGB image."""
    mode, tile = layout.mode, layout.mode.tile_size
    tiles = np.zeros((0, tile, tile, 3), np.uint8)
    if layout.num_tiles:
        resized = image.resize((layout.columns * tile, layout.rows * tile), Image.Resampling.BICUBIC)
        grid = np.asarray(resized).reshape(layout.rows, tile, layout.columns, tile, 3)
        tiles = grid.swapaxes(1, 2).reshape(-1, tile, tile, 3)
    square = (mode.base_size, mode.base_size)
    if mode.stretch:
        view = image.resize(square, Image.Resampling.BICUBIC)
    else:
        view = ImageOps.pad(image, square, Image.Resampling.BICUBIC, color=_GREY)
    return ImageViews(np.asarray(view), tiles)


def choose_grid(width: int, height: int, tile_size: int) -> tuple[int, int]:
    """The columns and rows of 2 to 6 tiles whose proportions are nearest the image's.

    Of two that are equally near, the larger is taken if the image has more than half its pixels.
    """
    best, best_distance = (1, 1), float("inf")
    for columns, rows in _grids():
        distance = abs(width / height - columns / rows)
        is_large = width * height > 0.5 * tile_size * tile_size * columns * rows
        if distance < best_distance or (distance == best_distance and is_large):
            best, best_distance = (columns, rows), distance
    return best


@lru_cache(maxsize=1)
def _grids() -> list[tuple[int, int]]:
    sides = range(1, _MAX_TILES + 1)
    grids = [(columns, rows) for columns in sides for rows in sides if _MIN_TILES <= columns * rows <= _MAX_TILES]
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scale_to_bytes(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
        return opaque
    return image.convert("RGB")


def _scale_to_bytes(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits, which Pillow would clip at 255 instead."""
    values: NDArray[Any] = np.array(image, np.float32)
    np.nan_to_num(values, copy=False, posinf=0, neginf=0)
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]  # scanners write TIFFs of 10 or 12
        white = 2.0**bits - 1
    else:  # these don't say what white is: the usual value that holds the brightest pixel
        peak = float(values.max(initial=0))
        white = next((white for white in (1.0, 255.0, 65535.0) if peak <= white), peak)
    values *= 255.0 / white  # in place, for its memory
    return Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
