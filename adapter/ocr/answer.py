"""A document's events gathered into one answer."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from typing import Any

import orjson

from adapter.errors import ApiError
from adapter.ocr.document import DocumentEvent, PageFailed, PageRead
from adapter.ocr.fields import Part
from adapter.ocr.results import PageResult, PictureBudget, failed_page_fields, page_json
from adapter.tensors import Usage
from adapter.wire import AnswerHead, UsageCounts

PAGE_BREAK = "\n\n"
"""Between the texts of two pages."""


class DocumentAnswer:
    """What `/ocr` says of a document."""

    def __init__(self, head: AnswerHead, parts: frozenset[Part], pictures: PictureBudget) -> None:
        self._head = head
        self._parts = parts
        self._pictures = pictures
        self._started_s = time.perf_counter()
        self._results: list[PageResult] = []
        """Without their pictures, which are in `_pages` alone."""
        self._pages: list[orjson.Fragment] = []
        self._num_failed = 0
        self.first_error: ApiError | None = None
        self.usage = Usage()
        """Of all generations, known at the end."""

    async def add(self, event: DocumentEvent) -> None:
        """Raises `TooLarge`: there are too many pictures."""
        if isinstance(event, PageRead):
            self._pictures.spend(event.result)
            self._pages.append(await page_json(event.result, self._parts))
            self._results.append(replace(event.result, figures=None, annotated=None))
        elif isinstance(event, PageFailed):
            self._num_failed += 1
            self.first_error = self.first_error or event.error
            self._pages.append(orjson.Fragment(orjson.dumps(failed_page_fields(event.page, event.error))))

    def fields(self) -> dict[str, Any]:
        """For orjson."""
        finish_reasons = [result.finish_reason for result in self._results]
        return {
            "id": self._head.id,
            "model": self._head.model,
            "text": self._joined("text"),
            **{part: self._joined(part) for part in ("markdown", "raw") if part in self._parts},
            **({"blocks": self._blocks()} if "blocks" in self._parts else {}),
            "pages": self._pages,
            "num_failed_pages": self._num_failed,
            "finish_reason": next((reason for reason in finish_reasons if reason != "stop"), "stop"),
            "usage": UsageCounts.of(self.usage),
            "processing_time_s": round(time.perf_counter() - self._started_s, 3),
        }

    def _joined(self, part: str) -> str:
        return PAGE_BREAK.join(text for result in self._results if (text := getattr(result, part)))

    def _blocks(self) -> list[Any]:
        return list(chain.from_iterable(result.blocks or () for result in self._results))


async def failed_if_all_failed(events: AsyncGenerator[DocumentEvent, None]) -> AsyncGenerator[DocumentEvent, None]:
    """The same events; raises the first page's error if no page gives anything else.

    To know, the failures of the first pages wait for the first that does.
    """
    waiting: list[PageFailed] = []
    all_failed = True
    async with aclosing(events):
        async for event in events:
            if all_failed and isinstance(event, PageFailed):
                waiting.append(event)
                continue
            all_failed = False
            for failure in waiting:
                yield failure
            waiting.clear()
            yield event
    if waiting:
        raise waiting[0].error
