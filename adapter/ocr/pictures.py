"""Pictures of a page: its figures cut out, its blocks' boxes drawn. All of it is work for a thread."""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from zlib import crc32

from PIL import Image, ImageDraw, ImageFont, ImageOps

from adapter.documents.media import FORMATS
from adapter.errors import InvalidRequest
from adapter.ocr.layout import Box, PageBlock
from adapter.ocr.markdown import FigureBox

# All dark enough for white letters.
_COLOURS = {
    "text": "#1a56b0",
    "title": "#b71c1c",
    "sub_title": "#c2185b",
    "list": "#4527a0",
    "table": "#b34700",
    "table_caption": "#6d4c41",
    "image": "#1b7a2f",
    "image_caption": "#00695c",
    "figure": "#33691e",
    "chart": "#007d8a",
    "equation": "#8e24aa",
    "formula": "#7b1fa2",
    "header": "#455a64",
    "footer": "#5f5f5f",
    "page_number": "#37474f",
}
_MAX_NAME_CHARACTERS = 40
_TALL_LETTERS = "dp_"


@dataclass(frozen=True, slots=True)
class Figure:
    """`id` is a file name, as in the page's Markdown; `box` is in pixels of the upright page."""

    id: str
    box: Box
    png: bytes


def cut_figures(image: bytes, figures: Sequence[FigureBox]) -> list[Figure]:
    """Cut each figure out of the encoded `image`, turned upright.

    Raises:
        InvalidRequest: the image can't be decoded.
    """
    if not figures:
        return []
    with _broken_image():
        page = _decode(image)
    return [Figure(figure.id, figure.box, _png(page.crop(figure.box))) for figure in figures]


def annotate(image: bytes, blocks: Sequence[PageBlock]) -> bytes:
    """Draw each block's boxes, with its type, on the encoded `image`, turned upright; return a PNG.

    Raises:
        InvalidRequest: the image can't be decoded.
    """
    with _broken_image():
        page = _decode(image)
    draw = ImageDraw.Draw(page)
    line_width = max(2, max(page.size) // 400)
    font = ImageFont.load_default(max(10, max(page.size) // 80))
    for block in blocks:
        for box in block.boxes:
            _draw_outline(draw, box, _colour(block.type), line_width)
    for block in blocks:  # after all lines, so that none crosses a name
        for box in block.boxes:
            _draw_name(draw, box, block.type[:_MAX_NAME_CHARACTERS], _colour(block.type), font)
    return _png(page)


def _colour(block_type: str) -> str:
    return _COLOURS.get(block_type) or f"hsl({crc32(block_type.encode()) % 360}, 85%, 30%)"


def _draw_outline(draw: ImageDraw.ImageDraw, box: Box, colour: str, line_width: int) -> None:
    """A white edge on both sides keeps the line apart from any background."""
    edge = max(1, line_width // 3)
    x1, y1, x2, y2 = box[0], box[1], box[2] - 1, box[3] - 1
    draw.rectangle((x1 - edge, y1 - edge, x2 + edge, y2 + edge), outline="white", width=line_width + 2 * edge)
    draw.rectangle((x1, y1, x2, y2), outline=colour, width=line_width)


def _draw_name(
    draw: ImageDraw.ImageDraw,
    box: Box,
    name: str,
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """White letters on the box's colour: above its corner, or below or inside where the page ends."""
    _, top, _, bottom = draw.textbbox((0, 0), _TALL_LETTERS, font=font)
    pad = max(2, (bottom - top) // 5)
    width, height = math.ceil(draw.textlength(name, font=font)) + 2 * pad, math.ceil(bottom - top) + 2 * pad
    page_width, page_height = draw.im.size
    x = max(0, min(box[0], page_width - width))
    places = (box[1] - height, box[3])
    y = next((place for place in places if 0 <= place <= page_height - height), box[1])
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    draw.text((x + pad, y + pad - top), name, fill="white", font=font)


@contextmanager
def _broken_image() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        text = "image: the page's image can't be read, so neither its figures nor its boxes can be drawn"
        raise InvalidRequest(text, param="image", cause=repr(error)) from error


def _decode(data: bytes) -> Image.Image:
    """The first frame: upright, RGB, transparency over white."""
    image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    ImageOps.exif_transpose(image, in_place=True)
    # Of what the file says about itself, only what is still true of the RGB pixels goes into our PNGs.
    profile = image.info.get("icc_profile") if image.mode.startswith("RGB") else None
    if image.mode.startswith(("I", "F")):
        image = _to_bytes(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    rgb.info = {"icc_profile": profile} if profile else {}
    return rgb


def _to_bytes(image: Image.Image) -> Image.Image:
    """Greyscale of more than 8 bits, which Pillow would clip at 255 instead."""
    values = image.convert("F")
    _, peak = values.getextrema()
    assert isinstance(peak, float)
    # Other files don't say what white is: the first usual value that holds the brightest pixel.
    usual = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0)
    scale = 255 / next((white for white in usual if peak <= white), peak)
    return values.point(lambda value: value * scale).convert("L")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
