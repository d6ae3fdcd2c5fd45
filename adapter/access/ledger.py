"""What keys have used, and what is left of their budgets."""

import logging
from collections.abc import Sequence

from adapter.access.async_store import AsyncKeyStore
from adapter.access.errors import InsufficientQuota, KeysUnavailable
from adapter.access.keys import Key, KeyLimits
from adapter.access.store import Charge, KeyStore

logger = logging.getLogger(__name__)


class Ledger:
    def __init__(self, store: AsyncKeyStore, defaults: KeyLimits) -> None:
        """`defaults` are the limits of a key that has none of its own."""
        self._store = store
        self._defaults = defaults

    async def left(self, key: Key) -> int | None:
        """Tokens; None where the key has no budget. Raises `KeysUnavailable`."""
        budget_tokens = key.limits.over(self._defaults).budget_tokens
        if budget_tokens is None:
            return None
        await self._store.ensure_open()
        return max(0, budget_tokens - await self._store.call(KeyStore.spent, key.id))

    async def check(self, key: Key) -> None:
        """Raises `InsufficientQuota` where nothing is left, or `KeysUnavailable`."""
        if await self.left(key) == 0:
            raise InsufficientQuota(
                "Insufficient Balance: this key's token budget is spent; ask the server's operator for another."
            )

    async def charge(self, charges: Sequence[Charge]) -> None:
        """What can't be written is logged, with all that it takes to add it by hand: the answer is out already."""
        try:
            await self._store.ensure_open()
            await self._store.call(KeyStore.charge, charges)
        except KeysUnavailable as error:
            for charge in charges:
                logger.error("not charged: %s: %s", charge, error.cause)
