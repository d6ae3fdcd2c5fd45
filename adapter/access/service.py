"""Puts keys, limits and budgets together."""

import logging
from pathlib import Path

from adapter.access.accounts import Accounts
from adapter.access.async_store import AsyncKeyStore
from adapter.access.errors import KeysUnavailable
from adapter.access.keyring import Keyring
from adapter.access.keys import configured
from adapter.access.ledger import Ledger
from adapter.access.meter import Meter
from adapter.access.rates import Rates
from adapter.settings import Settings

logger = logging.getLogger(__name__)


class AccessService:
    """`start` before the first request; `stop` after the last has ended."""

    def __init__(self, settings: Settings) -> None:
        self._store = AsyncKeyStore(Path(settings.keys_db))
        defaults = settings.key_limits
        self.keyring = Keyring(self._store, configured(settings.api_key or ()))
        self.ledger = Ledger(self._store, defaults)
        self.accounts = Accounts(self.keyring, self.ledger)
        self._rates = Rates(settings.rate_limit_storage)
        self.meter = Meter(self._rates, self.ledger, defaults, settings.retry_after_s)

    async def start(self) -> None:
        """A database that can't be opened lets nobody in: it is said here, and tried again by every request."""
        try:
            await self.keyring.load()
        except KeysUnavailable as error:
            logger.error("nobody is let in: %s", error.cause)

    async def stop(self) -> None:
        await self._rates.close()
        await self._store.close()
