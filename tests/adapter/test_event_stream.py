"""How a stream of events goes to the server."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from adapter.request_log import RequestRecord
from adapter.sse import DONE, EventStream, StraightEvents


def test_events_pass_no_middleware_but_the_first_and_the_last_do() -> None:
    noticed: list[Message] = []

    async def events() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def noticing_send(message: Message) -> None:
            noticed.append(message)
            await send(message)

        await EventStream(events())(scope, receive, noticing_send)

    sent = asyncio.run(_answer(StraightEvents(middleware)))
    assert [message.get("body") for message in sent] == [None, b"data: 1\n\n", b"data: 2\n\n", DONE]
    assert noticed == [sent[0], sent[-1]]


async def _answer(app: StraightEvents) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "state": {"record": RequestRecord("id")}}
    await app(scope, receive, send)
    return sent
