"""Stops work that nobody waits for any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from adapter.errors import ClientDisconnected

T = TypeVar("T")


async def cancel_on_disconnect(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Run `work` to its end; if the client goes away first, cancel it at once and raise `ClientDisconnected`.

    The request's body must have been read: what `receive` gives after it is the disconnect.
    """
    worker, is_gone = asyncio.current_task(), False
    assert worker is not None

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        worker.cancel()

    watcher = asyncio.create_task(watch())
    try:
        result = await work
    except BaseException:
        if is_gone:
            raise ClientDisconnected from None
        raise
    finally:
        watcher.cancel()
    if is_gone:
        raise ClientDisconnected
    return result
