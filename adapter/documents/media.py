"""What was sent: bytes out of base64, and whether they are an image or a PDF."""

import base64
import binascii
from typing import Literal

from PIL import Image

from adapter.errors import InvalidRequest, UnsupportedMediaType

# Pillow's names. MPO, several JPEGs in one file, is read as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")

START_BYTES = 1024
"""How much of a file's start tells what it is: a PDF may have that much before its own start."""

_URLSAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\f\v"
_MAX_DATA_URL_HEADER = 1000
_SLICE_CHARACTERS = 4 * 1024 * 1024


def decode_base64(text: str, field: str) -> tuple[bytes, str | None]:
    """Plain base64 or a data URL, with line breaks or without, urlsafe too; takes a second for some 100 MB.

    Returns:
        The bytes, not empty, and the media type if a data URL declares one.

    Raises:
        InvalidRequest: it is neither.
    """
    payload, declared_type = _split_data_url(text, field) if text[:5].lower() == "data:" else (text, None)
    try:
        data = _decode(payload)
    except (UnicodeEncodeError, binascii.Error) as error:
        sentence = "is not valid base64; send the file's bytes as base64 or as a data URL"
        raise InvalidRequest(f"{field}: {sentence}", param=field, cause=str(error)[:200]) from None
    if not data:
        raise InvalidRequest(f"{field}: is empty; send the file's bytes as base64", param=field)
    return data, declared_type


def _decode(payload: str) -> bytes:
    """In slices: other threads stand still while one is decoded. Raises `UnicodeEncodeError` and `binascii.Error`."""
    end = payload.find("=")
    if end < 0:
        end = len(payload)
    elif payload[end:].strip("=" + _WHITESPACE.decode()):
        raise binascii.Error("there is something behind the padding")
    data = bytearray()
    rest = b""
    for start in range(0, end, _SLICE_CHARACTERS):
        encoded = payload[start : min(start + _SLICE_CHARACTERS, end)].encode("ascii")
        encoded = rest + encoded.translate(_URLSAFE, _WHITESPACE)
        num_whole = len(encoded) // 4 * 4
        data += base64.b64decode(encoded[:num_whole], validate=True)
        rest = encoded[num_whole:]
    return bytes(data + base64.b64decode(rest + b"=" * (-len(rest) % 4), validate=True))


def sniff(start: bytes, field: str, declared_type: str | None) -> Literal["image", "pdf"]:
    """Tell by content: what it is declared as only decides how a refusal looks.

    Args:
        start: the file's first `START_BYTES`.

    Raises:
        InvalidRequest: it is empty, or neither an image that can be read nor a PDF, and not declared otherwise.
        UnsupportedMediaType: it is neither, and declared as something else.
    """
    if not start:
        raise InvalidRequest(f"{field}: is empty; send an image or a PDF", param=field)
    if start.startswith(b"%PDF-"):
        return "pdf"
    if _starts_as_image(start[:16]):
        return "image"
    if b"%PDF-" in start:
        return "pdf"
    message = (
        f"{field}: can't be read as an image or PDF; "
        "send a PDF or a PNG, JPEG, WebP, TIFF, BMP, GIF, JPEG 2000, PPM or AVIF image"
    )
    declared = (declared_type or "").partition(";")[0].strip().lower()
    if declared and declared != "application/pdf" and not declared.startswith("image/"):
        raise UnsupportedMediaType(message, param=field)
    raise InvalidRequest(message, param=field)


def _split_data_url(text: str, field: str) -> tuple[str, str | None]:
    end = text.find(",", 0, _MAX_DATA_URL_HEADER)
    media_type, *parameters = text[len("data:") : max(end, 0)].split(";")
    if end < 0 or not parameters or parameters[-1].strip().lower() != "base64":
        sentence = "a data URL must be base64, such as data:image/png;base64,iVBORw0…"
        raise InvalidRequest(f"{field}: {sentence}", param=field)
    return text[end + 1 :], media_type.strip().lower() or None


def _starts_as_image(prefix: bytes) -> bool:
    Image.init()
    for name in FORMATS:
        _, accepts = Image.OPEN[name]
        if accepts is not None and accepts(prefix) is True:
            return True
    return False
