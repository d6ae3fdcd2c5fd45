"""Images and PDFs, whole ones and broken ones, and tasks for render processes."""

import hashlib
import io
import os
import signal
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

_PASSWORD_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, name, **options)
    return encoded.getvalue()


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def noise(width: int = 160, height: int = 120, mode: str = "RGB") -> Image.Image:
    """Compresses badly, so that half of the file is half of the image."""
    return Image.frombytes("L", (width, height), hashlib.shake_128(b"noise").digest(width * height)).convert(mode)


def frames(num_frames: int, name: str, width: int = 40, height: int = 30) -> bytes:
    """Frame k is grey: 20·k."""
    images = [Image.new("RGB", (width, height), (20 * k, 20 * k, 20 * k)) for k in range(1, num_frames + 1)]
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {"quality": 100} if name == "AVIF" else {}
    return encode(images[0], name, save_all=True, append_images=images[1:], **options)


def large_gif(num_frames: int, side: int) -> bytes:
    """Its canvas is `side` squared, its frames are of one pixel."""
    start = b"GIF89a" + side.to_bytes(2, "little") * 2 + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return start + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0" * num_frames + b";"


def jpeg_of_scans(num_scans: int) -> bytes:
    """Progressive; its last scan comes again and again."""
    whole = encode(noise(), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * (num_scans + 1 - whole.count(b"\xff\xda")) + whole[-2:]


def huge_png(width: int, height: int) -> bytes:
    """The header of a bomb; there is nothing behind it."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in ((b"IHDR", header), (b"IEND", b"")))


def tiff_with_tiles_of(side: int) -> bytes:
    """16×16 pixels, and one tile that is far larger."""
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 4}
    return b"II*\0" + struct.pack("<I", 8) + _tiff_frame(tags) + bytes(4)


def tiff_of_frames(num_frames: int) -> bytes:
    """One pixel each."""
    frame = _tiff_frame({256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: 1})
    starts = [8 + k * (len(frame) + 4) for k in range(num_frames)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(frame + struct.pack("<I", k) for k in [*starts[1:], 0])


def _tiff_frame(tags: dict[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<H", len(tags)) + entries


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


def pdf_of(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """`objects` are numbered from 1; the first is the catalogue."""
    written = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    written += b"trailer\n<< /Size %d /Root 1 0 R %b >>\n" % (len(objects) + 1, trailer)
    return bytes(written) + b"startxref\n%d\n%%%%EOF\n" % start


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(content), entries, content)


def one_page_pdf(page: bytes, *more: bytes, catalogue: bytes = b"") -> bytes:
    """`page` are entries of the page's dictionary; `more` are the objects from 4 on."""
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalogue,
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R %b >>" % page,
            *more,
        ]
    )


def pdf(num_pages: int, broken: Sequence[int] = (), size: tuple[int, int] = (72, 144)) -> bytes:
    """Pages of `size` points, white with a black square of 36 points at the lower left; `broken` ones are no page."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 3 0 R >>" % size
    kids = b" ".join(b"%d 0 R" % (4 + i) for i in range(num_pages))
    pages = [b"(not a page)" if number in broken else page for number in range(1, num_pages + 1)]
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, num_pages),
            stream(b"0 0 36 36 re f"),
            *pages,
        ]
    )


def swollen_stream(num_bytes: int) -> bytes:
    """Contents of so many spaces, in a thousandth of the bytes."""
    compressor = zlib.compressobj()
    compressed = b"".join(compressor.compress(b" " * (1 << 20)) for _ in range(num_bytes >> 20))
    return stream(compressed + compressor.flush(), b"/Filter /FlateDecode")


def endless_pdf() -> bytes:
    """A page that draws a form that draws a form ten times that… a square, 10^12 times in all."""
    depth = 12
    forms = [
        stream(
            b"/X Do " * 10 if number < 4 + depth else b"0 0 1 1 re f",
            b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X %d 0 R >> >>" % (number + 1),
        )
        for number in range(4, 5 + depth)
    ]
    page = b"/MediaBox [0 0 9 9] /Contents %d 0 R /Resources << /XObject << /X 4 0 R >> >>" % (5 + depth)
    return one_page_pdf(page, *forms, stream(b"/X Do"))


def encrypted_pdf(password: bytes = b"") -> bytes:
    """A black page behind a user's password, by the oldest of the standard's handlers (RC4, 40 bits)."""
    owner, permissions, file_id = b"o" * 32, (-4).to_bytes(4, "little", signed=True), b"i" * 16
    padded = (password + _PASSWORD_PADDING)[:32]
    key = hashlib.md5(padded + owner + permissions + file_id).digest()[:5]
    content_key = hashlib.md5(key + b"\x04\0\0" + b"\0\0").digest()[:10]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] /Contents 4 0 R >>",
        stream(_rc4(content_key, b"0 0 72 72 re f")),
        b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%b> /U <%b> >>"
        % (owner.hex().encode(), _rc4(key, _PASSWORD_PADDING).hex().encode()),
    ]
    return pdf_of(objects, b"/Encrypt 5 0 R /ID [<%b> <%b>]" % ((file_id.hex().encode(),) * 2))


def _rc4(key: bytes, data: bytes) -> bytes:
    box = list(range(256))
    j = 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(out)


@dataclass(frozen=True)
class Crash:
    def run(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Allocate:
    num_bytes: int

    def run(self) -> None:
        bytearray(self.num_bytes)


@dataclass(frozen=True)
class Hang:
    """Opens the pipe at `fifo` for writing, then does nothing for ever: the pipe ends when the process does."""

    fifo: str

    def run(self) -> None:
        with open(self.fifo, "w"):
            threading.Event().wait()


@dataclass(frozen=True)
class ProcessIds:
    """Of the process that runs it: its own, and its group's."""

    def run(self) -> tuple[int, int]:
        return os.getpid(), os.getpgid(0)
