"""Admits requests that use the models, as far as their key's limits and budget go, and charges what they used."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from adapter.access.errors import RateLimited, RatesUnavailable
from adapter.access.keys import Key, KeyLimits
from adapter.access.ledger import Ledger
from adapter.access.rates import Kind, Rates, Window
from adapter.access.rules import Use
from adapter.access.store import Charge
from adapter.request_log import RequestRecord
from adapter.tensors import Usage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: a key or, where there are none, an address."""

    id: str
    limits: KeyLimits
    key: Key | None


class Meter:
    def __init__(self, rates: Rates, ledger: Ledger, defaults: KeyLimits, retry_after_s: int) -> None:
        """`retry_after_s` is for clients with too many requests at once: nobody knows when one of them ends."""
        self.rates = rates
        self.ledger = ledger
        self.retry_after_s = retry_after_s
        self.num_running: Counter[str] = Counter()
        """By client."""
        self._defaults = defaults

    def visit(self, key: Key | None, address: str, use: Use) -> "Visit | None":
        """None: nothing is counted."""
        if key is None:
            is_limited = self._defaults != KeyLimits()
            return Visit(self, Client(address, self._defaults, None), use) if is_limited else None
        return Visit(self, Client(key.id, key.limits.over(self._defaults), key), use)


class Visit:
    """One request: `begin`, and in any case `end`."""

    def __init__(self, meter: Meter, client: Client, use: Use) -> None:
        self._meter = meter
        self._client = client
        self._use = use
        self._is_running = False
        self._end: asyncio.Task[None] | None = None
        self._windows: dict[Kind, Window] = {}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """`x-ratelimit-*`, as far as there are limits and they could be read."""
        return [header for window in self._windows.values() for header in window.headers]

    @property
    def counts_tokens(self) -> bool:
        is_limited = self._client.key is not None or self._client.limits.tokens_per_minute is not None
        return is_limited and self._use == "tokens"

    async def begin(self) -> None:
        """Raises `RateLimited`, `InsufficientQuota`, `RatesUnavailable` or `KeysUnavailable`."""
        rates, client = self._meter.rates, self._client
        self._windows = await rates.windows(client.id, client.limits)
        self._enter()
        if self._use == "tokens":
            await self._check_tokens()
        is_admitted = await rates.count_request(client.id, client.limits)
        self._windows = await rates.windows(client.id, client.limits)
        if not is_admitted:
            raise self._limited(self._windows["requests"])

    async def end(self, record: RequestRecord) -> None:
        """Charge what was generated, and make room for the client's next request; only the first call does.

        It is carried through, also when the caller is cancelled.
        """
        if self._end is None:
            self._end = asyncio.create_task(self._charge(record))
        await asyncio.shield(self._end)

    async def _charge(self, record: RequestRecord) -> None:
        if not self._is_running:
            return
        self._leave()
        usage = record.usage or Usage()
        num_tokens = usage.num_input_tokens + usage.num_output_tokens
        if num_tokens == 0:
            return
        client = self._client
        if client.key is not None:
            await self._meter.ledger.charge([Charge(client.key.id, record.id, usage)])
        try:
            await self._meter.rates.count_tokens(client.id, client.limits, num_tokens)
        except RatesUnavailable as error:  # the answer is out already
            logger.error("%s: its tokens are not counted: %s", record.id, error.cause)

    def _enter(self) -> None:
        running, limit = self._meter.num_running, self._client.limits.max_concurrent_requests
        if limit is not None and running[self._client.id] >= limit:
            text = f"Too many requests are running, at most {limit} at once may; wait for one to end."
            raise RateLimited(text, self._meter.retry_after_s)
        running[self._client.id] += 1
        self._is_running = True

    def _leave(self) -> None:
        self._is_running = False
        running = self._meter.num_running
        running[self._client.id] -= 1
        if running[self._client.id] == 0:
            del running[self._client.id]  # addresses are many

    async def _check_tokens(self) -> None:
        if self._client.key is not None:
            await self._meter.ledger.check(self._client.key)
        if (tokens := self._windows.get("tokens")) and tokens.remaining == 0:
            raise self._limited(tokens)

    def _limited(self, window: Window) -> RateLimited:
        text = f"The limit of {window.limit} {window.kind} per minute is reached; try again in {window.reset_s} s."
        return RateLimited(text, max(1, window.reset_s))
