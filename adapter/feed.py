"""Feeds: one call whose responses say what many generations say. The model's side is `engine/feed.py`.

A response costs Triton and its two ends as much as a whole event costs us, whatever is in it. Where many generations
run at a time, what they say in one step comes in one response.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

from google.protobuf.message import DecodeError
from grpc import StatusCode
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelStreamInferResponse

from adapter.errors import BrokenAnswer
from adapter.http2 import Call, CallFailed, Connection, call_headers
from adapter.tensors import Generated, decode_fed, encode_feed, num_fed, put_on_feed

logger = logging.getLogger(__name__)

STREAM_PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
MIN_CALLS = 2
"""A feed is opened where more generations than these run: two cost as much with one as without, three less."""
IDLE_S = 1.0
"""How long after the last generation a feed is ended: Triton waits for it where it stops."""
LATE_S = 10.0
"""Longest time that pieces on a feed come after what follows them on the generation's own call."""
_RENEWED_S = 600.0
_RENEWED_BYTES = 2**28
"""After which a feed takes no more generations, since a call has a deadline and a window."""
_SILENCE_S = 5.0
"""After which it takes none either: the model may be another one by now, which does not know it."""
_RETRY_S = 10.0
"""How long a model is not asked again that has refused: other backends have no feeds."""


class FedCall:
    """A generation's call. What it says comes on a feed, up to the first response of its own, which says how much."""

    def __init__(self, call: Call, feed: "Feed", number: int) -> None:
        self._call, self._feed, self._number = call, feed, number
        self._pieces: deque[Generated] = deque()
        self._num_read = 0
        self._first: bytes | None = None
        """Its own, while pieces are missing that come before it."""
        self._num_fed = 0
        self._is_on_feed = True

    async def read(self) -> bytes | Generated | None:
        """The next piece, or the next response of its own; None after the last.

        Raises:
            CallFailed: at the end of a call that did not end well, or of a feed that owed it a piece.
        """
        while True:
            if self._pieces:
                self._num_read += 1
                return self._pieces.popleft()
            if self._first is not None:
                if self._num_read >= self._num_fed:
                    first, self._first = self._first, None
                    self.leave()
                    return first
                await self._missing()
            elif self._call.has_news:
                data = await self._call.read()
                if data is None or not self._is_on_feed:
                    return data
                self._first = data
                self._num_fed = num_fed(ModelStreamInferResponse.FromString(data).infer_response)
            else:
                await self._call.news()

    def push(self, piece: Generated) -> None:
        self._pieces.append(piece)
        self._call.wake()

    def look(self) -> None:
        """The feed has ended."""
        self._call.wake()

    def cancel(self, failure: CallFailed | None = None) -> None:
        self._call.cancel(failure)

    def leave(self) -> None:
        """Nothing more comes on the feed."""
        self._is_on_feed = False
        self._feed.leave(self._number)

    async def _missing(self) -> None:
        """Wait for a piece that is to come."""
        if self._feed.has_ended:
            raise CallFailed(StatusCode.INTERNAL, "the feed of what it says has ended")
        try:
            await asyncio.wait_for(self._call.news(), LATE_S)
        except asyncio.TimeoutError:
            raise CallFailed(StatusCode.INTERNAL, "a piece on its feed is missing") from None


class Feed:
    """One of them, with the generations that are on it."""

    def __init__(self, name: str, call: Call) -> None:
        self.name = name
        self.is_open = False
        self.has_ended = False
        self._call = call
        self._calls: dict[int, FedCall] = {}
        self._numbers = count(1)
        self._loop = asyncio.get_running_loop()
        self._worn_s = self._loop.time() + _RENEWED_S
        self._heard_s = 0.0
        self._num_bytes = 0
        self._reading = self._loop.create_task(self._read())

    @property
    def is_over(self) -> bool:
        """Whether it takes no more generations."""
        now_s = self._loop.time()
        is_worn = now_s > self._worn_s or self._num_bytes > _RENEWED_BYTES
        return self.has_ended or is_worn or (self.is_open and now_s > self._heard_s + _SILENCE_S)

    def next_number(self) -> int:
        return next(self._numbers)

    def join(self, number: int, call: Call) -> FedCall:
        """Let what comes of a number be a call's."""
        fed = self._calls[number] = FedCall(call, self, number)
        return fed

    def leave(self, number: int) -> None:
        self._calls.pop(number, None)
        self.end_if_left()

    def end_if_left(self) -> None:
        if self.is_over and not self._calls:
            self.end()

    def end(self) -> None:
        self.has_ended = True
        self._call.cancel()
        for call in self._calls.values():
            call.look()

    async def _read(self) -> None:
        try:
            while (data := await self._call.read()) is not None:
                response = ModelStreamInferResponse.FromString(data)
                if response.error_message:
                    raise BrokenAnswer(response.error_message)
                self.is_open = True
                self._heard_s = self._loop.time()
                self._num_bytes += len(data)
                for number, piece in decode_fed(response.infer_response):
                    if call := self._calls.get(number):
                        call.push(piece)
        except (CallFailed, DecodeError, BrokenAnswer) as error:
            if not self.has_ended:
                logger.info("a feed %s: %r", "broke off" if self.is_open else "was refused", error)
        finally:
            self.end()


class Feeds:
    """Those from one model over one connection: the newest takes generations, older ones end with theirs."""

    def __init__(self, connection: Connection, authority: str, model: str, longest_s: float) -> None:
        """`longest_s`: how long a generation may take."""
        self.connection = connection
        self._authority, self._model = authority, model
        self._deadline_s = _RENEWED_S + longest_s + LATE_S
        self._num_calls = 0
        """Generations that run, on feeds or not."""
        self._feed: Feed | None = None
        self._asked_s = -_RETRY_S
        self._idle: asyncio.TimerHandle | None = None

    @contextmanager
    def call(self, message: ModelInferRequest, timeout_s: float) -> Iterator[Call | FedCall]:
        """A generation's call: on a feed, if one is open by now; where many run it is opened for those to come.

        Raises:
            CallFailed: it could not be begun.
        """
        feed = self._feed if self._feed and self._feed.is_open and not self._feed.is_over else None
        fed = None
        self._num_calls += 1
        if self._idle is not None:
            self._idle.cancel()
        try:
            if feed is None:
                call = self._begin(message, timeout_s)
                self._open_if_needed()
                yield call
            else:
                number = feed.next_number()
                put_on_feed(message, feed.name, number)
                fed = feed.join(number, self._begin(message, timeout_s))
                yield fed
        finally:
            if fed is not None:
                fed.leave()
            self._num_calls -= 1
            if self._num_calls == 0 and self._feed is not None:
                self._idle = self.connection.loop.call_later(IDLE_S, self._feed.end)

    def _open_if_needed(self) -> None:
        if self._feed is not None:
            if not self._feed.is_over:
                return  # it will be open
            self._feed.end_if_left()
        now_s = self.connection.loop.time()
        is_refused = self._feed is not None and not self._feed.is_open
        if self._num_calls > MIN_CALLS and not (is_refused and now_s < self._asked_s + _RETRY_S):
            self._asked_s = now_s
            name = secrets.token_hex(8)
            with suppress(CallFailed):  # the connection may be left by now
                self._feed = Feed(name, self._begin(encode_feed(self._model, name), self._deadline_s))

    def _begin(self, message: ModelInferRequest, timeout_s: float) -> Call:
        headers = call_headers(self._authority, STREAM_PATH, timeout_s)
        return self.connection.call(headers, message.SerializeToString(), timeout_s)
