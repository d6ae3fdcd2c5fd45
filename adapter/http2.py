"""gRPC over HTTP/2 in the event loop itself: one connection, many calls (RFC 9113, gRPC's PROTOCOL-HTTP2).

grpcio receives in a thread of its own, and wakes the event loop for each message: nearly half of what an event cost.
Here a message goes from the socket to who waits for it.
"""

import asyncio
import socket
import struct
from collections import deque
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

from grpc import StatusCode
from hpack import Decoder, Encoder, HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 2, 3, 4, 5
CANCEL = 8

_MAX_WINDOW = 2**31 - 1
"""No answer has as many bytes, so that a stream's window is never made larger; the connection's is."""
_RENEWED = 2**30
"""Bytes received after which the connection's window is made what it was."""
_SILENCE_S = 8
"""After which an idle peer is asked whether it is there; in the same time again it has to answer."""
_LAST_ID = 2**31 - 1
_HEAD = struct.Struct(">HBBBI")
"""Length in two parts, kind, flags, stream."""
_SETTING = struct.Struct(">HI")
_CODES = {str(code.value[0]): code for code in StatusCode}
_RESETS = {
    0: StatusCode.INTERNAL,
    7: StatusCode.UNAVAILABLE,
    8: StatusCode.CANCELLED,
    11: StatusCode.RESOURCE_EXHAUSTED,
}
_AWAY = {"429", "502", "503", "504"}
"""HTTP statuses of a proxy whose server is not there."""


class CallFailed(Exception):
    """A call that ended otherwise than well."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@lru_cache(maxsize=64)
def call_headers(authority: str, path: str, timeout_s: float) -> bytes:
    """The encoded headers of a call. They never enter the compression's table, so that they are always the same."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": f"{int(timeout_s * 1000)}m" if timeout_s < 10**5 else f"{int(timeout_s)}S",
    }
    return Encoder().encode([(name, value, True) for name, value in fields.items()])


