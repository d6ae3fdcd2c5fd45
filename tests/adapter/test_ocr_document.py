"""A document's pages at the model: which are on their way when, what holds them up, and what a failure ends."""

import asyncio
import gc
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from adapter.documents.page import Page
from adapter.errors import (
    ApiError,
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    TimedOut,
    Unavailable,
)
from adapter.ocr import reader as reader_module
from adapter.ocr.document import BlockDone, DocumentEvent, PageFailed, PageRead, PageText, read_document
from adapter.ocr.fields import OcrFields, Part, read_options
from adapter.ocr.reader import PageReader
from adapter.settings import Settings
from adapter.tensors import Delta, Generated, InferRequest, Usage

TEXT: frozenset[Part] = frozenset({"text"})


class Image(bytes):
    """Counts those that somebody still holds."""

    num_alive = 0

    def __init__(self, _: bytes) -> None:
        Image.num_alive += 1

    def __del__(self) -> None:
        Image.num_alive -= 1


class FakeDocument:
    def __init__(self, num_pages: int, broken: Sequence[int] = ()) -> None:
        self.numbers = range(1, num_pages + 1)
        self.dpi = None
        self.rendered: list[int] = []
        self._broken = broken

    async def page(self, number: int) -> Page:
        self.rendered.append(number)
        if number in self._broken:
            raise InvalidRequest(f"file: page {number} is broken", param="file")
        return Page(number, Image(b"%d" % number), 100, 100)

    async def close(self) -> None: ...


