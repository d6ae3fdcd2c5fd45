"""Requests and tokens per minute: counted in fixed windows, each begun by the first request in it."""

import math
import time
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from adapter.access.errors import RatesUnavailable
from adapter.access.keys import KeyLimits

Kind: TypeAlias = Literal["requests", "tokens"]

MEMORY: Final = "memory://"
_REDIS_TIMEOUT_S = 2.0

RATE_HEADERS = [f"x-ratelimit-{name}-{kind}" for kind in get_args(Kind) for name in ("limit", "remaining", "reset")]


@dataclass(frozen=True, slots=True)
class Window:
    """What is left of one limit in the current minute."""

    kind: Kind
    limit: int
    remaining: int
    reset_s: int
    """Seconds until it is whole again."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        minutes, seconds = divmod(self.reset_s, 60)
        values = {
            "limit": str(self.limit),
            "remaining": str(self.remaining),
            "reset": f"{minutes}m{seconds}s" if minutes else f"{seconds}s",
        }
        return [(f"x-ratelimit-{name}-{self.kind}".encode(), value.encode()) for name, value in values.items()]


class Rates:
    """Raises `RatesUnavailable`. `client_id` is a key's id, or an address where there are no keys."""

    def __init__(self, storage_url: str) -> None:
        self._pool: ConnectionPool | None = None
        options: dict[str, Any] = {}
        if storage_url != MEMORY:
            self._pool = ConnectionPool.from_url(
                storage_url,
                socket_connect_timeout=_REDIS_TIMEOUT_S,
                socket_timeout=_REDIS_TIMEOUT_S,
                retry=Retry(NoBackoff(), 1),  # once, for a connection that was closed meanwhile
            )
            options = {"implementation": "redispy", "connection_pool": self._pool}
        storage = storage_from_string(f"async+{storage_url}", wrap_exceptions=True, **options)
        assert isinstance(storage, Storage), "async+ asks for one"
        self._limiter = FixedWindowRateLimiter(storage)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()

    async def count_request(self, client_id: str, limits: KeyLimits) -> bool:
        """False: it is one too many."""
        return await self._hit("requests", client_id, limits.requests_per_minute, 1)

    async def count_tokens(self, client_id: str, limits: KeyLimits, num_tokens: int) -> None:
        """Those of a request that has ended; they may be more than were left."""
        await self._hit("tokens", client_id, limits.tokens_per_minute, num_tokens)

    async def windows(self, client_id: str, limits: KeyLimits) -> dict[Kind, Window]:
        """Of the limits that there are."""
        given: dict[Kind, int | None] = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        return {kind: await self._window(kind, client_id, limit) for kind, limit in given.items() if limit is not None}

    async def _hit(self, kind: Kind, client_id: str, limit: int | None, cost: int) -> bool:
        if limit is None or cost == 0:
            return True
        try:
            return await self._limiter.hit(_item(limit), client_id, kind, cost=cost)
        except StorageError as error:
            raise RatesUnavailable(f"{error.storage_error!r}") from error

    async def _window(self, kind: Kind, client_id: str, limit: int) -> Window:
        try:
            reset_time_s, remaining = await self._limiter.get_window_stats(_item(limit), client_id, kind)
        except StorageError as error:
            raise RatesUnavailable(f"{error.storage_error!r}") from error
        return Window(kind, limit, remaining, max(0, math.ceil(reset_time_s - time.time())))


def _item(limit: int) -> RateLimitItem:
    return RateLimitItemPerMinute(limit, namespace="deepseek-on-triton")
