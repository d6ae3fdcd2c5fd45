"""Stops work that nobody waits for any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from adapter.errors import ClientDisconnected

T = TypeVar("T")


async def cancel_on_disconnect(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Run `work` to its end; if the client goes away first, cancel it at once and raise `ClientDisconnected`.

    The request's body must have been read: what `receive` gives after it is the disconnect. The work is a task of its
    own: each time it goes on, it would else do so through all that stands around a request, twenty coroutines.
    """
    worker, is_gone = asyncio.create_task(work), False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        if not worker.done():  # that an answer is complete is told like that too
            is_gone = True
            worker.cancel()

    watcher = asyncio.create_task(watch())
    try:
        result = await worker
    except BaseException:
        if is_gone:
            raise ClientDisconnected from None
        raise
    finally:
        watcher.cancel()
    if is_gone:
        raise ClientDisconnected
    return result
