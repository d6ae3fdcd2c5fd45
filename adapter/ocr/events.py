"""A document's events as server-sent events: its bare text, or JSON with everything."""

from collections.abc import AsyncGenerator
from typing import Any, Literal, Protocol, TypeAlias

import orjson
from starlette.types import Message, Receive, Scope, Send

from adapter.ocr.answer import PAGE_BREAK
from adapter.ocr.document import BlockDone, DocumentEvent, PageFailed, PageRead, PageText
from adapter.ocr.fields import Part
from adapter.ocr.results import failed_page_fields, page_fields
from adapter.ocr.sse_text import TextEvents
from adapter.sse import DONE, EventStream
from adapter.tensors import Usage
from adapter.wire import AnswerHead, UsageCounts

Format: TypeAlias = Literal["text", "json"]


class EventEncoder(Protocol):
    def opening(self, num_pages: int) -> bytes: ...

    def event(self, event: DocumentEvent) -> bytes:
        """Nothing, for what this format does not tell."""

    def closing(self, usage: Usage) -> bytes: ...

    def ending(self, ending: bytes) -> bytes:
        """What a stream ends with instead of `ending`, which is `[DONE]` or an error."""


def event_encoder(stream_format: Format, head: AnswerHead, parts: frozenset[Part]) -> EventEncoder:
    return JsonEncoder(head, parts) if stream_format == "json" else TextEncoder()


class TextEncoder:
    """The text, a blank line between pages. What fails is an `error` event, and then there is no `[DONE]`."""

    def __init__(self) -> None:
        self._texts = TextEvents()
        self._page: int | None = None
        self._has_failed = False

    def opening(self, num_pages: int) -> bytes:
        return b""

    def event(self, event: DocumentEvent) -> bytes:
        if isinstance(event, PageText):
            is_next_page = self._page is not None and self._page != event.page
            self._page = event.page
            return self._texts.decode(PAGE_BREAK + event.text if is_next_page else event.text)
        if isinstance(event, PageFailed):
            self._has_failed = True
            return b"event: error\n" + _event(failed_page_fields(event.page, event.error))
        return b""

    def closing(self, usage: Usage) -> bytes:
        return b""

    def ending(self, ending: bytes) -> bytes:
        if ending != DONE:
            return b"event: error\n" + ending
        return b"" if self._has_failed else DONE


class JsonEncoder:
    """`start`, then each page's `text` and `block`s and the `page` itself, then `usage`."""

    def __init__(self, head: AnswerHead, parts: frozenset[Part]) -> None:
        self._head = head
        self._parts = parts

    def opening(self, num_pages: int) -> bytes:
        return _event({"type": "start", "id": self._head.id, "model": self._head.model, "pages": num_pages})

    def event(self, event: DocumentEvent) -> bytes:
        match event:
            case PageText():
                return _event({"type": "text", "page": event.page, "text": event.text})
            case BlockDone():
                return _event({"type": "block", "page": event.block.page, "block": event.block})
            case PageRead():
                fields = page_fields(event.result, self._parts)
                return _event({"type": "page", "page": event.result.page, "result": fields})
            case PageFailed():
                fields = failed_page_fields(event.page, event.error)
                return _event({"type": "page", "page": event.page, "result": fields})

    def closing(self, usage: Usage) -> bytes:
        return _event({"type": "usage", "usage": UsageCounts.of(usage)})

    def ending(self, ending: bytes) -> bytes:
        return ending


class OcrEventStream(EventStream):
    """An event stream that ends as its encoder has it."""

    def __init__(self, events: AsyncGenerator[bytes, None], encoder: EventEncoder) -> None:
        super().__init__(events)
        self._encoder = encoder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_ending(message: Message) -> None:
            if not message.get("more_body", True):
                message["body"] = self._encoder.ending(message["body"])
            await send(message)

        await super().__call__(scope, receive, send_ending)


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"
