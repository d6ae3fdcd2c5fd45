"""The gRPC client, frame by frame: what it writes, and what it makes of whatever a server may write."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from grpc import StatusCode
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from adapter.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Call,
    CallFailed,
    Connection,
    call_headers,
)

HEAD = call_headers("triton:8001", "/a.B/C", 2.5)
Frame = tuple[int, int, int, bytes]


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, name.to_bytes(2, "big") + value.to_bytes(4, "big"))


def message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


class Wire(asyncio.Transport):
    """What was written, and a server that answers by hand."""

    def __init__(self, tcp: socket.socket) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        self._socket = tcp
        self.connection = Connection()
        self.connection.connection_made(self)
        self.encoder = Encoder()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def taken(self) -> list[Frame]:
        """The frames written since the last time."""
        frames, data = [], self.written.removeprefix(PREFACE)
        self.written = b""
        while data:
            size = int.from_bytes(data[:3], "big")
            frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
            data = data[9 + size :]
        return frames

    def says(self, *frames: bytes) -> None:
        self.connection.data_received(b"".join(frames))

    def begins(self, *settings: bytes) -> "Wire":
        self.says(*(settings or (frame(SETTINGS, 0, 0),)))
        self.taken()
        return self

    def headers(self, stream_id: int, flags: int = END_HEADERS, **fields: str) -> bytes:
        named = {name.replace("_", "-") if name[0] != "_" else ":" + name[1:]: value for name, value in fields.items()}
        return frame(HEADERS, flags, stream_id, self.encoder.encode(named.items()))

    def answer(self, stream_id: int, *contents: bytes) -> list[bytes]:
        """The frames of a whole answer."""
        return [
            self.headers(stream_id, _status="200", content_type="application/grpc"),
            *(frame(DATA, 0, stream_id, message(content)) for content in contents),
            self.headers(stream_id, END_HEADERS | END_STREAM, grpc_status="0"),
        ]

    def call(self, content: bytes = b"question", timeout_s: float = 60) -> Call:
        return self.connection.call(HEAD, content, timeout_s)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    with socket.socket() as tcp:
        yield Wire(tcp)


async def read_all(call: Call) -> list[bytes]:
    contents = []
    while (content := await call.read()) is not None:
        contents.append(content)
    return contents


async def failure(call: Call) -> tuple[StatusCode, str]:
    with pytest.raises(CallFailed) as raised:
        await read_all(call)
    return raised.value.code, raised.value.details


async def test_a_call(wire: Wire) -> None:
    assert wire.written.startswith(PREFACE)
    assert not wire.connection.takes_calls
    wire.begins()
    assert wire.connection.takes_calls
    call = wire.call()
    (kind, flags, stream_id, block), data = wire.taken()
    assert (kind, flags, stream_id) == (HEADERS, END_HEADERS, 1)
    assert dict(Decoder().decode(block)) == {
        ":method": "POST", ":scheme": "http", ":path": "/a.B/C", ":authority": "triton:8001", "te": "trailers",
        "content-type": "application/grpc", "grpc-timeout": "2500m",
    }  # fmt: skip
    assert data == (DATA, END_STREAM, 1, message(b"question"))
    wire.says(*wire.answer(1, b"one", b"", b"three"))
    assert await read_all(call) == [b"one", b"", b"three"]
    call.cancel()  # has ended already
    assert wire.taken() == []
    assert wire.call().stream_id == 3


async def test_a_read_waits(wire: Wire) -> None:
    call = wire.begins().call()
    reading = asyncio.create_task(call.read())
    await asyncio.sleep(0)
    start, first, *rest = wire.answer(1, b"first", b"second")
    wire.says(start)
    await asyncio.sleep(0)
    assert not reading.done()
    wire.says(first)
    assert await reading == b"first"
    given_up = asyncio.create_task(call.read())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    wire.says(*rest)
    assert await read_all(call) == [b"second"]  # a reader that goes away takes nothing with it


@given(st.lists(st.binary(max_size=40), max_size=4), st.lists(st.integers(1, 30), min_size=1), st.booleans())
def test_any_split_of_an_answer(contents: list[bytes], sizes: list[int], pad: bool) -> None:
    """In frames that break messages anywhere, in reads that break frames anywhere."""

    async def check(tcp: socket.socket) -> None:
        wire = Wire(tcp).begins()
        call = wire.call()
        start, *_, end = wire.answer(1)
        body = b"".join(map(message, contents))
        split = [body[i : i + sizes[0]] for i in range(0, len(body), sizes[0])]
        padded = [(bytes([3]) + part + bytes(3), PADDED) if pad else (part, 0) for part in split]
        stream = start + b"".join(frame(DATA, flags, 1, part) for part, flags in padded) + end
        for size in pieces(len(stream), sizes):
            wire.connection.data_received(stream[:size])
            stream = stream[size:]
        assert await read_all(call) == contents

    with socket.socket() as tcp:
        asyncio.run(check(tcp))


def pieces(total: int, sizes: list[int]) -> Iterator[int]:
    index = 0
    while total > 0:
        yield sizes[index % len(sizes)]
        total -= sizes[index % len(sizes)]
        index += 1


async def test_headers_in_several_frames(wire: Wire) -> None:
    call = wire.begins().call()
    start, end = wire.answer(1)
    block = start[9:]
    wire.says(
        frame(HEADERS, PADDED | PRIORITY, 1, bytes([2]) + bytes(5) + block[:4] + bytes(2)),
        frame(CONTINUATION, 0, 1, block[4:7]),
        frame(CONTINUATION, END_HEADERS, 1, block[7:]),
        end,
    )
    assert await read_all(call) == []


@pytest.mark.parametrize(
    ("fields", "code", "details"),
    [
        ({"grpc_status": "14", "grpc_message": "caf%C3%A9 %25"}, StatusCode.UNAVAILABLE, "café %"),
        ({"grpc_status": "3"}, StatusCode.INVALID_ARGUMENT, ""),
        ({"grpc_status": "99"}, StatusCode.UNKNOWN, ""),
        ({}, StatusCode.UNKNOWN, "HTTP status 200 without a gRPC status"),
        ({"_status": "503"}, StatusCode.UNAVAILABLE, "HTTP status 503 without a gRPC status"),
        ({"_status": "404"}, StatusCode.UNKNOWN, "HTTP status 404 without a gRPC status"),
    ],
)
async def test_a_bad_end(wire: Wire, fields: dict[str, str], code: StatusCode, details: str) -> None:
    call = wire.begins().call()
    wire.says(wire.headers(1, END_HEADERS | END_STREAM, **{"_status": "200"} | fields))
    assert await failure(call) == (code, details)


async def test_messages_before_a_bad_end_are_read(wire: Wire) -> None:
    call = wire.begins().call()
    wire.says(
        wire.headers(1, _status="200"),
        frame(DATA, 0, 1, message(b"one")),
        wire.headers(1, END_HEADERS | END_STREAM, grpc_status="13", grpc_message="late"),
    )
    assert await call.read() == b"one"
    assert await failure(call) == (StatusCode.INTERNAL, "late")


async def test_a_refused_status_with_a_body(wire: Wire) -> None:
    call = wire.begins().call()
    wire.says(wire.headers(1, _status="502"), frame(DATA, END_STREAM, 1, b"<html>"))
    assert (await failure(call))[0] == StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("error", "code"),
    [(0, StatusCode.INTERNAL), (2, StatusCode.INTERNAL), (7, StatusCode.UNAVAILABLE), (8, StatusCode.CANCELLED)],
)
async def test_a_reset(wire: Wire, error: int, code: StatusCode) -> None:
    call = wire.begins().call()
    wire.says(frame(RST_STREAM, 0, 1, error.to_bytes(4, "big")))
    assert (await failure(call))[0] == code
    wire.says(*wire.answer(1, b"for nobody"))


async def test_a_stream_without_a_status(wire: Wire) -> None:
    call = wire.begins().call()
    start, *_ = wire.answer(1)
    wire.says(start, frame(DATA, END_STREAM, 1, message(b"one")))
    assert await call.read() == b"one"
    assert await failure(call) == (StatusCode.INTERNAL, "the stream ended without a status")


async def test_a_cancel_reaches_the_server_and_harms_no_other_call(wire: Wire) -> None:
    wire.begins()
    left, kept = wire.call(), wire.call()
    frames = wire.answer(1, b"for nobody")
    wire.taken()
    left.cancel()
    left.cancel()
    assert wire.taken() == [(RST_STREAM, 0, 1, b"\0\0\0\x08")]
    wire.says(*frames, *wire.answer(3, b"here"))  # its headers refer to those of the call that is forgotten
    assert await read_all(kept) == [b"here"]


async def test_the_deadline(wire: Wire) -> None:
    call = wire.begins().call(timeout_s=0.01)
    assert (await failure(call))[0] == StatusCode.DEADLINE_EXCEEDED
    assert wire.taken()[-1] == (RST_STREAM, 0, 1, b"\0\0\0\x08")


async def test_a_message_larger_than_the_windows(wire: Wire) -> None:
    wire.begins(setting(INITIAL_WINDOW_SIZE, 40), setting(MAX_FRAME_SIZE, 16384))
    call = wire.call(bytes(95))  # 100 with its length
    assert [len(data) for kind, _, _, data in wire.taken() if kind == DATA] == [40]
    wire.says(frame(WINDOW_UPDATE, 0, 1, (25).to_bytes(4, "big")))
    assert [len(data) for *_, data in wire.taken()] == [25]
    wire.connection.pause_writing()
    wire.says(setting(INITIAL_WINDOW_SIZE, 60))
    assert wire.taken() == [(SETTINGS, ACK, 0, b"")]
    wire.connection.resume_writing()
    assert [(flags, len(data)) for _, flags, _, data in wire.taken()] == [(0, 20)]
    other = wire.call(b"small")
    assert len(wire.taken()) == 2  # is not held up
    wire.says(frame(WINDOW_UPDATE, 0, 1, (99).to_bytes(4, "big")))
    assert [(flags, len(data)) for _, flags, _, data in wire.taken()] == [(END_STREAM, 15)]
    wire.says(*wire.answer(1, b"a"), *wire.answer(3, b"b"))
    assert [await read_all(call), await read_all(other)] == [[b"a"], [b"b"]]


async def test_the_window_of_the_connection(wire: Wire) -> None:
    wire.begins(setting(INITIAL_WINDOW_SIZE, 10**6))
    wire.call(bytes(99_995))
    sent = [data for kind, _, _, data in wire.taken() if kind == DATA]
    assert [len(data) for data in sent] == [16384, 16384, 16384, 16383]
    wire.says(frame(WINDOW_UPDATE, 0, 0, (10**6).to_bytes(4, "big")))
    assert sum(len(data) for *_, data in wire.taken()) == 100_000 - 65_535


async def test_an_answer_before_the_whole_question(wire: Wire) -> None:
    wire.begins(setting(INITIAL_WINDOW_SIZE, 10))
    call = wire.call(bytes(100))
    wire.taken()
    wire.says(wire.headers(1, END_HEADERS | END_STREAM, _status="200", grpc_status="8", grpc_message="too large"))
    assert await failure(call) == (StatusCode.RESOURCE_EXHAUSTED, "too large")
    assert wire.taken() == [(RST_STREAM, 0, 1, b"\0\0\0\x08")]


async def test_a_server_that_goes_away(wire: Wire) -> None:
    wire.begins()
    first, second = wire.call(), wire.call()
    wire.says(frame(GOAWAY, 0, 0, (1).to_bytes(4, "big") + bytes(4)))
    assert not wire.connection.takes_calls
    assert await failure(second) == (StatusCode.UNAVAILABLE, "the server goes away")
    assert not wire.is_closed
    wire.says(*wire.answer(1, b"still"))
    assert await read_all(first) == [b"still"]
    assert wire.is_closed


async def test_a_lost_connection(wire: Wire) -> None:
    call = wire.begins().call()
    wire.connection.connection_lost(ConnectionResetError("reset"))
    assert await failure(call) == (StatusCode.UNAVAILABLE, "the connection was lost: reset")
    assert not wire.connection.takes_calls
    with pytest.raises(CallFailed, match="takes no more calls"):
        wire.call()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(70_000),
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0, b"abc"),
    ],
)
async def test_not_http2(wire: Wire, said: bytes) -> None:
    wire.says(said)
    assert not wire.connection.takes_calls
    wire.connection.connection_lost(None)
    with pytest.raises(ConnectionError):
        await wire.connection.ready


async def test_nonsense_ends_the_connection(wire: Wire) -> None:
    call = wire.begins().call()
    wire.says(frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"))
    assert wire.is_closed
    wire.connection.connection_lost(None)
    assert (await failure(call))[0] == StatusCode.UNAVAILABLE


async def test_it_answers_pings_and_knows_how_many_calls_fit(wire: Wire) -> None:
    wire.begins(setting(MAX_CONCURRENT_STREAMS, 1))
    wire.says(frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, bytes(8)))
    assert wire.taken() == [(PING, ACK, 0, b"12345678")]
    call = wire.call()
    assert not wire.connection.takes_calls
    wire.says(*wire.answer(1))
    assert await read_all(call) == []
    assert wire.connection.takes_calls


async def test_the_window_is_renewed(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.http2._RENEWED", 100)
    wire.begins().call()
    wire.taken()
    start, *_ = wire.answer(1)
    wire.says(start, frame(DATA, 0, 1, message(bytes(60))))
    assert wire.taken() == []
    wire.says(frame(DATA, 0, 1, message(bytes(60))))
    assert wire.taken() == [(WINDOW_UPDATE, 0, 0, (130).to_bytes(4, "big"))]
