"""Keeps a number of streams of server-sent events busy for some seconds, in a process of its own.

Usage: python -m benchmarks.sse_load HOST:PORT PATH CONCURRENCY SECONDS SPREAD TOKEN, with the request's body on stdin.
The streams begin one after the other within SPREAD seconds. It prints as a line of JSON, of each whole answer, its
start, and the time and number of tokens of each event, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import uvloop

END = b"0\r\n\r\n"


@dataclass
class Answer:
    start_s: float
    times_s: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection: as soon as an answer is whole, the same request again."""

    def __init__(self, request: bytes, token: bytes, until_s: float, ended: asyncio.Future[list[Answer]]) -> None:
        self._request, self._token, self._until_s, self._ended = request, token, until_s, ended
        self._answers: list[Answer] = []
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._ask()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        answer = self._answers[-1]
        for event in data.split(b"\n\n"):
            if num_tokens := event.count(self._token):
                answer.times_s.append(now)
                answer.num_tokens.append(num_tokens)
        self._tail = (self._tail + data)[-len(END) :]
        if self._tail == END:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc or ConnectionError("the server closed a connection"))

    def _ask(self) -> None:
        if time.perf_counter() >= self._until_s:
            self._ended.set_result(self._answers)
            self._transport.close()
            return
        self._answers.append(Answer(time.perf_counter()))
        self._tail = b""
        self._transport.write(self._request)


async def load(
    address: str, path: str, body: bytes, concurrency: int, seconds: float, spread_s: float, token: bytes
) -> list[Answer]:
    """Answers that were begun within `seconds`, by streams that begin within `spread_s`."""
    host, _, port = address.rpartition(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    until_s = started_s + seconds
    ended = [loop.create_future() for _ in range(concurrency)]
    for number, future in enumerate(ended):
        await asyncio.sleep(started_s + spread_s * number / concurrency - time.perf_counter())
        client = Client(head.encode() + body, token, until_s, future)
        await loop.create_connection(lambda client=client: client, host, int(port))
    return [answer for answers in await asyncio.gather(*ended) for answer in answers]


def main() -> None:
    address, path, concurrency, seconds, spread_s, token = sys.argv[1:]
    body = sys.stdin.buffer.read()
    answers = uvloop.run(load(address, path, body, int(concurrency), float(seconds), float(spread_s), token.encode()))
    for answer in answers:  # in lines: a pipe takes no more than 64 KiB for certain
        print(json.dumps([answer.start_s, answer.times_s, answer.num_tokens]))


if __name__ == "__main__":
    main()
