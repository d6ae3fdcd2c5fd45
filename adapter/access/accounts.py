"""Whether a key may go on where there is no request of its own: in a job."""

from collections.abc import Sequence

from adapter.access.keyring import Keyring
from adapter.access.ledger import Ledger
from adapter.access.store import Charge


class Accounts:
    def __init__(self, keyring: Keyring, ledger: Ledger) -> None:
        self._keyring = keyring
        self._ledger = ledger

    async def check(self, key_id: str) -> None:
        """
        Raises:
            InvalidKey: the key was revoked meanwhile.
            InsufficientQuota: nothing is left of its budget.
            KeysUnavailable: nobody can tell now.
        """
        await self._ledger.check(await self._keyring.by_id(key_id))

    async def charge(self, charges: Sequence[Charge]) -> None:
        await self._ledger.charge(charges)
