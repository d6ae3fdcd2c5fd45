"""Reads a document's pages: in parallel, and in order."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

from adapter.documents.page import Document, Page
from adapter.errors import ApiError, ContextLengthExceeded, InvalidRequest, Overloaded, Unavailable
from adapter.ocr.fields import Part
from adapter.ocr.grounding import BlockEnd, Event, GroundingParser
from adapter.ocr.layout import PageBlock, on_page
from adapter.ocr.reader import PageReader, PageReading, ReadOptions, named_as_sent
from adapter.ocr.results import PageResult, page_result
from adapter.tensors import Usage

logger = logging.getLogger(__name__)

_FIRST_PAGES = 2
"""How many pages are begun before a stream's first text is out: it is not to wait for the others' rendering."""


@dataclass(frozen=True, slots=True)
class PageText:
    """Clean text as it comes, only when streamed; a page's pieces joined are its result's text."""

    page: int
    text: str


@dataclass(frozen=True, slots=True)
class BlockDone:
    """Only when streamed."""

    block: PageBlock


@dataclass(frozen=True, slots=True)
class PageRead:
    """The page is complete."""

    result: PageResult


@dataclass(frozen=True, slots=True)
class PageFailed:
    """This page has no result; the others go on."""

    page: int
    error: ApiError


DocumentEvent: TypeAlias = PageText | BlockDone | PageRead | PageFailed


async def read_document(
    reader: PageReader,
    document: Document,
    options: ReadOptions,
    parts: frozenset[Part],
    request_id: str,
    *,
    streamed: bool = False,
    slots: asyncio.Semaphore | None = None,
    is_rest: bool = False,
) -> AsyncGenerator[DocumentEvent, None]:
    """The pages' events, page after page; each ends with `PageRead` or `PageFailed`. Closing it cancels all of them.

    As many pages are read at once as `slots` has, which several documents may share; by default that is the setting
    `max_parallel_pages`. As many again may wait, read, behind a slow one: their results, not their images. Of a
    document that is the rest of one, no page speaks for all.

    Raises:
        Unavailable, Overloaded, InvalidRequest: the other pages cannot be read either.
    """
    slots = asyncio.Semaphore(reader.max_parallel_pages) if slots is None else slots
    max_ahead = 2 * reader.max_parallel_pages
    max_begun = min(_FIRST_PAGES, max_ahead) if streamed else max_ahead
    waiting = deque(document.numbers)
    speaker = None if is_rest or len(waiting) == 1 else waiting[0]
    begun: deque[_RunningPage] = deque()
    try:
        while waiting or begun:
            while waiting and len(begun) < max_begun:
                number = waiting.popleft()
                page = _RunningPage(reader, document, number, options, parts, request_id, number == speaker)
                begun.append(page)
                begun[-1].start(slots, streamed=streamed)
            event = await begun[0].next_event()
            if event is None:
                begun.popleft()
                continue
            yield event
            max_begun = max_ahead
    finally:
        for page in begun:
            page.cancel()
        await asyncio.gather(*(page.task for page in begun), return_exceptions=True)


class _RunningPage:
    """One page on its way; its events wait here until it is its turn."""

    def __init__(
        self,
        reader: PageReader,
        document: Document,
        number: int,
        options: ReadOptions,
        parts: frozenset[Part],
        request_id: str,
        speaks_for_all: bool,
    ) -> None:
        self._reader = reader
        self._document = document
        self._number = number
        # Only the first is refused soon: later ones may find the queue full of their own document's pages.
        self._options = replace(options, patient=number != document.numbers[0])
        self._parts = parts
        self._request_id = request_id
        self._speaks_for_all = speaks_for_all
        self._events: asyncio.Queue[DocumentEvent | asyncio.Task[None]] = asyncio.Queue()
        self._is_out = False

    def start(self, slots: asyncio.Semaphore, *, streamed: bool) -> None:
        self.task = asyncio.create_task(self._run(slots, streamed))
        self.task.add_done_callback(self._events.put_nowait)

    def cancel(self) -> None:
        self.task.cancel()

    async def next_event(self) -> DocumentEvent | None:
        """None at the page's end; raises what ends the whole document."""
        event = await self._events.get()
        if isinstance(event, asyncio.Task):
            event.result()
            return None
        self._is_out = True
        return event

    async def _run(self, slots: asyncio.Semaphore, streamed: bool) -> None:
        async with slots:
            try:
                page = await self._document.page(self._number)
            except ApiError as error:
                self._fail(error)
                return
            try:
                reading = await (self._stream(page) if streamed else self._read(page))
                result = await page_result(page, reading, self._parts, self._reader.drawing)
            except ApiError as error:
                if self._is_of_all_pages(error):
                    raise
                self._fail(error)
                return
        self._events.put_nowait(PageRead(result))

    def _is_of_all_pages(self, error: ApiError) -> bool:
        """Whether the other pages would only fail in the same way."""
        if isinstance(error, ContextLengthExceeded):
            return self._speaks_for_all  # else it may be this page's tiles that are too many
        if isinstance(error, InvalidRequest):
            return error.param not in ("image", self._options.image_field)
        return isinstance(error, (Unavailable, Overloaded))

    def _fail(self, error: ApiError) -> None:
        if isinstance(error, InvalidRequest):
            error = named_as_sent(error, self._options)
        # It is kept longer than the page, whose picture its traceback holds.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        if error.status >= 500:
            logger.error("%s page %d: %s: %s", self._request_id, self._number, error.code, error.cause or error.message)
        self._events.put_nowait(PageFailed(self._number, error))

    async def _read(self, page: Page) -> PageReading:
        return await self._reader.read(page, self._options, self._request_id)

    async def _stream(self, page: Page) -> PageReading:
        reading = await self._speak(page)
        if self._is_out or not reading.is_due_again(self._options):
            return reading
        # The pages before it are not at their end: what it said waits here, and is taken back.
        while not self._events.empty():
            self._events.get_nowait()
        reading = await self._reader.read_again(reading, page, self._options, self._request_id)
        speaker = _PageSpeaker(page, self._events.put_nowait)
        speaker.decode(reading.text)
        speaker.flush()
        return reading

    async def _speak(self, page: Page) -> PageReading:
        texts: list[str] = []
        finish_reason = None
        usage = Usage()
        speaker = _PageSpeaker(page, self._events.put_nowait)
        async with aclosing(self._reader.stream(page, self._options, self._request_id)) as responses:
            async for generated in responses:
                for delta in generated.deltas:
                    texts.append(delta.text)
                    speaker.decode(delta.text)
                    finish_reason = delta.finish_reason
                usage = generated.usage or usage
        speaker.flush()
        assert finish_reason is not None, "a generation that ends well has told its finish"
        return PageReading("".join(texts), finish_reason, usage)


class _PageSpeaker:
    """The model's text, as it comes, to a page's text and blocks."""

    def __init__(self, page: Page, say: Callable[[DocumentEvent], None]) -> None:
        self._page = page
        self._say = say
        self._parser = GroundingParser()

    def decode(self, text: str) -> None:
        self._tell(self._parser.decode(text))

    def flush(self) -> None:
        self._tell(self._parser.flush())

    def _tell(self, events: Sequence[Event]) -> None:
        page = self._page
        for event in events:
            if isinstance(event, BlockEnd):
                self._say(BlockDone(on_page(event.block, page.number, page.width, page.height)))
            else:
                self._say(PageText(page.number, event.text))
