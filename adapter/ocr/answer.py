"""A document's events gathered into one answer."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import chain
from typing import Any

from adapter.errors import ApiError
from adapter.ocr.document import DocumentEvent, PageFailed, PageRead
from adapter.ocr.fields import Part
from adapter.ocr.reader import total_usage
from adapter.ocr.results import PageResult, failed_page_fields, page_fields
from adapter.tensors import Usage
from adapter.wire import AnswerHead, UsageCounts

PAGE_BREAK = "\n\n"
"""Between the texts of two pages."""


class Answer:
    """What `/ocr` says of a document."""

    def __init__(self, head: AnswerHead, parts: frozenset[Part]) -> None:
        self._head = head
        self._parts = parts
        self._started_s = time.perf_counter()
        self._results: list[PageResult] = []
        self._pages: list[dict[str, Any]] = []
        self.errors: list[ApiError] = []

    def add(self, event: DocumentEvent) -> None:
        if isinstance(event, PageRead):
            self._results.append(event.result)
            self._pages.append(page_fields(event.result, self._parts))
        elif isinstance(event, PageFailed):
            self.errors.append(event.error)
            self._pages.append(failed_page_fields(event.page, event.error))

    @property
    def usage(self) -> Usage:
        return total_usage(*(result.usage for result in self._results))

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        finish_reasons = [result.finish_reason for result in self._results]
        return {
            "id": self._head.id,
            "model": self._head.model,
            "text": PAGE_BREAK.join(filter(None, (result.text for result in self._results))),
            **self._joined_parts(),
            "pages": self._pages,
            "num_failed_pages": len(self.errors),
            "finish_reason": next((reason for reason in finish_reasons if reason != "stop"), "stop"),
            "usage": UsageCounts.of(self.usage),
            "processing_time_s": round(time.perf_counter() - self._started_s, 3),
        }

    def _joined_parts(self) -> dict[str, Any]:
        joined: dict[str, Any] = {}
        read = [page for page in self._pages if "error" not in page]
        for part in ("markdown", "raw"):
            if part in self._parts:
                joined[part] = PAGE_BREAK.join(page[part] for page in read if page[part])
        for part in ("blocks", "figures"):
            if part in self._parts:
                joined[part] = list(chain.from_iterable(page[part] for page in read))
        return joined


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
