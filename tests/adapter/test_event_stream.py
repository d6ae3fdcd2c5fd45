"""How a stream of events goes to the server, and what its middleware sees of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from starlette.types import Message, Receive, Scope, Send

from adapter.errors import ClientDisconnected
from adapter.request_log import RequestRecord
from adapter.sse import DONE, KEEP_ALIVE, EventStream, StraightEvents


class Recorder:
    """An app that streams, with what its middleware noticed and what came to the server."""

    def __init__(self, stream: EventStream) -> None:
        self.noticed: list[Message] = []
        self.sent: list[Message] = []
        self.record = RequestRecord("id")
        self.on_sent: Callable[[Message], None] = lambda _: None
        self._stream = stream

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    async def answer(self, receive: Receive) -> None:
        scope = {"type": "http", "state": {"record": self.record}}
        await StraightEvents(self._middleware)(scope, receive, self._send)

    async def _middleware(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noticing_send(message: Message) -> None:
            self.noticed.append(message)
            await send(message)

        await self._stream(scope, receive, noticing_send)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self.on_sent(message)


async def two_events(pause_s: float = 0.0) -> AsyncGenerator[bytes, None]:
    await asyncio.sleep(pause_s)
    yield b"data: 1\n\n"
    yield b"data: 2\n\n"


async def stay() -> Message:
    """A client that does not go away."""
    await asyncio.Event().wait()
    raise AssertionError


def test_events_pass_no_middleware_but_the_start_and_the_ending_do() -> None:
    recorder = Recorder(EventStream(two_events()))
    asyncio.run(recorder.answer(stay))
    assert recorder.bodies == [b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert recorder.noticed == [recorder.sent[0], recorder.sent[-1]]


def test_a_sign_of_life_may_be_the_first_to_come() -> None:
    recorder = Recorder(EventStream(two_events(pause_s=0.1), silence_s=0.01))
    asyncio.run(recorder.answer(stay))
    assert recorder.bodies[0] == KEEP_ALIVE
    assert recorder.bodies[-3:] == [b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert recorder.noticed == [recorder.sent[0], recorder.sent[-1]]


def test_a_server_that_stops_at_the_very_end_ends_a_stream_once() -> None:
    recorder = Recorder(EventStream(two_events()))

    async def answer() -> None:
        answering = asyncio.create_task(recorder.answer(stay))
        recorder.on_sent = lambda message: answering.cancel() if message.get("body") == DONE else None
        await answering

    asyncio.run(answer())
    assert recorder.bodies == [b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert recorder.record.error_code is None


def test_a_server_that_stops_in_the_middle_ends_a_stream_with_an_error() -> None:
    recorder = Recorder(EventStream(two_events(pause_s=10), silence_s=0.01))

    async def answer() -> None:
        answering = asyncio.create_task(recorder.answer(stay))
        recorder.on_sent = lambda message: answering.cancel() if message.get("body") == KEEP_ALIVE else None
        await answering

    asyncio.run(answer())
    assert b"error" in recorder.bodies[-1]
    assert recorder.noticed[-1] == recorder.sent[-1]
    assert recorder.record.error_code is not None


def test_that_the_answer_is_complete_is_no_disconnect() -> None:
    """A server tells both alike."""
    recorder = Recorder(EventStream(two_events()))

    async def answer() -> None:
        has_ended = asyncio.Event()
        recorder.on_sent = lambda message: has_ended.set() if message.get("body") == DONE else None

        async def receive() -> Message:
            await has_ended.wait()
            return {"type": "http.disconnect"}

        await recorder.answer(receive)

    asyncio.run(answer())
    assert recorder.bodies[-1] == DONE
    assert recorder.record.error_code is None


def test_a_client_that_goes_is_noted() -> None:
    recorder = Recorder(EventStream(two_events(pause_s=10)))

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(recorder.answer(leave))
    assert recorder.sent == []
    assert recorder.record.error_code == ClientDisconnected.code
