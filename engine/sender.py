"""Takes what the loop says to where it was asked: one thread, one request at a time, merging where it must."""

from __future__ import annotations

import heapq
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from engine.errors import EngineError, StepFailed
from engine.feed import Feeds
from engine.loop import Engine
from engine.request import Output, Prompt, Request
from engine.response import ChoicePiece, merge
from engine.sampling_params import SamplingParams

logger = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.02
"""How often live requests are asked whether their clients have gone."""
_MAX_POLLS = 10
"""Requests that are asked at a time, since each waits a tenth of a millisecond for Triton; the others come next."""
_MIN_SHARE = 0.1
"""Of the time, which sending may take from a busy loop: both are in one process."""
_MAX_WAIT_S = 0.05
"""Longest time that a piece waits for the next ones, and that a late sender keeps the pieces of a request apart."""
_STEP_S = 0.001
"""What a request's choices say within it is of one step; and how long turns follow each other until feeds are sent."""
_PASSED_ON_S = 100e-6
"""What a response costs those who pass it on."""


def pace(num_live: int, response_s: float, waiting: float) -> float:
    """Seconds between two responses of one request, where all of `num_live` talk and a response costs `response_s`.

    `waiting` is the share of the time in which the loop waits: sending then takes nothing from it. However cheaply a
    response is sent, it costs those who pass it on.
    """
    return min(num_live * max(response_s, _PASSED_ON_S) / max(_MIN_SHARE, waiting), _MAX_WAIT_S)


class Reply(Protocol):
    """The way back to one client. Used by the sender's thread alone."""

    def send(self, pieces: dict[int, ChoicePiece], is_last: bool) -> None:
        """Send what each choice said since the last call."""

    def send_error(self, error: EngineError) -> None:
        """End the request with an error."""

    def is_cancelled(self) -> bool:
        """Whether the client has gone."""


@dataclass(slots=True)
class _Said:
    at_s: float
    """On the monotonic clock."""
    what: Output | EngineError


class Stream:
    """One request on its way back: collects what the loop says until the sender takes it."""

    def __init__(self, prompt: Prompt, params: SamplingParams, is_streaming: bool, reply: Reply) -> None:
        self.request = Request(prompt, params, self)
        self.reply = reply
        self.outbox: queue.SimpleQueue[Stream | None] | None = None
        self.next_s = 0.0
        """When its next response may go, on the monotonic clock."""
        self.is_ending = False
        """Whether nothing follows what was said: there is no reason to wait."""
        self._is_streaming = is_streaming
        self._said: deque[_Said] = deque()
        self._is_queued = False
        self._num_open = params.n

    @property
    def is_done(self) -> bool:
        """Whether everything that will ever be said has been taken."""
        return self._num_open == 0

    def on_output(self, output: Output) -> None:
        self._said.append(_Said(time.monotonic(), output))
        if self.request.num_unfinished == 0:
            self._hurry()
        elif self._is_streaming or output.prompt_logprobs:
            self.notify()

    def on_error(self, error: EngineError) -> None:
        self._said.append(_Said(time.monotonic(), error))
        self._hurry()

    def take(self) -> tuple[list[Output], EngineError | None]:
        """Return what was said by the time the turn was due, as if the sender were never late: what came since gets a
        turn of its own, so that a short delay merges nothing. What has waited for long is returned in any case.

        A part of a prompt's log probabilities is returned alone, unstreamed too: to send all at once takes long.
        """
        self._is_queued = False
        outputs: list[Output] = []
        error = None
        until_s = self._until_s()
        while self._may_be_taken and self._said[0].at_s <= until_s:
            said = self._said.popleft().what
            if isinstance(said, EngineError):
                self._num_open = 0
                error = said
                break
            if said.prompt_logprobs and self.request.is_cancelled:
                continue
            outputs.append(said)
            self._num_open -= said.finish_reason is not None
            if said.prompt_logprobs:
                break
        if self._may_be_taken:
            self.notify()
        return outputs, error

    @property
    def _may_be_taken(self) -> bool:
        """Whether there is something to send. Unstreamed, an answer is one response, when all of it is said."""
        return bool(self._said) and (self._is_streaming or self.is_ending or _is_of_prompt(self._said[0].what))

    def _until_s(self) -> float:
        """Up to when what was said is to be taken; `next_s` becomes when that was due."""
        if not self._said or not self._is_streaming or self.request.is_cancelled:
            return math.inf
        self.next_s = max(self.next_s, self._said[0].at_s)
        return max(self.next_s + _STEP_S, time.monotonic() - _MAX_WAIT_S)

    def _hurry(self) -> None:
        """Send what was said, even if its turn has not come."""
        self.is_ending = True
        self._is_queued = False
        self.notify()

    def notify(self) -> None:
        """Ask for a turn."""
        assert self.outbox is not None, "on_output before Sender.add"
        if not self._is_queued:
            self._is_queued = True
            self.outbox.put(self)


def _is_of_prompt(said: Output | EngineError) -> bool:
    return isinstance(said, Output) and bool(said.prompt_logprobs)


