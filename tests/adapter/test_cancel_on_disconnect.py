import asyncio

import pytest
from starlette.types import Message

from adapter.disconnect import cancel_on_disconnect
from adapter.errors import ClientDisconnected

GONE = {"type": "http.disconnect"}


async def stay() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def leave() -> Message:
    return GONE


async def work_long(steps: list[str]) -> None:
    try:
        await asyncio.sleep(10)
    finally:
        await asyncio.sleep(0.01)
        steps.append("the work has ended")


def test_the_works_result_and_its_errors_come_through() -> None:
    async def succeed() -> int:
        return 1

    async def fail() -> int:
        raise KeyError("no")

    assert asyncio.run(cancel_on_disconnect(succeed(), stay)) == 1
    with pytest.raises(KeyError, match="no"):
        asyncio.run(cancel_on_disconnect(fail(), stay))


def test_who_is_cancelled_waits_for_the_works_end() -> None:
    steps: list[str] = []

    async def cancel() -> None:
        waiting = asyncio.create_task(cancel_on_disconnect(work_long(steps), stay))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        steps.append("who waited knows")

    asyncio.run(cancel())
    assert steps == ["the work has ended", "who waited knows"]


def test_a_client_that_goes_ends_the_work() -> None:
    steps: list[str] = []

    with pytest.raises(ClientDisconnected):
        asyncio.run(cancel_on_disconnect(work_long(steps), leave))
    assert steps == ["the work has ended"]


def test_work_that_is_done_when_the_client_goes_counts() -> None:
    async def both() -> int:
        is_done = asyncio.Event()

        async def work() -> int:
            is_done.set()
            return 1

        async def leave_then() -> Message:
            await is_done.wait()
            return GONE

        return await cancel_on_disconnect(work(), leave_then)

    assert asyncio.run(both()) == 1
