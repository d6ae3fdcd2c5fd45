from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from engine.errors import InvalidRequest
from engine.images import FORMATS, EncodedImage, ImageMode, ImageViews, choose_grid, cut_views, lay_out, parse_mode
from engine.models.deepseek_ocr import DeepseekOcr2Vision, DeepseekOcrVision

MODES = DeepseekOcrVision.modes


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    result = EncodedImage(encoded(image, kind, **options)).decode()
    assert result.mode == "RGB"
    return result


HALVES = Image.fromarray(np.repeat(np.array([[0, 200]], np.uint8), 20, axis=1).repeat(30, axis=0))
"""Dark on the left, light on the right: 40 × 30."""


CORNER = HALVES.convert("RGB")
CORNER.paste("red", (0, 0, 8, 8))


def halves(image: Image.Image) -> tuple[int, int]:
    """Grey levels left and right."""
    pixels = np.asarray(image.convert("L"), np.float32)
    middle = pixels.shape[1] // 2
    return round(float(pixels[:, : middle - 2].mean())), round(float(pixels[:, middle + 2 :].mean()))


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_every_format_is_read(kind: str) -> None:
    left, right = halves(decoded(HALVES.convert("RGB"), kind))
    assert abs(left) <= 6 and abs(right - 200) <= 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_mode_is_read(mode: str) -> None:
    kind = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.asarray(HALVES).astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(HALVES).astype(np.float32) / 255)
    else:
        image = HALVES.convert(mode)
    assert image.mode == mode
    left, right = halves(decoded(image, kind))
    expected = (0, 200) if mode != "1" else halves(HALVES.convert("1"))
    assert abs(left - expected[0]) <= 3 and abs(right - expected[1]) <= 3


def test_transparency_is_over_white() -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert decoded(clear).getpixel((3, 3)) == (255, 255, 255)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0])
    assert decoded(palette, transparency=0).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    check_upright(encoded(CORNER, kind, exif=exif), orientation)