class Call:
    """One message there, and any number back."""

    def __init__(self, connection: "Connection", stream_id: int, message: bytes, window: int, timeout_s: float) -> None:
        self.stream_id = stream_id
        self.unsent = memoryview(b"\0" + len(message).to_bytes(4, "big") + message)
        self.window = window
        """Bytes that the server still takes of this call."""
        self._connection = connection
        self._messages: deque[bytes] = deque()
        self._part = bytearray()
        """The beginning of a message, and how many bytes it takes to go on with it."""
        self._num_needed = 0
        self._has_ended = False
        self._failure: CallFailed | None = None
        self._waiter: asyncio.Future[None] | None = None
        late = CallFailed(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        self._timer = connection.loop.call_later(timeout_s, self.cancel, late)

    async def read(self) -> bytes | None:
        """The next message; None after the last.

        Raises:
            CallFailed: at the end of a call that did not end well.
        """
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return None
            await self.news()
        return self._messages.popleft()

    @property
    def has_news(self) -> bool:
        """Whether `read` returns, or raises, at once."""
        return bool(self._messages) or self._has_ended

    def news(self) -> asyncio.Future[None]:
        """Done with the next message, the end, or `wake`; for one to wait for."""
        self._waiter = self._connection.loop.create_future()
        return self._waiter

    def cancel(self, failure: CallFailed | None = None) -> None:
        """End it on both sides, if it has not ended."""
        if not self._has_ended:
            self._connection.reset(self)
            self.end(failure)

    def receive(self, data: bytes) -> None:
        """Take in messages: of each a zero, since none is compressed, its length in four bytes, and itself."""
        if not self._part and len(data) >= 5 and int.from_bytes(data[1:5], "big") == len(data) - 5:  # as it mostly is
            self._messages.append(data[5:])
            self.wake()
            return
        if self._part:
            self._part += data
            if len(self._part) < self._num_needed:
                return
            data = bytes(self._part)
        start = 0
        while (start_of_message := start + 5) <= len(data):
            end = start_of_message + int.from_bytes(data[start + 1 : start_of_message], "big")
            if end > len(data):
                break
            self._messages.append(data[start_of_message:end])
            start = end
        self._part = bytearray(data[start:])
        self._num_needed = 5 + int.from_bytes(data[start + 1 : start + 5], "big") if len(self._part) >= 5 else 5
        if start:
            self.wake()

    def end(self, failure: CallFailed | None = None) -> None:
        self._has_ended = True
        self._failure = failure
        self._timer.cancel()
        self.wake()

    def wake(self) -> None:
        """Let who waits for news look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """The client's side of a connection. `ready` is done once the server has spoken HTTP/2."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self._calls: dict[int, Call] = {}
        self._sending: dict[Call, None] = {}
        """Those whose message is not sent."""
        self._next_id = 1
        self._max_calls = _LAST_ID
        self._is_leaving = False
        """Whether it takes no more calls."""
        self._window = self._initial_window = 65535
        self._max_frame = 16384
        self._is_paused = False
        self._num_received = 0
        self._rest = b""
        self._decoder = Decoder()
        self._headers = bytearray()
        self._headers_of: tuple[int, bool] | None = None
        """Stream of headers that go on in the next frame, and whether it ends with them."""

    @property
    def takes_calls(self) -> bool:
        return self.ready.done() and not self._is_leaving and len(self._calls) < self._max_calls

    def call(self, headers: bytes, message: bytes, timeout_s: float) -> Call:
        """Begin a call.

        Raises:
            CallFailed: the connection was lost, or is being left.
        """
        if self._is_leaving:
            raise CallFailed(StatusCode.UNAVAILABLE, "the connection takes no more calls")
        call = Call(self, self._next_id, message, self._initial_window, timeout_s)
        self._next_id += 2
        self._is_leaving |= self._next_id > _LAST_ID
        self._calls[call.stream_id] = call
        self._sending[call] = None
        self._send(_frame(HEADERS, END_HEADERS, call.stream_id, headers))
        return call

    def reset(self, call: Call) -> None:
        """Tell the server that nobody waits for a call, and forget it."""
        if self._calls.get(call.stream_id) is call:
            self._transport.write(_frame(RST_STREAM, 0, call.stream_id, CANCEL.to_bytes(4, "big")))
            self._forget(call)

    def leave(self) -> None:
        """Take no more calls, and close when the last one has ended."""
        self._is_leaving = True
        if not self._calls:
            self._transport.close()

    def close(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        _notice_a_dead_peer(self._transport)
        settings = _SETTING.pack(ENABLE_PUSH, 0) + _SETTING.pack(INITIAL_WINDOW_SIZE, _MAX_WINDOW)
        window = (_MAX_WINDOW - 65535).to_bytes(4, "big")
        self._transport.write(PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, window))

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_leaving = True
        failure = CallFailed(StatusCode.UNAVAILABLE, f"the connection was lost: {exc or 'closed by the server'}")
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(failure.details))
        for call in list(self._calls.values()):
            self._forget(call)
            call.end(failure)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._send()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        start, size = 0, len(data)
        try:
            while size - start >= 9:
                high, low, kind, flags, stream_id = _HEAD.unpack_from(data, start)
                end = start + 9 + (high << 8 | low)
                if end > size:
                    break
                self._receive(kind, flags, stream_id & _LAST_ID, data[start + 9 : end])
                start = end
        except (HPACKError, ValueError, LookupError, struct.error) as error:
            self._is_leaving = True
            if not self.ready.done():
                self.ready.set_exception(ConnectionError(f"it does not speak HTTP/2: {error}"))
            self._transport.abort()
        self._rest = data[start:]

    def _receive(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take in a frame."""
        if (self._headers_of is not None) != (kind == CONTINUATION):
            raise ValueError("headers break off")
        if not self.ready.done() and kind != SETTINGS:
            raise ValueError("no settings")
        if kind == DATA:
            self._on_data(flags, stream_id, payload)
        elif kind in (HEADERS, CONTINUATION):
            self._on_headers(kind, flags, stream_id, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._on_settings(payload)
        elif kind == WINDOW_UPDATE:
            self._on_window(stream_id, int.from_bytes(payload, "big"))
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            code = int.from_bytes(payload, "big")
            failure = CallFailed(_RESETS.get(code, StatusCode.INTERNAL), f"the stream was reset with error {code}")
            self._end(stream_id, failure)
        elif kind == GOAWAY:
            self._on_goaway(int.from_bytes(payload[:4], "big") & _LAST_ID)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._num_received += len(payload)
        if self._num_received > _RENEWED:
            self._transport.write(_frame(WINDOW_UPDATE, 0, 0, self._num_received.to_bytes(4, "big")))
            self._num_received = 0
        call = self._calls.get(stream_id)
        if call is not None:
            call.receive(payload[1 : len(payload) - payload[0]] if flags & PADDED else payload)
            if flags & END_STREAM:
                self._end(stream_id, CallFailed(StatusCode.INTERNAL, "the stream ended without a status"))

    def _on_headers(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == HEADERS:
            if flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            self._headers = bytearray(payload[5:] if flags & PRIORITY else payload)
            self._headers_of = stream_id, bool(flags & END_STREAM)
        else:
            self._headers += payload
        if flags & END_HEADERS:
            assert self._headers_of is not None
            stream_id, is_end = self._headers_of
            self._headers_of = None
            # Even those of calls that are forgotten: later ones refer to them.
            headers = {str(name): str(value) for name, value in self._decoder.decode(bytes(self._headers))}
            if is_end or headers.get(":status", "200") != "200":
                self._end(stream_id, _failure(headers))

    def _on_settings(self, payload: bytes) -> None:
        for name, value in _SETTING.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
            elif name == MAX_FRAME_SIZE:
                self._max_frame = value
            elif name == MAX_CONCURRENT_STREAMS:
                self._max_calls = value
        self._transport.write(_frame(SETTINGS, ACK, 0, b""))
        if not self.ready.done():
            self.ready.set_result(None)
        self._send()

    def _on_window(self, stream_id: int, num_bytes: int) -> None:
        if stream_id == 0:
            self._window += num_bytes
        elif stream_id in self._calls:
            self._calls[stream_id].window += num_bytes
        self._send()

    def _on_goaway(self, last_id: int) -> None:
        for stream_id in [stream_id for stream_id in self._calls if stream_id > last_id]:
            self._end(stream_id, CallFailed(StatusCode.UNAVAILABLE, "the server goes away"))
        self.leave()

    def _end(self, stream_id: int, failure: CallFailed | None) -> None:
        """The server has ended a call."""
        call = self._calls.get(stream_id)
        if call is not None:
            if call.unsent:
                self.reset(call)
            self._forget(call)
            call.end(failure)

    def _forget(self, call: Call) -> None:
        self._calls.pop(call.stream_id, None)
        self._sending.pop(call, None)
        if self._is_leaving and not self._calls:
            self._transport.close()

    def _send(self, first: bytes = b"") -> None:
        """Write `first`, and of the messages that wait as much as the server takes."""
        frames = [first] if first else []
        for call in list(self._sending):
            while call.unsent and not self._is_paused:
                size = min(len(call.unsent), call.window, self._window, self._max_frame)
                if size <= 0:
                    break
                part, call.unsent = call.unsent[:size], call.unsent[size:]
                frames.append(_frame(DATA, 0 if call.unsent else END_STREAM, call.stream_id, bytes(part)))
                call.window -= size
                self._window -= size
            if not call.unsent:
                del self._sending[call]
        if frames:
            self._transport.write(b"".join(frames))


def _notice_a_dead_peer(transport: asyncio.Transport) -> None:
    """Lose a connection whose other end is silent, where the system can tell."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with socket.fromfd(transport.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (socket.TCP_KEEPIDLE, _SILENCE_S), (socket.TCP_KEEPINTVL, _SILENCE_S // 4),
                (socket.TCP_KEEPCNT, 4), (socket.TCP_USER_TIMEOUT, 2000 * _SILENCE_S),
            ):  # fmt: skip
                tcp.setsockopt(socket.IPPROTO_TCP, option, value)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream_id) + payload


def _failure(headers: dict[str, str]) -> CallFailed | None:
    """What the headers at a call's end say; None if it ended well."""
    status = headers.get("grpc-status")
    if status == "0":
        return None
    if status is None:
        http_status = headers.get(":status")
        code = StatusCode.UNAVAILABLE if http_status in _AWAY else StatusCode.UNKNOWN
        return CallFailed(code, f"HTTP status {http_status} without a gRPC status")
    return CallFailed(_CODES.get(status, StatusCode.UNKNOWN), unquote(headers.get("grpc-message", "")))
