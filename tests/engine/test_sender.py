from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from engine.errors import EngineError, StepFailed
from engine.feed import Feeds
from engine.request import Output, Prompt, Request, TokenLogprob
from engine.response import ChoicePiece, merge
from engine.sampling_params import SamplingParams
from engine.sender import Sender, Stream, pace
from tests.clock import StillClock


class FakeReply:
    """Stands for a Triton response sender."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[int, ChoicePiece], bool]] = []
        self.errors: list[EngineError] = []
        self.has_gone = False
        self.may_send = threading.Event()
        self.may_send.set()
        self.is_sending = threading.Event()
        self.fails = False

    def send(self, pieces: dict[int, ChoicePiece], is_last: bool) -> None:
        self.is_sending.set()
        self.may_send.wait(10)
        if self.fails:
            raise ValueError("can't be built")
        self.sent.append((pieces, is_last))

    def send_error(self, error: EngineError) -> None:
        self.errors.append(error)

    def is_cancelled(self) -> bool:
        return self.has_gone


class FakeEngine:
    """Stands for the loop: only cancels are looked at, and how long it waits."""

    def __init__(self) -> None:
        self.waited_s = time.monotonic()
        self.cancelled: list[Request] = []
        self.has_cancelled = threading.Event()

    def cancel(self, request: Request) -> None:
        request.is_cancelled = True
        self.cancelled.append(request)
        self.has_cancelled.set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StillClock:
    """What the sender thinks the time is: the test says how late it is."""
    clock = StillClock()
    monkeypatch.setattr("engine.sender.time", SimpleNamespace(monotonic=clock, thread_time=time.thread_time))
    return clock


def start(engine: FakeEngine) -> Sender:
    sender = Sender(engine, Feeds())  # type: ignore[arg-type]
    sender.start()
    return sender


def open_stream(sender: Sender, reply: FakeReply, *, n: int = 1, is_streaming: bool = True) -> Stream:
    stream = Stream(Prompt([1]), SamplingParams(n=n), is_streaming, reply)
    sender.add(stream)
    return stream


def wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.001)


def say(stream: Stream, text: str, finish_reason: str | None = None, choice: int = 0) -> None:
    if finish_reason:
        stream.request.num_unfinished -= 1
    stream.on_output(Output(choice, text, 1, None, finish_reason))  # type: ignore[arg-type]


def sent_late(clock: StillClock, late_s: float) -> list[tuple[str, int, bool]]:
    """What is sent of steps 20 ms apart, when the sender gets to the second of them `late_s` after the last."""
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply)
    reply.may_send.clear()
    say(stream, "a")
    reply.is_sending.wait(10)
    for text in "bcd":
        clock.now_s += 0.02
        say(stream, text)
    clock.now_s += 0.02
    say(stream, "e", "stop")
    clock.now_s += late_s
    reply.may_send.set()
    sender.stop()
    assert sender.num_live == 0
    return [(pieces[0].text, pieces[0].num_tokens, is_last) for pieces, is_last in reply.sent]


def test_what_piles_up_while_a_response_is_sent_is_merged(clock: StillClock) -> None:
    assert sent_late(clock, 1.0) == [("a", 1, False), ("bcde", 4, True)]


def test_no_more_is_merged_than_has_waited_for_long(clock: StillClock) -> None:
    assert sent_late(clock, 0.015) == [("a", 1, False), ("bc", 2, False), ("d", 1, False), ("e", 1, True)]


def test_what_was_meant_to_wait_is_merged_also_when_late(clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sender.pace", lambda *_: 0.061)
    assert sent_late(clock, 0.0) == [("a", 1, False), ("bcd", 3, False), ("e", 1, True)]


def test_what_came_after_a_late_turn_waits_for_its_own(clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sender.pace", lambda *_: 0.03)
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply)
    reply.may_send.clear()
    say(stream, "a")
    assert reply.is_sending.wait(10)
    for text in "bc":
        clock.now_s += 0.02
        say(stream, text)
    reply.may_send.set()  # it is 10 ms late
    wait_until(lambda: len(reply.sent) == 2)
    clock.now_s += 0.0195
    time.sleep(0.1)
    assert len(reply.sent) == 2, "the next turn is 30 ms after the last one was due"
    clock.now_s += 0.001
    wait_until(lambda: len(reply.sent) == 3)
    say(stream, "d", "stop")
    sender.stop()
    assert [pieces[0].text for pieces, _ in reply.sent] == ["a", "b", "c", "d"]


def test_who_asks_twice_gets_no_turn_before_its_time(clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sender.pace", lambda *_: 0.03)
    sender, reply = Sender(FakeEngine(), Feeds()), FakeReply()  # type: ignore[arg-type]
    stream = open_stream(sender, reply)
    stream.next_s = clock.now_s + 0.03
    say(stream, "a")
    assert stream.outbox is not None
    stream.outbox.put(stream)
    for _ in range(2):
        sender._send_in_turn(stream)  # held twice now
    clock.now_s += 0.04
    say(stream, "b")
    sender.start()
    wait_until(lambda: len(reply.sent) == 1)
    time.sleep(0.1)
    assert len(reply.sent) == 1
    say(stream, "c", "stop")
    sender.stop()
    assert [pieces[0].text for pieces, _ in reply.sent] == ["a", "bc"]


def test_unstreamed_is_one_response_also_if_it_ends_while_it_is_taken(clock: StillClock) -> None:
    sender, reply = Sender(FakeEngine(), Feeds()), FakeReply()  # type: ignore[arg-type]
    stream = open_stream(sender, reply, is_streaming=False)
    say(stream, "a")
    clock.now_s += 1
    say(stream, "b", "stop")
    clock.now_s -= 1  # as late as the sender had looked at the clock
    sender.start()
    sender.stop()
    assert [(pieces[0].text, is_last) for pieces, is_last in reply.sent] == [("ab", True)]


def test_choices_of_one_step_are_one_response(clock: StillClock) -> None:
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply, n=2)
    reply.may_send.clear()
    say(stream, "a")
    reply.is_sending.wait(10)
    for choice in (0, 1):
        clock.now_s += 0.0004
        say(stream, "b", "stop", choice)
    reply.may_send.set()
    sender.stop()
    assert [sorted(pieces) for pieces, _ in reply.sent] == [[0], [0, 1]]


def test_unstreamed_is_one_response_of_all_choices() -> None:
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply, n=2, is_streaming=False)
    say(stream, "a", choice=1)
    say(stream, "b", "length", choice=0)
    say(stream, "c", "stop", choice=1)
    sender.stop()
    [(pieces, is_last)] = reply.sent
    assert is_last
    assert {choice: (piece.text, piece.finish_reason) for choice, piece in pieces.items()} == {
        0: ("b", "length"),
        1: ("ac", "stop"),
    }


def test_unstreamed_says_nothing_before_all_is_said() -> None:
    """Not even to a sender that looks at it because it is new."""
    sender, reply = Sender(FakeEngine(), Feeds()), FakeReply()  # type: ignore[arg-type]
    stream = open_stream(sender, reply, is_streaming=False)
    say(stream, "a")
    sender.start()
    say(stream, "b", "stop")
    sender.stop()
    assert [pieces[0].text for pieces, _ in reply.sent] == ["ab"]


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.usefixtures("clock")
def test_parts_of_a_prompt_s_log_probabilities_let_others_go_between(is_streaming: bool) -> None:
    sender, reply, other = Sender(FakeEngine(), Feeds()), FakeReply(), FakeReply()  # type: ignore[arg-type]
    stream, late = (open_stream(sender, each, is_streaming=is_streaming) for each in (reply, other))
    reply.sent = other.sent
    parts = [[TokenLogprob(token, -1.0, ())] for token in range(3)]
    for part in parts:
        stream.on_output(Output(0, "", 0, prompt_logprobs=part))
    say(late, "x", "stop")
    say(stream, "a")
    say(stream, "b", "stop")
    sender.start()
    sender.stop()
    said = [(pieces[0].prompt_logprobs, pieces[0].text, is_last) for pieces, is_last in reply.sent]
    assert said == [
        (parts[0], "", False),
        (None, "x", True),
        *((part, "", False) for part in parts[1:]),
        (None, "ab", True),
    ]
    assert sender.num_live == 0


def test_who_has_gone_is_sent_no_parts() -> None:
    sender, reply = Sender(FakeEngine(), Feeds()), FakeReply()  # type: ignore[arg-type]
    stream = open_stream(sender, reply, is_streaming=True)
    for token in range(3):
        stream.on_output(Output(0, "", 0, prompt_logprobs=[TokenLogprob(token, -1.0, ())]))
    stream.request.is_cancelled = True
    say(stream, "", "cancelled")
    sender.start()
    sender.stop()
    assert [(pieces[0].prompt_logprobs, is_last) for pieces, is_last in reply.sent] == [(None, True)]


def test_they_do_not_wait_for_the_end() -> None:
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply, is_streaming=False)
    say_part = Output(0, "", 0, prompt_logprobs=[TokenLogprob(0, None, ())])
    stream.on_output(say_part)
    assert reply.is_sending.wait(10)
    say(stream, "a", "stop")
    sender.stop()
    assert [pieces[0].text for pieces, _ in reply.sent] == ["", "a"]


def test_an_error_ends_a_request_once() -> None:
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply)
    stream.on_error(StepFailed("failed"))
    sender.stop()
    assert ([str(error) for error in reply.errors], reply.sent, sender.num_live) == (["failed"], [], 0)


def test_a_response_that_cant_be_built_ends_its_request_alone() -> None:
    engine = FakeEngine()
    sender, bad, good = start(engine), FakeReply(), FakeReply()
    bad.fails = True
    broken, whole = open_stream(sender, bad), open_stream(sender, good)
    say(broken, "a")
    say(whole, "b", "stop")
    say(broken, "c", "cancelled")
    sender.stop()
    assert [type(error) for error in bad.errors] == [StepFailed]
    assert engine.cancelled == [broken.request]
    assert len(good.sent) == 1
    assert sender.num_live == 0


def test_a_client_that_has_gone_is_noticed() -> None:
    engine, reply = FakeEngine(), FakeReply()
    sender = start(engine)
    stream = open_stream(sender, reply)
    reply.has_gone = True
    assert engine.has_cancelled.wait(10)
    say(stream, "", "cancelled")
    sender.stop()
    assert engine.cancelled == [stream.request]
    assert sender.num_live == 0


def test_merge_keeps_choices_apart_and_in_order() -> None:
    outputs = [Output(1, "a", 1), Output(0, "b", 1), Output(1, "c", 1, None, "stop", stop_string="d")]
    merged = merge(outputs)
    assert list(merged) == [1, 0]
    assert (merged[1].text, merged[1].num_tokens, merged[1].finish_reason) == ("ac", 2, "stop")
    assert merged[1].stop_string == "d"
    assert (merged[0].finish_reason, merged[0].stop_string) == (None, None)


def test_even_an_error_that_cant_be_sent_leaves_the_others_alone() -> None:
    class Broken(FakeReply):
        def send_error(self, error: EngineError) -> None:
            raise OSError("no shared memory left")

        def is_cancelled(self) -> bool:
            raise OSError("no shared memory left")

    sender, broken, good = start(FakeEngine()), Broken(), FakeReply()
    lost, whole = open_stream(sender, broken), open_stream(sender, good)
    lost.on_error(StepFailed("failed"))
    say(whole, "a", "stop")
    sender.stop()
    assert len(good.sent) == 1
    assert sender.num_live == 0


def test_only_what_stands_between_first_and_last_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sender.pace", lambda *_: 60)
    sender, reply, other = start(FakeEngine()), FakeReply(), FakeReply()
    stream = open_stream(sender, reply)
    say(stream, "a")
    assert reply.is_sending.wait(10)
    for text in "bcd":
        say(stream, text)
    late = open_stream(sender, other)
    say(late, "x", "stop")
    assert other.is_sending.wait(10), "nobody waits for another's turn"
    say(stream, "e", "stop")
    sender.stop()
    assert [pieces[0].text for pieces, _ in reply.sent] == ["a", "bcde"]
    assert [pieces[0].text for pieces, _ in other.sent] == ["x"]


def test_what_waits_is_sent_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sender.pace", lambda *_: 0.3)
    sender, reply = start(FakeEngine()), FakeReply()
    stream = open_stream(sender, reply)
    say(stream, "a")
    assert reply.is_sending.wait(10)
    reply.is_sending.clear()
    say(stream, "b")
    say(stream, "c")
    assert reply.is_sending.wait(10)
    say(stream, "d", "stop")
    sender.stop()
    assert [pieces[0].text for pieces, _ in reply.sent] == ["a", "bc", "d"]


def test_everyone_is_asked_in_turn_whether_the_client_has_gone() -> None:
    engine = FakeEngine()
    sender = Sender(engine, Feeds())  # type: ignore[arg-type]
    streams = [open_stream(sender, FakeReply()) for _ in range(50)]
    for stream in streams:
        assert isinstance(stream.reply, FakeReply)
        stream.reply.has_gone = True
    for expected in (10, 20, 30, 40, 50):
        sender._drop_abandoned()
        assert len(engine.cancelled) == expected
    assert engine.cancelled == [stream.request for stream in streams]


def test_sending_takes_a_tenth_of_a_busy_loop_and_no_piece_waits_long() -> None:
    assert pace(1, 100e-6, 0.0) == pytest.approx(1e-3)
    assert pace(16, 100e-6, 0.05) == pytest.approx(16e-3)
    assert pace(256, 100e-6, 0.0) == 0.05


def test_sending_takes_the_time_in_which_the_loop_waits() -> None:
    assert pace(64, 100e-6, 0.8) == pytest.approx(8e-3)


def test_the_sender_sees_how_long_the_loop_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: queue.SimpleQueue[float] = queue.SimpleQueue()
    monkeypatch.setattr("engine.sender.pace", lambda *arguments: seen.put(arguments[2]) or 0.0)
    engine = FakeEngine()

    def monotonic() -> float:
        """Of a loop that has always waited, whenever the sender looks at the clock."""
        engine.waited_s = time.monotonic()
        return engine.waited_s

    clock = SimpleNamespace(monotonic=monotonic, thread_time=time.thread_time)
    monkeypatch.setattr("engine.sender.time", clock)
    sender, reply = start(engine), FakeReply()
    stream = open_stream(sender, reply)
    waiting = 0.0
    while waiting < 0.5:  # nearer to all of the time with every poll
        say(stream, "a")
        waiting = seen.get(timeout=10)
        assert 0 <= waiting <= 1.1
    say(stream, "b", "stop")
    sender.stop()
