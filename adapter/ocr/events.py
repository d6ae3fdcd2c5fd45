"""A document's events as server-sent events: its bare text, or JSON with everything."""

from typing import Literal, Protocol, TypeAlias

from adapter.errors import ApiError
from adapter.ocr.answer import PAGE_BREAK
from adapter.ocr.document import BlockDone, DocumentEvent, PageFailed, PageRead, PageText
from adapter.ocr.fields import Part
from adapter.ocr.results import failed_page_fields, page_json
from adapter.ocr.sse_text import TextEvents
from adapter.sse import json_event, openai_ending
from adapter.tensors import Usage
from adapter.wire import AnswerHead, UsageCounts

Format: TypeAlias = Literal["text", "json", "pages"]


class EventEncoder(Protocol):
    def opening(self, num_pages: int) -> bytes: ...

    async def event(self, event: DocumentEvent) -> bytes:
        """Nothing, for what this format does not tell."""

    def closing(self, usage: Usage) -> bytes: ...

    def ending(self, error: ApiError | None) -> bytes:
        """What a stream ends with, failed or not."""


def event_encoder(stream_format: Format, head: AnswerHead, parts: frozenset[Part]) -> EventEncoder:
    return TextEncoder() if stream_format == "text" else JsonEncoder(head, parts)


class TextEncoder:
    """The text, a blank line between pages. What fails is an `error` event, and then there is no `[DONE]`."""

    def __init__(self) -> None:
        self._texts = TextEvents()
        self._page: int | None = None
        self._has_failed = False

    def opening(self, num_pages: int) -> bytes:
        return b""

    async def event(self, event: DocumentEvent) -> bytes:
        if isinstance(event, PageText):
            is_next_page = self._page is not None and self._page != event.page
            self._page = event.page
            return self._texts.decode(PAGE_BREAK + event.text if is_next_page else event.text)
        if isinstance(event, PageFailed):
            self._has_failed = True
            return b"event: error\n" + json_event(failed_page_fields(event.page, event.error))
        return b""

    def closing(self, usage: Usage) -> bytes:
        return b""

    def ending(self, error: ApiError | None) -> bytes:
        if error is not None:
            return b"event: error\n" + openai_ending(error)
        return b"" if self._has_failed else openai_ending(None)


class JsonEncoder:
    """`start`, then each page's `text` and `block`s, if there are such events, and the `page` itself, then `usage`."""

    def __init__(self, head: AnswerHead, parts: frozenset[Part]) -> None:
        self._head = head
        self._parts = parts

    def opening(self, num_pages: int) -> bytes:
        return json_event({"type": "start", "id": self._head.id, "model": self._head.model, "pages": num_pages})

    async def event(self, event: DocumentEvent) -> bytes:
        match event:
            case PageText():
                return json_event({"type": "text", "page": event.page, "text": event.text})
            case BlockDone():
                return json_event({"type": "block", "page": event.block.page, "block": event.block})
            case PageRead():
                result = await page_json(event.result, self._parts)
                return json_event({"type": "page", "page": event.result.page, "result": result})
            case PageFailed():
                fields = failed_page_fields(event.page, event.error)
                return json_event({"type": "page", "page": event.page, "result": fields})

    def closing(self, usage: Usage) -> bytes:
        return json_event({"type": "usage", "usage": UsageCounts.of(usage)})

    def ending(self, error: ApiError | None) -> bytes:
        return openai_ending(error)
