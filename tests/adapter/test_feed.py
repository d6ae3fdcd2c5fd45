"""Feeds from the adapter's side: when one is opened, in which order pieces come, and what becomes of lost ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as messages

from adapter import feed
from adapter.errors import ApiError, InternalError
from adapter.http2 import Call
from adapter.settings import Settings
from adapter.tensors import Delta, Generated, InferRequest, Usage
from adapter.triton_client import TritonClient
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer, fed, raw_answer, strings

Response = messages.ModelStreamInferResponse
REQUEST = InferRequest("id", "coder", "Hi.", b"{}", 1, stream=True)
END = answer("!", finish="stop", usage=USAGE)


class FeedingTriton(FakeTriton):
    """Says what a test puts on its feeds and into its calls."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.feeds: dict[str, asyncio.Queue[Response | None]] = {}
        self.ended: list[str] = []
        self.calls: list[tuple[Seen, asyncio.Queue[Response | None]]] = []
        self.feed, self.reply = self._feed, self._call
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def _feed(self, seen: Seen, _: Any) -> AsyncIterator[Response]:
        name = seen.inputs["feed"]
        said = self.feeds[name] = asyncio.Queue()
        try:
            await self.may_open.wait()
            yield fed()
            async for response in until_none(said):
                yield response
        finally:
            self.ended.append(name)

    async def _call(self, seen: Seen, _: Any) -> AsyncIterator[Response]:
        said: asyncio.Queue[Response | None] = asyncio.Queue()
        self.calls.append((seen, said))
        async for response in until_none(said):
            yield response


async def until_none(said: asyncio.Queue[Response | None]) -> AsyncIterator[Response]:
    while (response := await said.get()) is not None:
        yield response


class Service:
    """A client of such a Triton, and the generations that run."""

    def __init__(self, triton: FeedingTriton) -> None:
        self.triton = triton
        self.client = TritonClient(Settings(triton_url=f"127.0.0.1:{triton.port}"))
        self.tasks: list[asyncio.Task[str]] = []
        self.said: list[list[str]] = []
        """What each of them has said so far, a text for each response."""

    async def begin(self, request: InferRequest = REQUEST) -> tuple[Seen, asyncio.Queue[Response | None]]:
        num_calls = len(self.triton.calls)
        self.tasks.append(asyncio.create_task(self._text(request)))
        await until(lambda: len(self.triton.calls) > num_calls)
        return self.triton.calls[-1]

    async def begin_many(self) -> tuple[str, asyncio.Queue[Response | None]]:
        """As many as it takes for a feed: its name, and what it says."""
        for _ in range(feed.MIN_CALLS + 1):
            seen, _ = await self.begin()
            assert "feed" not in seen.inputs, "those that came before the feed was open are on their own"
        await until(lambda: bool(self.feed and self.feed.is_open))
        [feed_of] = self.triton.feeds.items()
        return feed_of

    @property
    def feed(self) -> feed.Feed | None:
        """The newest one."""
        [feeds] = self.client._feeds.values()
        return feeds._feed

    async def end_all(self) -> list[str]:
        for _, said in self.triton.calls:
            say(said, END)
        return list(await asyncio.gather(*self.tasks))

    async def _text(self, request: InferRequest) -> str:
        """All that a generation says; a | between its responses."""
        said: list[str] = []
        self.said.append(said)
        async for generated in self.client.infer(request):
            said += [delta.text for delta in generated.deltas]
        return "|".join(said)


def say(said: asyncio.Queue[Response | None], *responses: Response) -> None:
    for response in (*responses, None):
        said.put_nowait(response)


async def until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.002)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    triton = FeedingTriton()
    await triton.start()
    service = Service(triton)
    yield service
    for task in service.tasks:
        task.cancel()
    await asyncio.gather(*service.tasks, return_exceptions=True)
    service.client.stop()
    await triton.stop()


async def test_many_generations_share_a_feed(service: Service) -> None:
    name, feed_says = await service.begin_many()
    (one, one_says), (two, two_says) = await service.begin(), await service.begin()
    assert (one.inputs["feed"], two.inputs["feed"]) == (name, name)
    first, second = one.inputs["feed_number"], two.inputs["feed_number"]
    assert first != second
    feed_says.put_nowait(fed((first, "a"), (second, "b")))
    feed_says.put_nowait(fed((second, "c"), (first, ""), (second, "d"), (10**6, "of nobody")))
    await asyncio.sleep(0.05)
    say(one_says, answer("!", finish="stop", usage=USAGE, num_fed=2))
    say(two_says, answer(" e", num_fed=3), END)
    assert (await service.end_all())[-2:] == ["a||!", "b|c|d| e|!"]


