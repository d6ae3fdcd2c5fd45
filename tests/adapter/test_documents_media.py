"""Base64, data URLs, and what bytes are."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.documents import media
from adapter.documents.media import START_BYTES, decode_base64, sniff
from adapter.errors import ApiError, InvalidRequest, UnsupportedMediaType
from tests.adapter.documents_data import encode, noise, pdf

DATA = bytes(range(256))
BASE64 = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        f"  {BASE64}\t\n",
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
    ],
)
@pytest.mark.parametrize("slice_characters", [1, 2, 3, 5, 1_000_000])
def test_base64_in_all_its_spellings(monkeypatch: pytest.MonkeyPatch, slice_characters: int, text: str) -> None:
    monkeypatch.setattr(media, "_SLICE_CHARACTERS", slice_characters)
    assert decode_base64(text, "image") == (DATA, None)


@pytest.mark.parametrize(
    ("header", "declared_type"),
    [
        ("data:image/png;base64,", "image/png"),
        ("DATA:Image/PNG;BASE64,", "image/png"),
        ("data:image/svg+xml;charset=utf-8;base64,", "image/svg+xml"),
        ("data:;base64,", None),
    ],
)
def test_data_urls(header: str, declared_type: str | None) -> None:
    assert decode_base64(header + BASE64, "image") == (DATA, declared_type)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("====", "is empty"),
        ("data:image/png;base64,", "is empty"),
        ("A", "is not valid base64"),
        ("a file.png", "is not valid base64"),
        ("/data/page.png!", "is not valid base64"),
        ("AA=A", "is not valid base64"),
        ("AAA=AAAA", "is not valid base64"),
        ("AA==\nA", "is not valid base64"),
        ("QUJD\N{SNOWMAN}", "is not valid base64"),
        ("http://host/page.png", "is not valid base64"),
        ("data:image/png;base64,A", "is not valid base64"),
        ("data:image/png,QUJD", "a data URL must be base64"),
        ("data:base64,QUJD", "a data URL must be base64"),
        ("data:image/png;base64", "a data URL must be base64"),
        ("data:" + "x" * 100_000, "a data URL must be base64"),
    ],
)
def test_bad_base64_is_refused(text: str, what: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decode_base64(text, "image_base64")
    assert refusal.value.param == "image_base64"
    assert refusal.value.message.startswith(f"image_base64: {what}")


@given(st.binary(min_size=1, max_size=100), st.integers(1, 20))
def test_any_bytes_in_lines_of_any_length(data: bytes, length: int) -> None:
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[i : i + length] for i in range(0, len(text), length))
    assert decode_base64(lines, "image")[0] == data


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF"])
@pytest.mark.parametrize("declared_type", [None, "image/png", "text/html", "application/octet-stream"])
def test_an_image_is_one_whatever_it_is_declared_as(name: str, declared_type: str | None) -> None:
    assert sniff(encode(noise(), name)[:START_BYTES], "file", declared_type) == "image"


@pytest.mark.parametrize("junk", [b"", b"\xef\xbb\xbf", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000])
@pytest.mark.parametrize("declared_type", [None, "image/png", "text/html"])
def test_a_pdf_may_begin_late(junk: bytes, declared_type: str | None) -> None:
    assert sniff((junk + pdf(1))[:START_BYTES], "file", declared_type) == "pdf"


NEITHER = [
    b"<!DOCTYPE html><html><body>Not found</body></html>",
    b"PK\x03\x04\x14\x00\x06\x00" + b"word/document.xml" * 10,
    b"\x7fELF",
    b"hello",
    b"\0" * 1024,
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    b"8BPS\0\x01",
]


@pytest.mark.parametrize("start", NEITHER)
@pytest.mark.parametrize("declared_type", [None, "", "image/png", "IMAGE/PNG; x=y", "application/pdf"])
def test_neither_though_declared_as_one(start: bytes, declared_type: str | None) -> None:
    assert _refusal(start, declared_type) is InvalidRequest


@pytest.mark.parametrize("start", NEITHER)
@pytest.mark.parametrize("declared_type", ["text/html", "application/zip", "application/octet-stream", "imagery"])
def test_neither_and_not_declared_as_one(start: bytes, declared_type: str) -> None:
    assert _refusal(start, declared_type) is UnsupportedMediaType


def _refusal(start: bytes, declared_type: str | None) -> type[ApiError]:
    with pytest.raises(ApiError, match=r"^file: can't be read as an image or PDF; send a PDF or a PNG") as refusal:
        sniff(start, "file", declared_type)
    assert refusal.value.param == "file"
    return type(refusal.value)


@pytest.mark.parametrize("declared_type", [None, "image/png", "text/html"])
def test_nothing_at_all(declared_type: str | None) -> None:
    with pytest.raises(InvalidRequest, match=r"^file: is empty"):
        sniff(b"", "file", declared_type)