class Sender:
    """Sends every response, ends every request once, and notices clients that have gone.

    A request's first and last responses go at once. Those between are held back, and grow, as far as it takes to keep
    sending cheap beside the loop's own work. What was put on feeds meanwhile is sent after some turns.
    """

    def __init__(self, engine: Engine, feeds: Feeds) -> None:
        self._engine = engine
        self._feeds = feeds
        self._live: dict[Stream, None] = {}
        self._held: list[tuple[float, int, Stream]] = []  # a heap
        self._response_s = 0.0  # running average
        self._waiting = 0.0
        """Share of the time in which the loop waits, a running average too."""
        self._is_stopping = False
        self._outbox: queue.SimpleQueue[Stream | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="sender", daemon=True)

    @property
    def num_live(self) -> int:
        """Requests that have not been ended."""
        return len(self._live)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is pending and end the thread; call it after the engine's stop, which ends every request."""
        self._is_stopping = True
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Begin to poll, where there is a feed and nothing else yet."""
        self._outbox.put(None)

    def add(self, stream: Stream) -> None:
        """Look after a request from now on, while it waits for the engine too."""
        stream.outbox = self._outbox
        self._live[stream] = None
        stream.notify()  # wakes the thread, so that it begins to poll

    def _loop(self) -> None:
        polled_s, waited_s = time.monotonic(), self._engine.waited_s
        while not self._is_stopping:
            self._take_turns(self._next(self._patience()))
            now_s = time.monotonic()
            if now_s >= polled_s + _POLL_INTERVAL_S:
                self._drop_abandoned()
                self._waiting += 0.2 * ((self._engine.waited_s - waited_s) / (now_s - polled_s) - self._waiting)
                polled_s, waited_s = now_s, self._engine.waited_s
        self._send_rest()

    def _next(self, timeout_s: float | None) -> Stream | None:
        with suppress(queue.Empty):
            return self._outbox.get(timeout=timeout_s)
        return None

    def _take_turns(self, first: Stream | None) -> None:
        times_s = [took_s for stream in self._turns(first) if (took_s := self._send_in_turn(stream)) is not None]
        started_s = time.thread_time()
        self._feeds.flush()
        if times_s:
            response_s = (sum(times_s) + time.thread_time() - started_s) / len(times_s)
            self._response_s += (1 - 0.9 ** len(times_s)) * (response_s - self._response_s)

    def _turns(self, first: Stream | None) -> Iterator[Stream]:
        """Those that have news, until there are none or it took long, and those whose time has come."""
        until_s = time.monotonic() + _STEP_S
        stream = first
        while stream:
            yield stream
            stream = self._next(0) if time.monotonic() < until_s else None
        while self._held and self._held[0][0] <= time.monotonic():
            yield heapq.heappop(self._held)[2]

    def _send_in_turn(self, stream: Stream) -> float | None:
        """Returns as `_send` does."""
        if stream.is_ending or stream.next_s <= time.monotonic():
            return self._send(stream)
        heapq.heappush(self._held, (stream.next_s, id(stream), stream))
        return None

    def _send_rest(self) -> None:
        """What comes in parts may have more of them."""
        while not self._outbox.empty():
            if stream := self._outbox.get():
                self._send(stream)
        self._feeds.flush()
        self._feeds.close()

    def _patience(self) -> float | None:
        """Seconds to wait for the next news."""
        if not self._held:
            return _POLL_INTERVAL_S if self._live or self._feeds else None
        return min(_POLL_INTERVAL_S, max(0.0, self._held[0][0] - time.monotonic()))

    def _drop_abandoned(self) -> None:
        for stream in list(islice(self._live, _MAX_POLLS)):
            self._live[stream] = self._live.pop(stream)  # it is the last to be asked again
            try:
                if not stream.request.is_cancelled and stream.reply.is_cancelled():
                    self._engine.cancel(stream.request)
            except Exception:
                logger.exception("a request could not be asked whether its client has gone")
        self._feeds.drop_abandoned()

    def _send(self, stream: Stream) -> float | None:
        """Returns how many seconds a response took to compute: waiting takes nothing from the loop. None of others."""
        try:
            return self._send_taken(stream)
        except Exception:  # not even its error could be sent: the others go on
            logger.exception("a request could not be ended")
            return None

    def _send_taken(self, stream: Stream) -> float | None:
        if stream not in self._live:
            return None
        outputs, error = stream.take()
        if stream.is_done:
            del self._live[stream]
        try:
            if error:
                stream.reply.send_error(error)
            elif outputs:
                started_s = time.thread_time()
                stream.reply.send(merge(outputs), stream.is_done)
                if not _is_of_prompt(outputs[-1]):
                    stream.next_s += pace(len(self._live), self._response_s, self._waiting)
                    return time.thread_time() - started_s
        except EngineError as failure:
            self._give_up(stream, failure)
        except Exception:
            logger.exception("a response could not be sent; its request is ended with an error")
            self._give_up(stream, StepFailed("the response could not be built"))
        return None

    def _give_up(self, stream: Stream, error: EngineError) -> None:
        self._engine.cancel(stream.request)
        self._live.pop(stream, None)
        stream.reply.send_error(error)