def check_upright(data: bytes, orientation: int) -> None:
    """As it lies, and in what size, is what Pillow makes of it."""
    with Image.open(io.BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    image = EncodedImage(data)
    assert image.size == upright.size == ((40, 30) if orientation < 5 else (30, 40))
    assert np.array_equal(np.asarray(image.decode()), np.asarray(upright))


def test_a_png_may_say_behind_its_pixels_or_in_a_text_how_it_lies() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(CORNER, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    check_upright(data[:start] + data[end:last] + data[start:end] + data[last:], 6)
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", '<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>')
    check_upright(encoded(CORNER, "PNG", pnginfo=texts), 6)


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    assert decoded(frames[0], "GIF", save_all=True, append_images=frames[1:]).getpixel((3, 3)) == (255, 0, 0)


def test_odd_metadata_does_not_matter() -> None:
    for orientation, size in ((6, (30, 40)), (99, (40, 30))):
        width_as_text = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0")
        entries = struct.pack("<H", 2) + width_as_text + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
        exif = b"Exif\0\0II*\0\x08\0\0\0" + entries + bytes(4)
        assert decoded(HALVES.convert("RGB"), "JPEG", exif=exif).size == size


def test_a_tiff_says_how_many_bits_its_white_has() -> None:
    data = encoded(Image.fromarray(np.asarray(HALVES).astype(np.uint16)), "TIFF")
    pixels = (np.asarray(HALVES).astype(np.uint16) * 16).reshape(-1, 2)  # of 12 bits: two in three bytes
    packed = np.stack((pixels[:, 0] >> 4, pixels[:, 0] % 16 * 16 + (pixels[:, 1] >> 8), pixels[:, 1] % 256), axis=1)
    bits_per_sample = struct.pack("<HHI", 0x0102, 3, 1)
    data = data.replace(bits_per_sample + b"\x10", bits_per_sample + b"\x0c")
    data = data[: -2 * pixels.size] + packed.astype(np.uint8).tobytes() + bytes(pixels.size)
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    assert halves(EncodedImage(data).decode()) == (0, pytest.approx(200, abs=1))


def test_numbers_that_are_none_are_dark() -> None:
    values = np.asarray(HALVES).astype(np.float32) / 255
    values[0, 0], values[0, 1] = np.nan, np.inf
    left, right = halves(decoded(Image.fromarray(values), "TIFF"))
    assert left <= 3 and abs(right - 200) <= 3


PNG = encoded(Image.effect_noise((64, 64), 50))


@pytest.mark.parametrize("data", [b"", b"hello", PNG[:20], PNG[:-200], PNG[:100] + bytes(100) + PNG[200:], b"%PDF-1.7"])
def test_what_is_no_whole_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^image: it can't be read as an image: "):
        EncodedImage(data).decode()


@pytest.mark.parametrize("size", [(2048, 1), (1, 4000), (30_000, 10)])
def test_a_line_is_no_page(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match=r"^image: \d+×\d+ pixels are too narrow to read; send a part of it$"):
        EncodedImage(encoded(Image.new("1", size)))


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded() -> None:
    data = encoded(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(InvalidRequest, match=r"^image: it is a JPEG of more than 100 scans; save it anew$"):
        EncodedImage(data[:-2] + scan * 200 + data[-2:])
    assert EncodedImage(data).decode().size == (64, 64)


def test_the_size_is_known_before_anything_is_decoded() -> None:
    assert EncodedImage(PNG[:60]).num_pixels == 64 * 64


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((900, 1200), (2, 3)),
        ((1200, 900), (3, 2)),
        ((1654, 2339), (2, 3)),
        ((700, 700), (2, 2)),  # there is no grid of one tile
        ((3000, 400), (6, 1)),
        ((400, 3000), (1, 6)),
        ((1300, 640), (2, 1)),
    ],
)
def test_the_grid_has_the_images_proportions(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert choose_grid(*size, 640) == grid


def cut(image: Image.Image, mode: ImageMode) -> ImageViews:
    return cut_views(image, lay_out(image.size, mode))


@pytest.mark.parametrize("mode", MODES)
def test_views_have_the_modes_sizes(mode: str) -> None:
    views = cut(Image.new("RGB", (1000, 1300)), MODES[mode])
    assert views.view.shape == (MODES[mode].base_size,) * 2 + (3,)
    assert len(views.tiles) == (6 if MODES[mode].crop else 0)


def test_small_views_are_stretched_and_large_ones_padded_with_grey() -> None:
    white = Image.new("RGB", (1000, 500), "white")
    assert cut(white, MODES["small"]).view.min() == 255
    padded = cut(white, MODES["base"]).view
    assert (padded[:256] == 127).all() and (padded[256:768] == 255).all() and (padded[768:] == 127).all()


def test_tiles_go_row_by_row() -> None:
    image = Image.new("RGB", (1280, 1920))
    for index in range(6):
        image.paste(
            (index * 40,) * 3, (index % 2 * 640, index // 2 * 640, index % 2 * 640 + 640, index // 2 * 640 + 640)
        )
    tiles = cut(image, MODES["gundam"]).tiles
    assert [int(tile[320, 320, 0]) for tile in tiles] == [0, 40, 80, 120, 160, 200]


@pytest.mark.parametrize(
    ("parameters", "mode"),
    [
        ({}, MODES["gundam"]),
        ({"mode": "tiny"}, MODES["tiny"]),
        ({"base_size": 1280}, ImageMode(1280, 640, crop=True)),
        ({"image_size": 512}, ImageMode(1024, 512, crop=True)),
        ({"crop_mode": False}, ImageMode(1024, 1024, crop=False)),
        ({"crop_mode": False, "base_size": 512}, ImageMode(512, 512, crop=False, stretch=True)),
        ({"crop_mode": False, "base_size": 640, "image_size": 640}, ImageMode(640, 640, crop=False, stretch=True)),
        ({"mode": "tiny", "base_size": None}, MODES["tiny"]),
    ],
)
def test_sizes_are_chosen_per_request(parameters: dict[str, object], mode: ImageMode) -> None:
    assert parse_mode(json.dumps(parameters).encode(), MODES, MODES["gundam"]) == mode


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ('{"mode": "huge"}', "mode: there is no mode 'huge'; this model has tiny, small, base, large, gundam"),
        ('{"mode": "tiny", "crop_mode": true}', "mode: it says all about the sizes"),
        ('{"base_size": 1000}', "base_size: .*multiple of 64"),
        ('{"image_size": 1344}', "image_size: .*less than or equal to 1280"),
        ('{"base_size": 0}', "base_size: "),
        (
            '{"crop_mode": false, "base_size": 512, "image_size": 640}',
            "image_size: without crop_mode there is one view",
        ),
        ('{"crop_mode": "yes"}', "crop_mode: "),
        ('{"tile": 3}', "tile: "),
        ("{", "image_parameters: "),
    ],
)
def test_bad_sizes_are_refused_by_name(parameters: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{says}"):
        parse_mode(parameters.encode(), MODES, MODES["gundam"])


def test_version_2_stretches_up_to_its_own_size() -> None:
    small = parse_mode(
        b'{"crop_mode": false, "image_size": 768}', DeepseekOcr2Vision.modes, DeepseekOcr2Vision.modes["gundam"]
    )
    assert small == DeepseekOcr2Vision.modes["small"]
    image = Image.effect_noise((900, 1200), 80).convert("RGB")
    stretched = np.asarray(image.resize((768, 768), Image.Resampling.BICUBIC))
    assert np.array_equal(cut(image, small).view, stretched)


def test_nothing_given_is_the_checkpoints_own_mode() -> None:
    own = ImageMode(640, 640, crop=False)
    assert parse_mode(b"{}", MODES, own) == own
    assert parse_mode(b'{"crop_mode": true}', MODES, own) == ImageMode(640, 640, crop=True)