class FakeClient:
    """Says `page N` in two pieces, the second once the page's gate is open; fails or says else as told."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = defaultdict(_open_gate)
        self.failures: dict[int, list[ApiError]] = {}
        self.says: dict[int, list[tuple[str, str]]] = {}
        self.read_again: list[float] = []
        """At which temperatures, in a stream."""
        self.running: set[int] = set()
        self.most_running = 0
        self.begun: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.cancelled: set[int] = set()

    def hold(self, *pages: int) -> None:
        for page in pages:
            self.gates[page] = asyncio.Event()

    async def infer(self, request: InferRequest) -> AsyncGenerator[Generated, None]:
        (image,) = request.images
        page = int(image)
        if not request.stream:
            self.read_again.append(json.loads(request.sampling_parameters)["temperature"])
        if failures := self.failures.get(page):
            raise failures.pop(0)
        self.running.add(page)
        self.most_running = max(self.most_running, len(self.running))
        self.begun[page].set()
        try:
            if request.stream:
                yield Generated([Delta(0, " page")])
            await self.gates[page].wait()
            text, finish_reason = f" {page}\n" if request.stream else f"page {page}", "stop"
            if page in self.says:
                text, finish_reason = self.says[page].pop(0)
            yield Generated([Delta(0, text, finish_reason)], Usage(1, 1, 0))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.add(page)
            raise
        finally:
            self.running.remove(page)


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def read(
    client: FakeClient,
    document: FakeDocument,
    *,
    streamed: bool = False,
    max_parallel_pages: int = 16,
    request_timeout_s: float = 600,
    retry: bool = True,
    is_rest: bool = False,
) -> AsyncGenerator[DocumentEvent, None]:
    settings = Settings(max_parallel_pages=max_parallel_pages, request_timeout_s=request_timeout_s)
    reader = PageReader(client, settings)  # type: ignore[arg-type]
    options = read_options(OcrFields(retry=retry), "ocr", document, "file")
    return read_document(reader, document, options, TEXT, "id", streamed=streamed, is_rest=is_rest)


def forget_images() -> None:
    """Count anew; those of the tests before this one are gone by then, and none of them is taken off later."""
    gc.collect()
    Image.num_alive = 0


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(100):
        await asyncio.sleep(0)


def pages_of(events: list[DocumentEvent]) -> list[int]:
    return [event.result.page if isinstance(event, PageRead) else -event.page for event in ends(events)]


def ends(events: list[DocumentEvent]) -> list[PageRead | PageFailed]:
    return [event for event in events if isinstance(event, PageRead | PageFailed)]


async def test_pages_come_in_order_though_later_ones_are_read_first(client: FakeClient) -> None:
    client.hold(1)
    events = read(client, FakeDocument(5))
    first = asyncio.ensure_future(anext(events))
    await client.begun[5].wait()
    await settle()
    assert client.running == {1}
    assert not first.done()
    client.gates[1].set()
    assert pages_of([await first, *[event async for event in events]]) == [1, 2, 3, 4, 5]


async def test_a_stream_s_first_text_is_out_before_the_third_page_is_rendered(client: FakeClient) -> None:
    document = FakeDocument(50)
    client.hold(*document.numbers)
    async with aclosing(read(client, document, streamed=True)) as events:
        first = await anext(events)
        assert first == PageText(1, "page")
        await settle()
        assert document.rendered == [1, 2]
        following = asyncio.ensure_future(anext(events))
        await settle()
        assert len(document.rendered) == 16
        client.gates[1].set()
        assert await following == PageText(1, " 1")


async def test_a_document_that_is_not_streamed_starts_at_once(client: FakeClient) -> None:
    client.hold(1)
    document = FakeDocument(50)
    async with aclosing(read(client, document, max_parallel_pages=4)) as events:
        first = asyncio.ensure_future(anext(events))
        await client.begun[4].wait()
        client.gates[1].set()
        assert pages_of([await first]) == [1]


@pytest.mark.parametrize("streamed", [False, True])
async def test_how_many_pages_are_read_at_once_and_ahead(client: FakeClient, streamed: bool) -> None:
    document = FakeDocument(50)
    client.hold(1, 2, 3)
    forget_images()
    async with aclosing(read(client, document, streamed=streamed, max_parallel_pages=3)) as events:
        if streamed:
            assert await anext(events) == PageText(1, "page")
        following = asyncio.ensure_future(anext(events))
        await client.begun[3].wait()
        assert client.running == {1, 2, 3}
        client.gates[2].set()
        client.gates[3].set()
        await settle()
        # All that may wait behind the slow one are read, and none of their pictures is kept.
        assert client.running == {1}
        assert document.rendered == [1, 2, 3, 4, 5, 6]
        assert Image.num_alive == 1
        client.gates[1].set()
        rest = [await following, *[event async for event in events]]
    assert pages_of(rest) == list(range(1, 51))
    assert client.most_running == 3
    assert Image.num_alive == 0


async def test_streamed_pieces_are_the_text_of_the_result(client: FakeClient) -> None:
    events = [event async for event in read(client, FakeDocument(2), streamed=True)]
    for number in (1, 2):
        pieces = [event.text for event in events if isinstance(event, PageText) and event.page == number]
        (result,) = [event.result for event in ends(events) if isinstance(event, PageRead)][number - 1 : number]
        assert "".join(pieces) == result.text == f"page {number}"
    blocks = [event.block for event in events if isinstance(event, BlockDone)]
    assert [(block.page, block.text) for block in blocks] == [(1, "page 1"), (2, "page 2")]
    kinds = [type(event) for event in events]
    assert kinds == [PageText, PageText, BlockDone, PageRead] * 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_page_that_fails_is_its_own_error(client: FakeClient, streamed: bool) -> None:
    client.failures = {4: [InvalidRequest("image: odd", param="image")], 5: [InternalError("oops")]}
    events = [event async for event in read(client, FakeDocument(6, broken=[2]), streamed=streamed)]
    assert pages_of(events) == [1, -2, 3, -4, -5, 6]
    failures = [event.error for event in ends(events) if isinstance(event, PageFailed)]
    assert [(error.param, error.message) for error in failures[:2]] == [
        ("file", "file: page 2 is broken"),
        ("file", "file: odd"),
    ]


async def test_the_cause_of_a_page_s_failure_is_logged(client: FakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client.failures = {1: [InternalError("oops")]}
    assert pages_of([event async for event in read(client, FakeDocument(1))]) == [-1]
    assert "id page 1: internal_error: oops" in caplog.text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("error", [Unavailable("away"), TimedOut("late")], ids=["away", "late"])
async def test_what_fails_for_all_ends_the_document(client: FakeClient, error: ApiError, streamed: bool) -> None:
    client.hold(4)
    client.failures = {3: [error]}
    events: list[DocumentEvent] = []
    with pytest.raises(type(error)):
        async for event in read(client, FakeDocument(50), streamed=streamed, max_parallel_pages=4):
            events.append(event)
    assert pages_of(events) == [1, 2]
    assert not client.running
    assert 4 in client.cancelled


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_full_queue_is_tried_again(client: FakeClient, streamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "QUEUE_WAITS_S", (0, 0))
    client.failures = {1: [Overloaded("full", 1), Overloaded("full", 1)]}
    assert pages_of([event async for event in read(client, FakeDocument(3), streamed=streamed)]) == [1, 2, 3]
    client.failures = {1: [Overloaded("full", 1)] * 3}
    with pytest.raises(Overloaded):
        async for _ in read(client, FakeDocument(3), streamed=streamed):
            pass


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_later_page_waits_for_its_place_in_the_queue(
    client: FakeClient, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "QUEUE_WAITS_S", (0,))
    client.failures = {2: [Overloaded("full", 1)] * 20}
    assert pages_of([event async for event in read(client, FakeDocument(3), streamed=streamed)]) == [1, 2, 3]
    client.failures = {2: [Overloaded("full", 1)] * 1_000_000}
    with pytest.raises(Overloaded):
        async for _ in read(client, FakeDocument(3), streamed=streamed, request_timeout_s=0.01):
            pass


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_fault_of_the_request_is_found_once(client: FakeClient, streamed: bool) -> None:
    client.failures = {page: [InvalidRequest("model: reads no images", param="model")] for page in range(1, 51)}
    document = FakeDocument(50)
    with pytest.raises(InvalidRequest, match="model: reads no images"):
        async for _ in read(client, document, streamed=streamed, max_parallel_pages=2):
            pass
    assert len(document.rendered) <= 4


async def test_a_prompt_too_long_for_the_first_page_is_too_long_for_all(client: FakeClient) -> None:
    def too_long(*pages: int) -> dict[int, list[ApiError]]:
        return {page: [ContextLengthExceeded("prompt: too long", param="prompt")] for page in pages}

    client.failures = too_long(1)
    with pytest.raises(ContextLengthExceeded):
        async for _ in read(client, FakeDocument(3)):
            pass
    # Another page's picture may take more of the context.
    client.failures = too_long(2)
    assert pages_of([event async for event in read(client, FakeDocument(3))]) == [1, -2, 3]
    client.failures = too_long(1)
    assert pages_of([event async for event in read(client, FakeDocument(1))]) == [-1]
    # Of the rest of a document, others have been read.
    client.failures = too_long(1)
    assert pages_of([event async for event in read(client, FakeDocument(3), is_rest=True)]) == [-1, 2, 3]


async def test_a_failed_page_s_picture_is_not_kept(client: FakeClient) -> None:
    forget_images()
    client.failures = {2: [InternalError("oops")], 3: [InvalidRequest("image: odd", param="image")]}
    events = [event async for event in read(client, FakeDocument(4))]
    assert pages_of(events) == [1, -2, -3, 4]
    assert Image.num_alive == 0


async def test_a_repetition_behind_the_page_that_is_sent_is_read_again(client: FakeClient) -> None:
    client.hold(1)
    client.says = {2: [("aaa", "repetition"), ("better", "stop")], 3: [("bbb", "repetition"), ("ccc", "repetition")]}
    events = read(client, FakeDocument(3), streamed=True, max_parallel_pages=3)
    assert await anext(events) == PageText(1, "page")
    following = asyncio.ensure_future(anext(events))
    await settle()
    client.gates[1].set()
    rest = [await following, *[event async for event in events]]
    assert [event.text for event in rest if isinstance(event, PageText)] == [" 1", "better", "pagebbb"]
    results = [event.result for event in rest if isinstance(event, PageRead)]
    assert [(result.text, result.finish_reason) for result in results] == [
        ("page 1", "stop"),
        ("better", "stop"),
        ("pagebbb", "repetition"),
    ]
    assert [result.usage.num_output_tokens for result in results] == [1, 2, 2]
    assert client.read_again == [0.2, 0.2]


@pytest.mark.parametrize("retry", [False, True])
async def test_what_is_out_is_not_read_again(client: FakeClient, retry: bool) -> None:
    client.hold(1)
    client.says = {1: [("aaa", "repetition")], 2: [("bbb", "repetition")]}
    events = read(client, FakeDocument(2 - retry), streamed=True, retry=retry)
    assert await anext(events) == PageText(1, "page")
    client.gates[1].set()
    rest = [event async for event in events]
    assert {event.result.finish_reason for event in rest if isinstance(event, PageRead)} == {"repetition"}
    assert client.read_again == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_closing_ends_all_that_runs(client: FakeClient, streamed: bool) -> None:
    client.hold(*range(2, 51))
    events = read(client, FakeDocument(50), streamed=streamed, max_parallel_pages=4)
    async for event in events:
        if isinstance(event, PageRead):
            break
    following = asyncio.ensure_future(anext(events))
    if streamed:
        await following
    await client.begun[4].wait()
    if not streamed:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await events.aclose()
    assert not client.running
    assert client.cancelled >= {2, 3, 4}
    assert len(asyncio.all_tasks()) == 1


async def test_documents_may_share_their_slots(client: FakeClient) -> None:
    reader = PageReader(client, Settings())  # type: ignore[arg-type]
    slots = asyncio.Semaphore(2)

    async def read_one() -> list[DocumentEvent]:
        document = FakeDocument(5)
        options = read_options(OcrFields(), "ocr", document, "file")
        return [event async for event in read_document(reader, document, options, TEXT, "id", slots=slots)]

    for events in await asyncio.gather(read_one(), read_one(), read_one()):
        assert pages_of(events) == [1, 2, 3, 4, 5]
    assert client.most_running <= 2
