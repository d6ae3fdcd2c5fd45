"""Figures cut out of a page and boxes drawn on it, for every kind of image."""

import io
from typing import Any

import pytest
from PIL import Image, ImageChops

from adapter.errors import InvalidRequest
from adapter.ocr.layout import PageBlock
from adapter.ocr.markdown import FigureBox
from adapter.ocr.pictures import annotate, cut_figures

Pixel = tuple[int, int, int]
GREY = (127, 127, 127)


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        image.load()
        return image.copy()


def quarters() -> Image.Image:
    """40×20 pixels: red, green over blue, white."""
    image = Image.new("RGB", (40, 20))
    colours = {(0, 0): "red", (20, 0): "lime", (0, 10): "blue", (20, 10): "white"}
    for corner, colour in colours.items():
        image.paste(colour, (*corner, corner[0] + 20, corner[1] + 10))
    return image


def is_near(pixel: Any, expected: Pixel) -> bool:
    return all(abs(value - wanted) <= 3 for value, wanted in zip(pixel, expected, strict=True))


def test_figures_are_cut_at_their_boxes() -> None:
    boxes = [
        FigureBox("a.png", (20, 0, 40, 10)),
        FigureBox("b.png", (0, 0, 40, 20)),
        FigureBox("c.png", (0, 19, 1, 20)),
    ]
    figures = cut_figures(encoded(quarters()), boxes)
    assert [(figure.id, figure.box) for figure in figures] == [(box.id, box.box) for box in boxes]
    green, whole, pixel = (decoded(figure.png) for figure in figures)
    assert (green.size, green.getcolors()) == ((20, 10), [(200, (0, 255, 0))])
    assert ImageChops.difference(whole, quarters()).getbbox() is None
    assert (pixel.size, pixel.getpixel((0, 0))) == ((1, 1), (0, 0, 255))