async def test_what_comes_early_on_its_own_waits_for_what_was_fed_before(service: Service) -> None:
    _, feed_says = await service.begin_many()
    seen, says = await service.begin()
    number = seen.inputs["feed_number"]
    feed_says.put_nowait(fed((number, "a")))
    say(says, answer("d", num_fed=3), END)
    await asyncio.sleep(0.05)
    assert not service.tasks[-1].done()
    feed_says.put_nowait(fed((number, "b")))
    feed_says.put_nowait(fed((number, "c")))
    assert await asyncio.wait_for(service.tasks[-1], 10) == "a|b|c|d|!"


async def test_who_reads_late_gets_them_in_order_too(service: Service) -> None:
    _, feed_says = await service.begin_many()
    generation = service.client.infer(REQUEST)
    first = asyncio.create_task(anext(generation))
    await until(lambda: len(service.triton.calls) == feed.MIN_CALLS + 2)
    seen, says = service.triton.calls[-1]
    number = seen.inputs["feed_number"]
    feed_says.put_nowait(fed((number, "a")))
    assert (await first).deltas[0].text == "a"
    say(says, answer("!", finish="stop", usage=USAGE, num_fed=3))
    await asyncio.sleep(0.05)  # it has come before those that precede it
    feed_says.put_nowait(fed((number, "b"), (number, "c")))
    await asyncio.sleep(0.05)
    assert [generated.deltas[0].text async for generated in generation] == ["b", "c", "!"]


async def test_a_lost_feed_fails_those_that_it_owes_something_alone(service: Service) -> None:
    _, feed_says = await service.begin_many()
    (owed, owed_says), (paid, paid_says), (unfed, unfed_says) = [await service.begin() for _ in range(3)]
    say(owed_says, answer("!", finish="stop", usage=USAGE, num_fed=2))
    feed_says.put_nowait(fed((owed.inputs["feed_number"], "a"), (paid.inputs["feed_number"], "b")))
    paid_says.put_nowait(answer("c", num_fed=1))
    await until(lambda: numbers_on_feed(service) == {owed.inputs["feed_number"], unfed.inputs["feed_number"]})
    say(feed_says)
    with pytest.raises(InternalError):
        await asyncio.wait_for(service.tasks.pop(-3), 10)
    say(paid_says, END)
    say(unfed_says, answer("d"), END)  # the model may be another one, which does not know the feed
    assert (await service.end_all())[-2:] == ["b|c|!", "d|!"]


def numbers_on_feed(service: Service) -> set[int]:
    assert service.feed
    return set(service.feed._calls)


async def test_a_piece_that_comes_as_soon_as_it_is_waited_for_is_seen() -> None:
    loop = asyncio.get_running_loop()
    call = Call(SimpleNamespace(loop=loop), 1, b"", 0, 10)  # type: ignore[arg-type]
    one = feed.FedCall(call, SimpleNamespace(has_ended=False, leave=lambda number: None), 1)  # type: ignore[arg-type]
    first = answer("!", num_fed=1).SerializeToString()
    call.receive(b"\0" + len(first).to_bytes(4, "big") + first)
    call.end()
    piece = Generated([Delta(0, "a")])
    loop.call_soon(one.push, piece)
    assert [await asyncio.wait_for(one.read(), 1) for _ in range(3)] == [piece, first, None]


async def test_what_was_fed_is_said_before_an_error_that_overtakes_it(service: Service) -> None:
    _, feed_says = await service.begin_many()
    seen, says = await service.begin()
    say(says, answer("", num_fed=1), Response(error_message="out of memory"))
    await asyncio.sleep(0.05)
    feed_says.put_nowait(fed((seen.inputs["feed_number"], "a")))
    with pytest.raises(ApiError):
        await asyncio.wait_for(service.tasks.pop(), 10)
    assert "".join(service.said[-1]) == "a"


