"""The key store as the event loop calls it."""

from pathlib import Path

from adapter.access.database import KeyStoreError
from adapter.access.errors import KeysUnavailable
from adapter.access.store import KeyStore
from adapter.storage.store_thread import StoreThread


class AsyncKeyStore(StoreThread[KeyStore]):
    """Raises `KeysUnavailable`.

    The file is made by the first key, or where keys of the settings are to be charged: a server that asks nobody for a
    key needs none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__("keys-store", lambda: KeyStore(path), KeysUnavailable)

    def is_there(self) -> bool:
        return self.is_open or self._path.exists()

    async def ensure_open(self) -> None:
        if self.is_open:
            return
        try:
            await self.open()
        except KeyStoreError as error:
            raise KeysUnavailable(str(error)) from error