def test_no_figures_are_no_work() -> None:
    assert cut_figures(b"not looked at", []) == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_image(orientation: int) -> None:
    # Turned so that the EXIF orientation turns it back.
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quarters().transpose(inverse[orientation]) if orientation in inverse else quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = encoded(stored, exif=exif)
    (figure,) = cut_figures(image, [FigureBox("a.png", (20, 0, 40, 10))])
    assert decoded(figure.png).getcolors() == [(200, (0, 255, 0))]
    assert decoded(annotate(image, [])).size == (40, 20)


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("image", "image_format", "pixel"),
    [
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("L", (8, 8), 127), "PNG", GREY),
        (Image.new("I;16", (8, 8), 127 * 257), "PNG", GREY),
        (Image.new("I;16", (8, 8), 127 * 257), "TIFF", GREY),
        (Image.new("I;16", (8, 8), 100), "PNG", (0, 0, 0)),
        (Image.new("I", (8, 8), 127 * 257), "TIFF", GREY),
        (Image.new("F", (8, 8), 0.5), "TIFF", GREY),
        (Image.new("RGB", (8, 8), "red").quantize(2), "PNG", (255, 0, 0)),
        (palette_with_transparency(), "PNG", (255, 255, 255)),
        (Image.new("LA", (8, 8), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 128)), "PNG", (255, 127, 127)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.new("RGB", (8, 8), "blue"), "WEBP", (0, 0, 255)),
        (Image.new("RGB", (8, 8), "blue"), "GIF", (0, 0, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_kind_of_image(image: Image.Image, image_format: str, pixel: Pixel) -> None:
    options = {"lossless": True} if image_format == "WEBP" else {}
    (figure,) = cut_figures(encoded(image, image_format, **options), [FigureBox("a.png", (0, 0, 8, 8))])
    assert is_near(decoded(figure.png).getpixel((4, 4)), pixel)


def test_all_greys_of_32_bits_are_kept() -> None:
    image = Image.new("I", (2, 1))
    image.putpixel((0, 0), 127 * 257)
    image.putpixel((1, 0), 65535)
    (figure,) = cut_figures(encoded(image, "TIFF"), [FigureBox("a.png", (0, 0, 2, 1))])
    cut = decoded(figure.png)
    assert is_near(cut.getpixel((0, 0)), GREY)
    assert is_near(cut.getpixel((1, 0)), (255, 255, 255))


def test_what_a_file_says_of_its_colours_is_kept_only_while_true() -> None:
    red = Image.new("RGB", (8, 8), "red")
    sixteen_bits = Image.new("I;16", (8, 8), 1000)
    for data, kept in [
        (encoded(red, icc_profile=b"profile"), {"icc_profile": b"profile"}),
        (encoded(red.convert("CMYK"), "JPEG", icc_profile=b"profile"), {}),
        (encoded(sixteen_bits, icc_profile=b"profile", transparency=1000), {}),
        (encoded(red, transparency=(255, 0, 0)), {}),
    ]:
        (figure,) = cut_figures(data, [FigureBox("a.png", (0, 0, 8, 8))])
        assert decoded(figure.png).info == kept
        assert decoded(annotate(data, [])).info == kept


def test_boxes_and_names_are_drawn() -> None:
    white = Image.new("RGB", (400, 300), "white")
    block = PageBlock("table", "", ((100, 100, 200, 200), (250, 100, 350, 200)), 1)
    drawn = decoded(annotate(encoded(white), [block]))
    colour = drawn.getpixel((100, 150))
    assert colour != (255, 255, 255)
    for place in [(150, 100), (199, 150), (150, 199), (250, 150), (349, 150), (300, 199)]:
        assert drawn.getpixel(place) == colour
    assert drawn.getpixel((150, 150)) == (255, 255, 255)
    # The name: letters on the box's colour, above it, and nothing far from it.
    above = drawn.crop((100, 80, 130, 98)).getcolors() or []
    assert {colour, (255, 255, 255)} <= {value for _, value in above}
    changed = ImageChops.difference(drawn, white).getbbox()
    assert changed is not None
    assert changed[1] >= 70


@pytest.mark.parametrize(("box", "name_box"), [((0, 0, 50, 20), (0, 21, 20, 35)), ((0, 0, 50, 100), (2, 2, 20, 15))])
def test_a_name_has_room_at_the_page_s_edge(
    box: tuple[int, int, int, int], name_box: tuple[int, int, int, int]
) -> None:
    white = Image.new("RGB", (100, 100), "white")
    drawn = decoded(annotate(encoded(white), [PageBlock("text", "", (box,), 1)]))
    assert ImageChops.difference(drawn.crop(name_box), white.crop(name_box)).getbbox() is not None


def test_a_type_has_one_colour() -> None:
    black = encoded(Image.new("RGB", (400, 100), "black"))
    kinds = ["text", "title", "seal", "text", "title", "seal"]
    blocks = [PageBlock(kind, "", ((60 * i, 40, 60 * i + 50, 90),), 1) for i, kind in enumerate(kinds)]
    drawn = decoded(annotate(black, blocks))
    colours = [drawn.getpixel((60 * i, 60)) for i in range(6)]
    assert colours[:3] == colours[3:]
    assert len(set(colours)) == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (2500, 40)])
def test_any_box_can_be_drawn(size: tuple[int, int]) -> None:
    width, height = size
    boxes = ((0, 0, 1, 1), (width - 1, height - 1, width, height), (0, 0, width, height))
    blocks = [PageBlock("x" * 2000, "", boxes, 1), PageBlock("text", "", (), 1)]
    assert decoded(annotate(encoded(Image.new("RGB", size)), blocks)).size == size


@pytest.mark.parametrize("data", [b"", b"not an image", encoded(quarters())[:60]])
def test_a_broken_image_is_an_error_of_ours(data: bytes) -> None:
    for draw in (lambda: annotate(data, []), lambda: cut_figures(data, [FigureBox("a.png", (0, 0, 1, 1))])):
        with pytest.raises(InvalidRequest, match="image: "):
            draw()