async def test_a_piece_that_never_comes_is_an_error(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LATE_S", 0.1)
    _, feed_says = await service.begin_many()
    seen, says = await service.begin()
    feed_says.put_nowait(fed((seen.inputs["feed_number"], "a")))
    say(says, answer("!", finish="stop", usage=USAGE, num_fed=2))
    with pytest.raises(ApiError):
        await asyncio.wait_for(service.tasks.pop(), 10)


@pytest.mark.parametrize(
    "broken",
    [
        raw_answer({"text_output": strings(["a"])}),
        raw_answer({"text_output": strings(["a"]), "feed_number": bytes(8)}),
        raw_answer({"text_output": strings(["a"]), "feed_number": bytes(3)}),
        fed((1, "a"), thoughts=["b", "c"]),
        fed((1, "a"), usages=[(1, 1, 0), (2, 2, 0)]),
        Response(error_message="out of memory"),
    ],
)
async def test_a_feed_that_breaks_off_takes_no_more(service: Service, broken: Response) -> None:
    name, feed_says = await service.begin_many()
    _, says = await service.begin()
    feed_says.put_nowait(broken)
    await until(lambda: service.triton.ended == [name])
    say(says, answer("!", finish="stop", usage=USAGE, num_fed=1))
    with pytest.raises(ApiError):
        await asyncio.wait_for(service.tasks.pop(), 10)
    seen, _ = await service.begin()
    assert "feed" not in seen.inputs
    assert set(await service.end_all()) == {"!"}


async def test_one_that_opens_late_is_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's queue may be long."""
    monkeypatch.setattr(feed, "_SILENCE_S", 0.0)
    service.triton.may_open.clear()
    for _ in range(3 * feed.MIN_CALLS):
        seen, _ = await service.begin()
        assert "feed" not in seen.inputs
    assert len(service.triton.feeds) == 1
    monkeypatch.undo()
    service.triton.may_open.set()
    await until(lambda: bool(service.feed and service.feed.is_open))
    seen, _ = await service.begin()
    assert seen.inputs["feed"] in service.triton.feeds
    assert set(await service.end_all()) == {"!"}


async def test_a_silent_one_is_ended_also_where_few_run(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may keep a model that was loaded anew from being unloaded."""
    name, _ = await service.begin_many()
    for _, said in service.triton.calls[:-1]:
        say(said, END)
    await asyncio.gather(*service.tasks[:-1])
    monkeypatch.setattr(feed, "_SILENCE_S", 0.0)
    await service.begin()
    await until(lambda: service.triton.ended == [name])
    assert len(service.triton.feeds) == 1


@pytest.mark.parametrize("is_joined", [True, False])
async def test_it_is_ended_when_nothing_runs(
    service: Service, monkeypatch: pytest.MonkeyPatch, is_joined: bool
) -> None:
    monkeypatch.setattr(feed, "IDLE_S", 0.05)
    name, _ = await service.begin_many()
    if is_joined:
        await service.begin()
    await asyncio.sleep(0.1)
    assert not service.triton.ended, "others may come"
    await service.end_all()
    await until(lambda: service.triton.ended == [name])
    service.tasks.clear()
    await service.begin()
    assert len(service.triton.feeds) == 1, "few generations need none"


async def test_a_silent_one_takes_no_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    name, feed_says = await service.begin_many()
    seen, says = await service.begin()
    monkeypatch.setattr(feed, "_SILENCE_S", 0.0)
    other, _ = await service.begin()
    assert (seen.inputs["feed"], "feed" in other.inputs) == (name, False)
    await until(lambda: len(service.triton.feeds) == 2)
    feed_says.put_nowait(fed((seen.inputs["feed_number"], "a")))
    say(says, answer("!", finish="stop", usage=USAGE, num_fed=1))
    assert await service.tasks[-2] == "a|!", "whoever is on it stays"
    await until(lambda: service.triton.ended == [name])
    assert set((await service.end_all())[:-2]) == {"!"}


async def test_a_model_without_feeds_is_not_asked_all_the_time(service: Service) -> None:
    asked: list[str] = []

    async def refuse(seen: Seen, _: Any) -> AsyncIterator[Response]:
        asked.append(seen.inputs["feed"])
        yield Response(error_message="unexpected inference input 'feed' for model 'coder'")

    service.triton.feed = refuse
    for _ in range(3 * feed.MIN_CALLS):
        seen, _ = await service.begin()
        assert "feed" not in seen.inputs
    assert len(asked) == 1
    assert set(await service.end_all()) == {"!"}


async def test_thoughts_and_counts_come_on_it_too(service: Service) -> None:
    _, feed_says = await service.begin_many()
    generation = service.client.infer(replace(REQUEST, stream=False, continuous_usage=True))
    said: list[Generated] = []

    async def read() -> None:
        said.extend([generated async for generated in generation])

    reading = asyncio.create_task(read())
    await until(lambda: len(service.triton.calls) == feed.MIN_CALLS + 2)
    seen, says = service.triton.calls[-1]
    number = seen.inputs["feed_number"]
    feed_says.put_nowait(fed((number, "")))
    feed_says.put_nowait(
        fed(
            (10**6, "of nobody"),
            (number, ""),
            (number, "b"),
            thoughts=["", "a", ""],
            usages=[(0,) * 4, (5, 1, 4, 1), (5, 2, 4, 1)],
        )
    )
    say(says, answer("!", finish="stop", usage=USAGE, num_fed=3))
    await reading
    assert said[:-1] == [
        Generated([Delta(0, "")]),
        Generated([Delta(0, "", reasoning="a")], Usage(5, 1, 4, 1)),
        Generated([Delta(0, "b")], Usage(5, 2, 4, 1)),
    ]


@pytest.mark.parametrize(
    ("request_", "end"),
    [
        (replace(REQUEST, stream=False), END),
        (replace(REQUEST, num_choices=2), answer("!", "!", finish=["stop", "stop"], index=[0, 1], usage=USAGE)),
    ],
)
async def test_what_comes_at_once_or_is_several_answers_is_on_its_own(
    service: Service, request_: InferRequest, end: Response
) -> None:
    await service.begin_many()
    seen, says = await service.begin(request_)
    assert "feed" not in seen.inputs
    say(says, end)
    assert set(await service.end_all()) <= {"!", "!|!"}
