"""Images as documents: sizes, limits, frames, and all that can be broken."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from adapter.documents.page import Document, Page
from adapter.documents.reader import DocumentReader
from adapter.errors import ApiError, InvalidRequest, TooLarge, UnsupportedMediaType
from adapter.settings import Settings
from tests.adapter.conftest import WAIT_S
from tests.adapter.documents_data import (
    decode,
    encode,
    frames,
    huge_png,
    jpeg_of_scans,
    large_gif,
    noise,
    tiff_of_frames,
    tiff_with_tiles_of,
)

ORIENTATION = 0x0112


@pytest_asyncio.fixture
async def reader() -> AsyncIterator[DocumentReader]:
    reader = DocumentReader(Settings(max_image_bytes=500_000, max_image_pixels=1_000_000, max_image_side=2000))
    yield reader
    await reader.stop()


async def only_page(document: Document) -> Page:
    assert list(document.numbers) == [1]
    page = await document.page(1)
    await document.close()
    return page


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
async def test_sizes_are_those_of_the_upright_image(reader: DocumentReader, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(noise(160, 120), name, exif=exif)
    page = await only_page(await reader.open(data, field="file"))
    assert (page.width, page.height) == ((160, 120) if orientation < 5 else (120, 160))
    assert page.image == data


def sixteen_bits() -> Image.Image:
    return Image.frombytes("I;16", (20, 10), bytes(400))


def palette(transparency: bool = False) -> Image.Image:
    image = noise(20, 10).convert("P")
    if transparency:
        image.info["transparency"] = 3
    return image


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (noise(20, 10, "CMYK"), "JPEG"),
        (noise(20, 10, "CMYK"), "TIFF"),
        (sixteen_bits(), "PNG"),
        (sixteen_bits(), "TIFF"),
        (noise(20, 10).convert("I"), "TIFF"),
        (noise(20, 10).convert("F"), "TIFF"),
        (palette(), "PNG"),
        (palette(transparency=True), "PNG"),
        (palette(), "GIF"),
        (palette(), "BMP"),
        (noise(20, 10, "RGBA"), "PNG"),
        (noise(20, 10, "RGBA"), "WEBP"),
        (noise(20, 10, "LA"), "PNG"),
        (noise(20, 10, "L"), "JPEG"),
        (noise(20, 10, "1"), "PNG"),
        (noise(20, 10, "1"), "TIFF"),
        (noise(20, 10, "YCbCr"), "JPEG"),
        (noise(20, 10, "L"), "JPEG2000"),
        (noise(20, 10), "PPM"),
        (noise(20, 10), "AVIF"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
async def test_every_kind_of_pixel_is_sent_on_as_it_came(reader: DocumentReader, image: Image.Image, name: str) -> None:
    data = encode(image, name)
    assert await only_page(await reader.open(data, field="file")) == Page(1, data, 20, 10)


async def test_a_file_on_disk_is_read_and_left_there(reader: DocumentReader, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(encode(noise(), "PNG"))
    page = await only_page(await reader.open_file(path, field="file"))
    assert page == Page(1, path.read_bytes(), 160, 120)
    with pytest.raises(FileNotFoundError):
        await reader.open_file(tmp_path / "none", field="file")


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
async def test_all_frames(reader: DocumentReader, name: str) -> None:
    document = await reader.open(frames(4, name), field="file", frames="all")
    assert list(document.numbers) == [1, 2, 3, 4]
    # Out of order and all at once, as pages that are read in parallel.
    pages = await asyncio.gather(*(document.page(number) for number in (3, 1, 4, 2)))
    assert [page.number for page in pages] == [3, 1, 4, 2]
    for page in pages:
        image = decode(page.image)
        assert image.format == "PNG"
        assert image.size == (page.width, page.height) == (40, 30)
        assert image.convert("L").getpixel((20, 15)) == pytest.approx(20 * page.number, abs=3)
    await document.close()


@pytest.mark.parametrize("name", ["GIF", "WEBP", "TIFF"])
async def test_the_first_frame_is_the_file_itself(reader: DocumentReader, name: str) -> None:
    data = frames(4, name)
    assert await only_page(await reader.open(data, field="file")) == Page(1, data, 40, 30)


async def test_a_single_frame_is_the_file_itself(reader: DocumentReader) -> None:
    data = encode(noise(), "TIFF")
    assert (await only_page(await reader.open(data, field="file", frames="all"))).image == data


async def test_the_other_pictures_of_a_camera_are_no_frames(reader: DocumentReader) -> None:
    data = encode(noise(), "MPO", save_all=True, append_images=[noise(20, 10)])
    assert await only_page(await reader.open(data, field="file", frames="all")) == Page(1, data, 160, 120)


async def test_frames_are_chosen_by_number(reader: DocumentReader) -> None:
    document = await reader.open(frames(9, "GIF"), field="file", frames="all", pages="2-3,9")
    assert list(document.numbers) == [2, 3, 9]
    assert decode((await document.page(9)).image).convert("L").getpixel((0, 0)) == 180


async def test_frames_of_a_tiff_have_their_own_size_pixels_and_orientation(reader: DocumentReader) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    others = [sixteen_bits(), noise(30, 15).convert("F"), noise(20, 10, "CMYK"), noise(8, 4, "1")]
    data = io.BytesIO()
    noise(160, 120).save(data, "TIFF", save_all=True, append_images=others, exif=exif)
    document = await reader.open(data.getvalue(), field="file", frames="all")
    pages = [await document.page(number) for number in document.numbers]
    assert [(page.width, page.height) for page in pages] == [(120, 160), (10, 20), (15, 30), (10, 20), (4, 8)]
    images = [decode(page.image) for page in pages]
    assert [image.size for image in images] == [(page.width, page.height) for page in pages]
    assert [image.mode for image in images] == ["RGB", "I;16", "F", "RGB", "1"]


async def test_a_cancelled_frame_does_not_spoil_the_others(reader: DocumentReader) -> None:
    document = await reader.open(frames(4, "GIF"), field="file", frames="all")
    given_up = asyncio.create_task(document.page(1))
    await asyncio.sleep(0)
    given_up.cancel()
    assert (await asyncio.gather(given_up, return_exceptions=True))[0] is not None
    assert decode((await document.page(4)).image).convert("L").getpixel((0, 0)) == 80


@pytest.mark.parametrize("pages", ["2", "1-2", "0", "", [2]])
async def test_an_image_has_one_page(reader: DocumentReader, pages: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^pages: .*there is 1 page") as refusal:
        await reader.open(encode(noise(), "PNG"), field="file", pages=pages)
    assert refusal.value.param == "pages"


@pytest.mark.parametrize("dpi", [35, 601, 0, -1])
async def test_dpi_out_of_range(reader: DocumentReader, dpi: int) -> None:
    with pytest.raises(InvalidRequest, match=r"^dpi: must be from 36 to 600") as refusal:
        await reader.open(encode(noise(), "PNG"), field="file", dpi=dpi)
    assert refusal.value.param == "dpi"


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(500_000), "500008 bytes are more than the 500000"),
        (encode(Image.new("L", (1001, 1000)), "PNG"), "1001×1000: 1001000 pixels are more than the 1000000"),
        (encode(Image.new("L", (2001, 1)), "PNG"), "2001×1: a side is longer than the 2000"),
        (encode(Image.new("L", (1, 2001)), "GIF"), "1×2001: a side is longer than the 2000"),
        (huge_png(100_000, 100_000), "pixels are more than the 1000000"),
        (huge_png(2**31 - 1, 2**31 - 1), "pixels are more than the 1000000"),
        (tiff_with_tiles_of(70_000), "pixels are more than"),
    ],
    ids=["bytes", "pixels", "width", "height", "bomb", "larger bomb", "tile bomb"],
)
async def test_limits(reader: DocumentReader, tmp_path: Path, data: bytes, limit: str) -> None:
    (tmp_path / "page").write_bytes(data)
    path = tmp_path / "page"
    for opening in (lambda: reader.open(data, field="file"), lambda: reader.open_file(path, field="file")):
        with pytest.raises(TooLarge) as refusal:
            await opening()
        assert refusal.value.param == "file"
        assert refusal.value.message.startswith("file: ")
        assert limit in refusal.value.message
        assert "send it smaller" in refusal.value.message


async def test_images_at_the_limits_are_read(reader: DocumentReader) -> None:
    for size in ((1000, 1000), (2000, 1), (1, 2000)):
        page = await only_page(await reader.open(encode(Image.new("L", size), "PNG"), field="file"))
        assert (page.width, page.height) == size


async def test_pillow_s_own_limit_does_not_show() -> None:
    data = encode(Image.new("1", (15_000, 15_000)), "PNG")
    reader = DocumentReader(Settings(max_image_pixels=15_000 * 15_000))
    assert (await only_page(await reader.open(data, field="file"))).width == 15_000


async def test_a_frame_beyond_the_limits_is_refused_alone(reader: DocumentReader) -> None:
    data = encode(noise(), "TIFF", save_all=True, append_images=[Image.new("1", (2001, 1)), noise(20, 10)])
    document = await reader.open(data, field="file", frames="all")
    with pytest.raises(TooLarge, match=r"^file: 2001×1"):
        await document.page(2)
    assert (await document.page(3)).width == 20


async def test_too_many_frames() -> None:
    reader = DocumentReader(Settings(max_pages=3))
    with pytest.raises(TooLarge, match=r"^pages: 4 pages are more than the 3"):
        await reader.open(frames(4, "GIF"), field="file", frames="all")
    document = await reader.open(frames(4, "GIF"), field="file", frames="all", pages="2-")
    assert list(document.numbers) == [2, 3, 4]


async def test_far_too_many_frames_of_a_tiff() -> None:
    reader = DocumentReader(Settings())
    document = await reader.open(tiff_of_frames(100), field="file", frames="all", pages="100")
    assert (await document.page(100)).width == 1
    with pytest.raises(TooLarge, match=r"^frames: there are more than 10000") as refusal:
        await reader.open(tiff_of_frames(10_001), field="file", frames="all", pages="1")
    assert refusal.value.param == "frames"


async def test_frames_that_take_too_long_to_decode(reader: DocumentReader) -> None:
    data = large_gif(3000, 1000)
    with pytest.raises(TooLarge, match=r"^frames: 2001 frames of 1000×1000 .* choose fewer") as refusal:
        await reader.open(data, field="file", frames="all", pages="2001")
    assert refusal.value.param == "frames"
    document = await reader.open(data, field="file", frames="all", pages="3")
    assert (await document.page(3)).width == 1000


async def test_a_jpeg_of_too_many_scans(reader: DocumentReader) -> None:
    assert (await only_page(await reader.open(jpeg_of_scans(100), field="file"))).width == 160
    with pytest.raises(InvalidRequest, match=r"^file: the JPEG has more than 100 scans; save it as") as refusal:
        await reader.open(jpeg_of_scans(101), field="file")
    assert refusal.value.param == "file"


async def test_what_a_camera_puts_behind_a_jpeg_is_no_scan(reader: DocumentReader) -> None:
    data = encode(noise(), "JPEG") + b"\xff\xdaa film" * 1000
    assert (await only_page(await reader.open(data, field="file"))).image == data


async def test_images_keep_no_other_thread_waiting(reader: DocumentReader, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    has_begun, may_end = threading.Event(), threading.Event()

    def decode_slowly(*_: Any, **__: Any) -> None:
        has_begun.set()
        may_end.wait()

    monkeypatch.setattr("adapter.documents.reader.open_image", decode_slowly)
    opening = [asyncio.create_task(reader.open(WHOLE["PNG"], field="file")) for _ in range(10)]
    while not has_begun.is_set():
        await asyncio.sleep(0)
    other = asyncio.create_task(asyncio.to_thread(threading.get_ident))
    done, _ = await asyncio.wait({other}, timeout=WAIT_S)
    may_end.set()
    await asyncio.gather(*opening, other)
    assert done


WHOLE = {name: encode(noise(), name) for name in ("PNG", "JPEG", "WEBP", "BMP", "JPEG2000", "PPM", "AVIF")}
WHOLE["progressive JPEG"] = encode(noise(), "JPEG", progressive=True)
WHOLE["GIF"] = encode(noise().convert("P"), "GIF")
WHOLE["compressed TIFF"] = encode(noise(), "TIFF", compression="tiff_deflate")


@pytest.mark.parametrize("name", WHOLE)
async def test_half_an_image(reader: DocumentReader, name: str) -> None:
    await refused_as_broken(reader, WHOLE[name][: len(WHOLE[name]) // 2])


@pytest.mark.parametrize("name", ["JPEG", "progressive JPEG", "BMP", "PPM"])
async def test_an_image_without_its_last_rows(reader: DocumentReader, name: str) -> None:
    await refused_as_broken(reader, WHOLE[name][:-100])


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", [*WHOLE, "TIFF"])
async def test_garbage_behind_the_first_bytes(reader: DocumentReader, name: str) -> None:
    whole = encode(noise(), "TIFF") if name == "TIFF" else WHOLE[name]
    await refused_as_broken(reader, whole[:16] + b"\0garbage" * 50)
    await refused_as_broken(reader, whole[:20])


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data")
async def test_half_a_tiff(reader: DocumentReader) -> None:
    data = encode(noise(), "TIFF")
    await refused_as_broken(reader, data[: len(data) // 2])


@pytest.mark.parametrize("size", [(0, 0), (0, 10), (10, 0)])
async def test_an_image_without_pixels(reader: DocumentReader, size: tuple[int, int]) -> None:
    await refused_as_broken(reader, huge_png(*size))


async def test_an_image_of_a_header_alone(reader: DocumentReader) -> None:
    await refused_as_broken(reader, huge_png(10, 10))


async def refused_as_broken(reader: DocumentReader, data: bytes) -> None:
    # However it is declared: what it begins as is what it is.
    for declared_type in ("image/png", "application/octet-stream"):
        with pytest.raises(InvalidRequest) as refusal:
            await reader.open(data, field="file", declared_type=declared_type)
        assert refusal.value.param == "file"
        assert refusal.value.message.startswith("file: the image is broken: ")
        assert " at 0x" not in refusal.value.message


async def test_a_broken_frame_is_refused_alone(reader: DocumentReader) -> None:
    other = noise().transpose(Image.Transpose.ROTATE_180)
    whole = encode(noise().convert("P"), "GIF", save_all=True, append_images=[other.convert("P")])
    document = await reader.open(whole[: len(whole) * 3 // 4], field="file", frames="all")
    assert (await document.page(1)).width == 160
    with pytest.raises(InvalidRequest, match=r"^file: frame 2: the image is broken") as refusal:
        await document.page(2)
    assert refusal.value.param == "file"
    assert (await document.page(1)).width == 160


@pytest.mark.parametrize(
    ("declared_type", "error"),
    [(None, InvalidRequest), ("image/png", InvalidRequest), ("text/html", UnsupportedMediaType)],
)
async def test_neither_an_image_nor_a_pdf(
    reader: DocumentReader, tmp_path: Path, declared_type: str | None, error: type[ApiError]
) -> None:
    (tmp_path / "page.png").write_bytes(b"<html>")
    with pytest.raises(error, match=r"^file: can't be read"):
        await reader.open(b"<html>", field="file", declared_type=declared_type)
    with pytest.raises(error, match=r"^file: can't be read"):
        await reader.open_file(tmp_path / "page.png", field="file", declared_type=declared_type)


async def test_nothing(reader: DocumentReader) -> None:
    with pytest.raises(InvalidRequest, match=r"^image_base64: is empty"):
        await reader.open(b"", field="image_base64")
