"""Encoded images to the views that a vision encoder sees: one of the whole, and tiles of a large one.

Geometry and pixels follow DeepSeek-OCR's own preprocessing: Pillow's bicubic resize, grey padding, tiles row by row.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import InvalidRequest

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
_MIN_TILES, _MAX_TILES = 2, 6
_GREY = (127, 127, 127)
_STRETCH_UP_TO = 640
"""Views up to this side are stretched to a square; larger ones keep their proportions and are padded."""
_SIDE_STEP = 64
"""Pixels of a view's side that become one token."""

Image.MAX_IMAGE_PIXELS = None  # `max_pixels` below is checked before any pixel is decoded, and says so better


@dataclass(frozen=True, slots=True)
class ImageMode:
    """How an image is cut into views. Sides in pixels."""

    base_size: int
    """Side of the view of the whole image."""
    tile_size: int
    crop: bool
    """Whether an image larger than a tile is also seen in tiles."""


MODES = {
    "tiny": ImageMode(512, 512, crop=False),
    "small": ImageMode(640, 640, crop=False),
    "base": ImageMode(1024, 1024, crop=False),
    "large": ImageMode(1280, 1280, crop=False),
    "gundam": ImageMode(1024, 640, crop=True),
}


@dataclass(frozen=True, slots=True, eq=False)
class ImageViews:
    """An image as the encoder gets it."""

    view: NDArray[np.uint8]
    """Of the whole: `[base_size, base_size, 3]`."""
    tiles: NDArray[np.uint8]
    """`[num_tiles, tile_size, tile_size, 3]`, row by row; none where the image is not cut."""
    columns: int
    rows: int

    @property
    def num_views(self) -> int:
        return 1 + len(self.tiles)


class ImageParameters(BaseModel):
    """The JSON of the `image_parameters` input. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mode: str | None = None
    base_size: int | None = Field(None, ge=_SIDE_STEP, le=1280, multiple_of=_SIDE_STEP)
    image_size: int | None = Field(None, ge=_SIDE_STEP, le=1280, multiple_of=_SIDE_STEP)
    crop_mode: bool | None = None


def parse_mode(text: bytes | None, modes: dict[str, ImageMode], default: str) -> ImageMode:
    """Read `image_parameters`: a mode by name, or what differs from the default one.

    Raises:
        InvalidRequest: names the parameter.
    """
    try:
        given = ImageParameters.model_validate_json(text or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "image_parameters"
        raise InvalidRequest(field, first["msg"]) from error
    if given.mode is None:
        base = modes[default]
        crop = base.crop if given.crop_mode is None else given.crop_mode
        if not crop:  # one view, of `image_size`, as in DeepSeek's own code
            side = given.image_size or given.base_size or base.base_size
            return ImageMode(side, side, crop=False)
        return ImageMode(given.base_size or base.base_size, given.image_size or base.tile_size, crop=True)
    if given.mode not in modes:
        raise InvalidRequest("mode", f"there is no mode {given.mode!r}; this model has {', '.join(modes)}")
    if len(given.model_fields_set) > 1:
        raise InvalidRequest("mode", "it says all about the sizes; leave base_size, image_size and crop_mode out")
    return modes[given.mode]


def decode_image(data: bytes, max_pixels: int) -> Image.Image:
    """Decode the first frame: upright after its EXIF orientation, RGB, transparency over white.

    Raises:
        InvalidRequest: it is no image, a broken one, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width}×{image.height}"
                raise InvalidRequest("image", f"{size} pixels are more than {max_pixels}; send it smaller")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except InvalidRequest:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        raise InvalidRequest("image", f"it can't be read as an image: {error}") from error


def cut_views(image: Image.Image, mode: ImageMode) -> ImageViews:
    """Resize and cut an RGB image.

    Returns:
        Pixels as they are; the encoder scales them to -1 … 1.
    """
    tile, columns, rows = mode.tile_size, 1, 1
    tiles = np.zeros((0, tile, tile, 3), np.uint8)
    if mode.crop and max(image.size) > tile:
        columns, rows = choose_grid(image.width, image.height, tile)
        resized = np.asarray(image.resize((columns * tile, rows * tile), Image.Resampling.BICUBIC))
        tiles = resized.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    square = (mode.base_size, mode.base_size)
    if not mode.crop and mode.base_size <= _STRETCH_UP_TO:
        view = image.resize(square, Image.Resampling.BICUBIC)
    else:
        view = ImageOps.pad(image, square, Image.Resampling.BICUBIC, color=_GREY)
    return ImageViews(np.asarray(view), tiles, columns, rows)


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
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scale_to_bytes(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits, which Pillow would clip at 255 instead."""
    values: NDArray[Any] = np.asarray(image, np.float32)
    peak = float(values.max(initial=0))
    # 32-bit and floating-point files don't say what white is: the usual values that hold the brightest pixel.
    white = 65535.0 if image.mode.startswith("I;16") else next((w for w in (1.0, 255.0, 65535.0) if peak <= w), peak)
    return Image.fromarray(np.clip(values * (255.0 / white), 0, 255).astype(np.uint8))
