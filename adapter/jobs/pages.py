"""A page's result on its way into the store and the files, and back to what `/ocr` says of a page."""

from typing import Any, Final

import orjson

from adapter.errors import ApiError
from adapter.jobs.records import PageRecord
from adapter.ocr.fields import Part
from adapter.ocr.results import PageResult, failed_page_fields, page_fields

KEPT_PARTS: Final[frozenset[Part]] = frozenset(("text", "markdown"))
"""Read of every page, whatever was asked for: the plain result of a job is of one or the other."""

PICTURES: Final[frozenset[Part]] = frozenset(("figures", "annotated"))


def pack(result: PageResult, parts: frozenset[Part]) -> tuple[PageRecord, bytes | None]:
    """The record, and the pictures as JSON for a file: None unless `parts` has some."""
    fields = page_fields(result, parts)
    pictures = {name: fields.pop(name) for name in PICTURES if name in fields}
    fields = {name: value for name, value in fields.items() if name not in ("text", "markdown", "raw")}
    record = PageRecord(
        result.page,
        orjson.dumps(fields),
        None,
        result.finish_reason,
        result.usage,
        result.text,
        result.markdown or "",
        result.raw or "",
    )
    return record, orjson.dumps(pictures) if pictures else None


def pack_failure(page: int, error: ApiError) -> PageRecord:
    return PageRecord(page, orjson.dumps(failed_page_fields(page, error)), error.status)


def unpack(record: PageRecord, pictures: bytes | None, parts: frozenset[Part]) -> dict[str, Any]:
    """One of `/ocr`'s `pages`."""
    fields: dict[str, Any] = orjson.loads(record.result)
    if record.error_status is None:
        texts = {"text": record.text, "markdown": record.markdown, "raw": record.raw}
        fields |= {name: text for name, text in texts.items() if name in parts}
    return fields if pictures is None else fields | orjson.loads(pictures)
