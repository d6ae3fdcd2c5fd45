"""Whose key a request carries: those of the settings, and those of the database as it now is."""

import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers

from adapter.access.async_store import AsyncKeyStore
from adapter.access.errors import InvalidKey
from adapter.access.keys import Key, digest_of
from adapter.access.store import KeyStore

REFRESH_S: Final = 1.0
"""How old what is known of the database may be: so long a revoked key may still be let in."""

_HOW = "send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"


@dataclass(frozen=True, slots=True)
class _Known:
    """The database's keys at one time."""

    keys: Sequence[Key]
    had_keys: bool
    """Whether there ever was one: to revoke the last must not open the server."""
    until_s: float


class Keyring:
    def __init__(
        self, store: AsyncKeyStore, configured: Sequence[Key], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._configured = configured
        self._clock = clock
        self._known: _Known | None = None

    async def find(self, headers: Headers, *, required: bool = False) -> Key | None:
        """None where keys are not asked for, `required` or not there at all.

        Raises:
            InvalidKey: none is given, or it is unknown or revoked.
            KeysUnavailable: the database is there, and can't be read.
        """
        known = await self.load()
        if not (required or self._configured or known.had_keys):
            return None
        presented = _presented(headers)
        if presented is None:
            raise InvalidKey(f"This server asks for an API key; {_HOW}.")
        # All are compared, in constant time each: how long it takes says nothing about any.
        digest = digest_of(presented)
        found = [key for key in (*self._configured, *known.keys) if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise InvalidKey(f"The API key is unknown or revoked; ask the server's operator for one, and {_HOW}.")
        return found[0]

    async def by_id(self, key_id: str) -> Key:
        """Raises `InvalidKey`, of a key that was let in once, or `KeysUnavailable`."""
        known = await self.load()
        for key in (*self._configured, *known.keys):
            if key.id == key_id:
                return key
        raise InvalidKey("The API key that asked for this is revoked; ask the server's operator for another.")

    async def load(self) -> _Known:
        """Raises `KeysUnavailable`."""
        now_s = self._clock()
        if self._known is not None and now_s < self._known.until_s:
            return self._known
        if self._configured or self._store.is_there():
            await self._store.ensure_open()
            stored = await self._store.call(KeyStore.all_keys)
        else:
            stored = []
        valid = [entry.key for entry in stored if entry.revoked_s is None]
        self._known = _Known(valid, bool(stored), now_s + REFRESH_S)
        return self._known


def _presented(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None
