"""Feeds, alone and under a sender: what many requests say in one response."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from engine.errors import EngineError, FeedLost, InvalidRequest
from engine.feed import Fed, Feed, Feeds
from engine.request import Output, Prompt
from engine.response import ChoicePiece
from engine.sampling_params import SamplingParams
from engine.sender import Sender, Stream
from tests.clock import StillClock


class FakeFeedReply:
    """Stands for the Triton request that opened a feed."""

    def __init__(self, has_gone: bool = False) -> None:
        self.sent: list[list[Fed]] = []
        self.num_ends = 0
        self.has_gone = has_gone
        self.fails = False
        self.has_ended = threading.Event()

    def send(self, pieces: Sequence[Fed]) -> None:
        if self.fails:
            raise OSError("no shared memory left")
        self.sent.append(list(pieces))

    def end(self) -> None:
        self.num_ends += 1
        self.has_ended.set()
        if self.fails:
            raise OSError("no shared memory left")

    def is_cancelled(self) -> bool:
        if self.fails:
            raise OSError("no shared memory left")
        return self.has_gone


class FedReply:
    """A reply that says all but the last on a feed."""

    def __init__(self, feed: Feed, number: int) -> None:
        self._feed, self._number = feed, number
        self.last: str | None = None
        self.errors: list[EngineError] = []

    def send(self, pieces: dict[int, ChoicePiece], is_last: bool) -> None:
        if is_last:
            self._feed.check()
            self.last = pieces[0].text
        else:
            self._feed.add(Fed(self._number, pieces[0].text))

    def send_error(self, error: EngineError) -> None:
        self.errors.append(error)

    def is_cancelled(self) -> bool:
        return False


class Service:
    """A sender with one feed."""

    def __init__(self) -> None:
        self.feeds, self.feed_reply = Feeds(), FakeFeedReply()
        self.feeds.open("a", self.feed_reply)
        feed = self.feeds.get("a")
        assert feed is not None
        self.feed = feed
        engine = SimpleNamespace(waited_s=0.0, cancel=lambda request: None)
        self.sender = Sender(engine, self.feeds)  # type: ignore[arg-type]

    def open_stream(self, number: int) -> tuple[Stream, FedReply]:
        reply = FedReply(self.feed, number)
        stream = Stream(Prompt([1]), SamplingParams(), True, reply)
        self.sender.add(stream)
        return stream, reply


def say(stream: Stream, text: str, finish_reason: str | None = None) -> None:
    if finish_reason:
        stream.request.num_unfinished -= 1
    stream.on_output(Output(0, text, 1, None, finish_reason))  # type: ignore[arg-type]


def test_what_many_say_at_a_time_is_one_response(monkeypatch: pytest.MonkeyPatch) -> None:
    still = SimpleNamespace(monotonic=StillClock(), thread_time=time.thread_time)  # however slow the machine is
    monkeypatch.setattr("engine.sender.time", still)
    service = Service()
    streams = [service.open_stream(number) for number in range(5)]
    for number, (stream, _) in enumerate(streams):
        say(stream, f"text {number}")
    service.sender._take_turns(service.sender._next(0))
    assert service.feed_reply.sent == [[Fed(number, f"text {number}") for number in range(5)]]
    service.feeds.flush()
    assert len(service.feed_reply.sent) == 1, "there is nothing more to send"
    for stream, _ in streams:
        say(stream, "end", "stop")
    service.sender.start()
    service.sender.stop()
    assert [reply.last for _, reply in streams] == ["end"] * 5
    assert service.feed_reply.num_ends == 1, "a sender that stops ends its feeds"


def test_a_feed_that_can_t_be_sent_is_an_error_for_those_on_it_alone() -> None:
    service = Service()
    (lost, lost_reply), (late, late_reply) = service.open_stream(1), service.open_stream(2)
    other_reply = FedReply(Feed(FakeFeedReply()), 3)
    other = Stream(Prompt([1]), SamplingParams(), True, other_reply)
    service.sender.add(other)
    service.feed_reply.fails = True
    say(lost, "a")
    service.sender._take_turns(service.sender._next(0))
    say(lost, "b", "stop")
    say(late, "c")
    say(other, "d", "stop")
    service.sender.start()
    service.sender.stop()
    assert [[type(error) for error in reply.errors] for reply in (lost_reply, late_reply)] == [[FeedLost]] * 2
    assert (lost_reply.last, other_reply.last, other_reply.errors) == (None, "d", [])
    assert service.sender.num_live == 0


def test_a_feed_whose_client_has_gone_is_ended_also_when_nothing_else_lives() -> None:
    service = Service()
    service.sender.start()
    service.sender.wake()
    service.feed_reply.has_gone = True
    assert service.feed_reply.has_ended.wait(10)
    service.sender.stop()
    assert (service.feeds.get("a"), service.feed_reply.num_ends) == (None, 1)


def test_one_that_can_t_be_asked_harms_no_other() -> None:
    feeds, broken, whole = Feeds(), FakeFeedReply(), FakeFeedReply()
    feeds.open("broken", broken)
    feeds.open("whole", whole)
    broken.fails = True
    feeds.drop_abandoned()
    assert (feeds.get("broken"), len(feeds), whole.num_ends) == (None, 1, 0)


def test_everyone_is_asked_in_turn() -> None:
    feeds, replies = Feeds(), [FakeFeedReply() for _ in range(25)]
    for number, reply in enumerate(replies):
        feeds.open(str(number), reply)
    replies[24].has_gone = True
    for _ in range(3):
        feeds.drop_abandoned()
    assert (len(feeds), replies[24].num_ends) == (24, 1)


def test_a_name_is_that_of_one_feed_and_there_are_not_too_many() -> None:
    feeds = Feeds()
    feeds.open("a", FakeFeedReply())
    with pytest.raises(InvalidRequest, match="of this name"):
        feeds.open("a", FakeFeedReply())
    with pytest.raises(InvalidRequest, match="256 are open"):
        for number in range(256):
            feeds.open(str(number), FakeFeedReply())
    assert len(feeds) == 256


def test_its_client_is_told_of_it_at_first_and_when_it_was_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StillClock()
    monkeypatch.setattr("engine.feed.time", SimpleNamespace(monotonic=clock))
    feeds, reply = Feeds(), FakeFeedReply()
    feeds.open("a", reply)
    for _ in range(3):
        feeds.flush()
    assert (reply.sent, feeds.num_sent) == ([[]], 0)
    feed = feeds.get("a")
    assert feed
    feed.add(Fed(1, "b"))
    feeds.flush()
    assert (reply.sent, feeds.num_sent) == ([[], [Fed(1, "b")]], 1)
    clock.now_s += 1.9
    feeds.flush()
    assert len(reply.sent) == 2
    clock.now_s += 0.2
    feeds.flush()
    assert (reply.sent[2:], feeds.num_sent) == ([[]], 1)


def test_nothing_is_put_on_a_feed_that_has_ended() -> None:
    feeds, reply = Feeds(), FakeFeedReply()
    feeds.open("a", reply)
    feed = feeds.get("a")
    assert feed
    feed.add(Fed(1, "a"))
    feed.close()
    feed.close()
    with pytest.raises(FeedLost):
        feed.add(Fed(1, "b"))
    feeds.flush()
    assert (reply.sent, reply.num_ends, feeds.get("a")) == ([], 1, None)
