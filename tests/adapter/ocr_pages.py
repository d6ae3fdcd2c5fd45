"""Documents for the OCR tests, whose pages can be told apart at the model: page n is a picture `10 + n` wide."""

import base64
import io
from collections.abc import AsyncIterator, Mapping
from typing import Any

from grpc import StatusCode
from PIL import Image

from tests.adapter.fake_triton import USAGE, Gate, Reply, Seen, answer

GROUNDED = (
    "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 500]]<|/det|>\nHello\n"
    "<|ref|>image<|/ref|><|det|>[[0, 500, 999, 999]]<|/det|>\n"
)
USAGE_FIELDS = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 0},
    "prompt_cache_hit_tokens": 2,
    "prompt_cache_miss_tokens": 3,
}


def times_usage(num_pages: int) -> dict[str, Any]:
    prompt, completion, cached = (num_pages * count for count in USAGE)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": 0},
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": prompt - cached,
    }


def png(width: int = 20, height: int = 10) -> bytes:
    return _saved(Image.new("RGB", (width, height), "white"), "PNG")


def tiff(num_pages: int) -> bytes:
    """Its frames are pages with `frames=all`."""
    first, *others = (Image.new("RGB", (10 + number, 8), "white") for number in range(1, num_pages + 1))
    return _saved(first, "TIFF", save_all=True, append_images=others)


def pdf(num_pages: int) -> bytes:
    """At 72 dpi, a point of a page is a pixel."""
    first, *others = (Image.new("RGB", (10 + number, 8), "white") for number in range(1, num_pages + 1))
    return _saved(first, "PDF", save_all=True, append_images=others, resolution=72)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def size_of(image: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(image)).size


def page_of(seen: Seen) -> int:
    return size_of(seen.image)[0] - 10


def by_page(
    replies: Mapping[int, str | tuple[StatusCode, str]] | None = None, gates: Mapping[int, Gate] | None = None
) -> Reply:
    """Each page says its text or fails as told, once its gate is open; else page 3 says `page 3`."""

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        number = page_of(seen)
        if gates and number in gates:
            await gates[number].passed()
        said = (replies or {}).get(number, f"page {number}")
        if isinstance(said, str):
            yield answer(said, finish="stop", usage=USAGE)
        else:
            await context.abort(*said)

    return reply


def _saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()
