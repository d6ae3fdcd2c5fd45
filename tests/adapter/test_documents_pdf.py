"""PDFs as documents: what is rendered, and what is refused."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image, ImageChops

from adapter.documents.page import Document, Page
from adapter.documents.pdf import PdfDocument
from adapter.documents.reader import DocumentReader
from adapter.documents.render_pool import RenderCrashed, RenderPool
from adapter.errors import InternalError, InvalidRequest, TooLarge
from adapter.settings import Settings
from tests.adapter.documents_data import (
    decode,
    encode,
    encrypted_pdf,
    endless_pdf,
    one_page_pdf,
    pdf,
    pdf_of,
    stream,
)

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@pytest_asyncio.fixture
async def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DocumentReader]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reader = DocumentReader(Settings(max_pages=20))
    yield reader
    await reader.stop()


async def only_image(reader: DocumentReader, data: bytes, **options: Any) -> Image.Image:
    document = await reader.open(data, field="file", **options)
    assert list(document.numbers) == [1]
    image = await image_of(document, 1)
    await document.close()
    return image


async def image_of(document: Document, number: int) -> Image.Image:
    page = await document.page(number)
    image = decode(page.image)
    assert page.number == number
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (page.width, page.height))
    return image


async def test_a_page_is_rendered_on_white_at_the_default_dpi(reader: DocumentReader) -> None:
    image = await only_image(reader, pdf(1))
    assert image.size == (144, 288)
    assert image.getpixel((0, 0)) == image.getpixel((143, 287)) == WHITE
    assert image.getpixel((36, 252)) == BLACK


@pytest.mark.parametrize(("dpi", "size"), [(36, (36, 72)), (72, (72, 144)), (600, (600, 1200))])
async def test_dpi(reader: DocumentReader, dpi: int, size: tuple[int, int]) -> None:
    assert (await only_image(reader, pdf(1), dpi=dpi)).size == size


@pytest.mark.parametrize("dpi", [35, 601])
async def test_dpi_out_of_range(reader: DocumentReader, dpi: int) -> None:
    with pytest.raises(InvalidRequest, match=r"^dpi: must be from 36 to 600"):
        await reader.open(pdf(1), field="file", dpi=dpi)


async def test_pages_of_a_scanner_come_out_as_they_went_in(reader: DocumentReader) -> None:
    scans = [Image.new("RGB", (40, 30), (60 * k, 0, 0)) for k in range(3)]
    document = await reader.open(
        encode(scans[0], "PDF", save_all=True, append_images=scans[1:], resolution=72), field="file", dpi=72
    )
    assert list(document.numbers) == [1, 2, 3]
    for number, scan in enumerate(scans, 1):
        difference = ImageChops.difference(await image_of(document, number), scan)
        assert max(high for _, high in difference.getextrema()) <= 3
    await document.close()


async def test_a_rotated_and_cropped_page_is_shown_as_a_viewer_shows_it(reader: DocumentReader) -> None:
    contents = stream(b"0 0 36 36 re f")
    rotated = one_page_pdf(b"/MediaBox [0 0 72 144] /Rotate 90 /Contents 4 0 R", contents)
    image = await only_image(reader, rotated, dpi=72)
    assert image.size == (144, 72)
    assert (image.getpixel((18, 18)), image.getpixel((18, 54))) == (BLACK, WHITE)
    cropped = one_page_pdf(b"/MediaBox [0 0 72 144] /CropBox [0 18 72 90] /Contents 4 0 R", contents)
    image = await only_image(reader, cropped, dpi=72)
    assert image.size == (72, 72)
    assert (image.getpixel((18, 60)), image.getpixel((18, 48))) == (BLACK, WHITE)


async def test_annotations_and_forms_are_drawn(reader: DocumentReader) -> None:
    black_box = stream(b"0 0 20 20 re f", b"/Type /XObject /Subtype /Form /BBox [0 0 20 20]")
    data = one_page_pdf(
        b"/MediaBox [0 0 72 72] /Annots [5 0 R 6 0 R]",
        black_box,
        b"<< /Type /Annot /Subtype /Stamp /Rect [0 0 20 20] /F 4 /AP << /N 4 0 R >> >>",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /Rect [50 50 70 70] /F 4 /AP << /N 4 0 R >> >>",
        catalogue=b"/AcroForm << /Fields [6 0 R] >>",
    )
    image = await only_image(reader, data, dpi=72)
    assert image.getpixel((10, 62)) == BLACK
    assert image.getpixel((36, 36)) == WHITE
    assert image.getpixel((60, 12)) == BLACK


async def test_pages_are_chosen(reader: DocumentReader) -> None:
    document = await reader.open(pdf(9), field="file", pages="2-3,9")
    assert list(document.numbers) == [2, 3, 9]
    await document.close()
    for pages in ("10", "0", "x", [10]):
        with pytest.raises(InvalidRequest, match=r"^pages: .*there are 9 pages"):
            await reader.open(pdf(9), field="file", pages=pages)


async def test_the_limit_of_pages_is_for_those_that_are_chosen(reader: DocumentReader) -> None:
    with pytest.raises(TooLarge, match=r"^pages: 21 pages are more than the 20 .*1-20") as refusal:
        await reader.open(pdf(21), field="file")
    assert refusal.value.param == "pages"
    document = await reader.open(pdf(21), field="file", pages="2-")
    assert len(document.numbers) == 20
    await document.close()


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"max_image_side": 100}, (50, 100)),
        ({"max_image_pixels": 5000}, (50, 100)),
        ({"max_image_pixels": 1}, (1, 1)),
    ],
)
async def test_a_page_too_large_is_rendered_smaller(limits: dict[str, int], size: tuple[int, int]) -> None:
    reader = DocumentReader(Settings(**limits))
    assert (await only_image(reader, pdf(1), dpi=600)).size == size
    await reader.stop()


async def test_an_absurdly_large_page_is_rendered_smaller() -> None:
    reader = DocumentReader(Settings(max_image_pixels=10_000, max_image_side=1000))
    for box in (b"0 0 1000000 1000000", b"0 0 1000000 1", b"0 0 1e9 3"):
        image = await only_image(reader, one_page_pdf(b"/MediaBox [%b]" % box))
        assert image.width * image.height <= 10_000
        assert 50 <= max(image.size) <= 1000
    await reader.stop()


async def test_a_file_on_disk_is_read_and_left_there(reader: DocumentReader, tmp_path: Path) -> None:
    path = tmp_path / "ünïcode name"
    path.write_bytes(pdf(2))
    document = await reader.open_file(path, field="file", pages="2", dpi=72)
    assert (await image_of(document, 2)).size == (72, 144)
    await document.close()
    assert path.read_bytes() == pdf(2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7\n" + b"garbage " * 100, "the PDF is damaged"),
        (b"%PDF-1.7", "the PDF is damaged"),
        (pdf(3)[:200], "the PDF is damaged"),
        (pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"]), "has no pages"),
        (encrypted_pdf(b"secret"), "the PDF needs a password; send it without one"),
    ],
    ids=["garbage", "magic", "truncated", "no pages", "encrypted"],
)
async def test_a_broken_pdf(reader: DocumentReader, tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(data)
    for opening in (lambda: reader.open(data, field="document"), lambda: reader.open_file(path, field="document")):
        with pytest.raises(InvalidRequest) as refusal:
            await opening()
        assert refusal.value.param == "document"
        assert refusal.value.message.startswith("document: ")
        assert reason in refusal.value.message


async def test_a_pdf_whose_index_is_lost_is_read(reader: DocumentReader) -> None:
    whole = pdf(2)
    document = await reader.open(whole[: whole.index(b"xref")] + b"trailer << /Root 1 0 R >>", field="file", dpi=72)
    assert list(document.numbers) == [1, 2]
    assert (await image_of(document, 2)).getpixel((18, 130)) == BLACK
    await document.close()


async def test_a_pdf_that_begins_late_is_read(reader: DocumentReader) -> None:
    assert (await only_image(reader, b"X" * 500 + pdf(1), declared_type="image/png")).size == (144, 288)


async def test_an_encrypted_pdf_that_anybody_may_read(reader: DocumentReader) -> None:
    assert (await only_image(reader, encrypted_pdf())).getpixel((9, 9)) == BLACK


async def test_a_broken_page_does_not_spoil_the_others(reader: DocumentReader) -> None:
    document = await reader.open(pdf(4, broken=[2]), field="file", dpi=72)
    results = await asyncio.gather(*(document.page(number) for number in document.numbers), return_exceptions=True)
    await document.close()
    broken = results.pop(1)
    assert isinstance(broken, InvalidRequest)
    assert broken.param == "file"
    assert broken.message.startswith("file: page 2 can't be rendered: it is damaged")
    assert [(page.number, page.width) for page in results if isinstance(page, Page)] == [(1, 72), (3, 72), (4, 72)]


async def test_two_documents_at_once(reader: DocumentReader) -> None:
    documents = [
        await reader.open(pdf(5, size=(72, 72)), field="file", dpi=72),
        await reader.open(pdf(5, size=(100, 100)), field="file", dpi=72),
    ]
    pages = await asyncio.gather(*(document.page(number) for number in range(1, 6) for document in documents))
    assert [(page.number, page.width) for page in pages] == [(k, side) for k in range(1, 6) for side in (72, 100)]
    for document in documents:
        await document.close()


async def test_a_page_that_takes_too_long_does_not_spoil_the_others() -> None:
    reader = DocumentReader(Settings(render_timeout_s=0.5, render_processes=1))
    endless = await reader.open(endless_pdf(), field="slow", dpi=72)
    good = await reader.open(pdf(2), field="file", dpi=72)
    results = await asyncio.gather(good.page(1), endless.page(1), good.page(2), return_exceptions=True)
    assert isinstance(results[0], Page)
    assert isinstance(results[1], InvalidRequest)
    assert results[1].message == "slow: page 1 can't be rendered: it takes longer than 0.5 s"
    assert isinstance(results[2], Page)
    await endless.close()
    await good.close()
    await reader.stop()


async def test_documents_take_turns() -> None:
    reader = DocumentReader(Settings(render_processes=1))
    long, short = await reader.open(pdf(9), field="file", dpi=72), await reader.open(pdf(1), field="file", dpi=72)
    pages: list[Document] = []

    async def read(document: Document, number: int) -> None:
        await document.page(number)
        pages.append(document)

    await asyncio.gather(*(read(long, number) for number in long.numbers), read(short, 1))
    assert pages.index(short) <= 2
    await long.close()
    await short.close()
    await reader.stop()


async def test_an_upload_has_no_name_that_a_killed_adapter_would_leave(reader: DocumentReader, tmp_path: Path) -> None:
    document = await reader.open(pdf(1), field="file", dpi=72)
    assert list(tmp_path.iterdir()) == []
    assert (await image_of(document, 1)).size == (72, 144)
    await document.close()


async def test_a_file_that_is_gone_is_not_the_client_s_fault(reader: DocumentReader, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_bytes(pdf(1))
    document = await reader.open_file(path, field="file")
    path.unlink()
    with pytest.raises(InternalError) as failure:
        await document.page(1)
    assert str(path) in (failure.value.cause or "")


async def test_a_page_that_crashes_the_renderer(tmp_path: Path) -> None:
    class CrashingPool(RenderPool):
        async def run(self, task: Any) -> Any:
            raise RenderCrashed

    document = PdfDocument(
        tmp_path, field="file", dpi=72, pool=CrashingPool(1, 1, 1), settings=Settings(), temporary=None
    )
    with pytest.raises(InvalidRequest, match=r"^file: page 3 can't be rendered: the PDF renderer crashes on it"):
        await document.page(3)
