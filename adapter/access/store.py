"""Keys and charges on disk: what several adapter processes and the command line share."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from adapter.access.database import open_database
from adapter.access.keys import Key, KeyLimits
from adapter.storage.database import transaction
from adapter.tensors import Usage

_LIMITS = ", ".join(field.name for field in fields(KeyLimits))


@dataclass(frozen=True, slots=True)
class StoredKey:
    """Times are seconds since 1970."""

    key: Key
    created_s: float
    revoked_s: float | None


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request, or one page of a job, has used."""

    key_id: str
    request_id: str
    usage: Usage
    page: int | None = None
    """Only of a job."""


class NameTaken(Exception):
    """A key of this name is in use."""


class KeyStore:
    """One connection, for one thread at a time. Every method is one transaction; raises `sqlite3.Error`."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises `KeyStoreError`."""
        self._clock = clock
        self._connection = open_database(path)
        self._spent: Counter[str] = Counter()
        self._last_counted = 0
        """The id of the last charge that is in `_spent`."""

    def close(self) -> None:
        self._connection.close()

    def add(self, key: Key) -> None:
        """Raises `NameTaken`."""
        try:
            with transaction(self._connection):
                self._connection.execute(
                    f"INSERT INTO keys (name, digest, created_s, {_LIMITS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (key.name, key.digest, self._clock(), *astuple(key.limits)),
                )
        except sqlite3.IntegrityError:
            raise NameTaken from None

    def revoke(self, name: str) -> bool:
        """False: there is no such key, or it is revoked already."""
        with transaction(self._connection):
            query = "UPDATE keys SET revoked_s = ? WHERE name = ? AND revoked_s IS NULL"
            return self._connection.execute(query, (self._clock(), name)).rowcount > 0

    def all_keys(self) -> list[StoredKey]:
        """All that there ever were, oldest first."""
        rows = self._connection.execute(
            f"SELECT name, digest, created_s, revoked_s, {_LIMITS} FROM keys ORDER BY position"
        )
        return [
            StoredKey(Key(name, digest, KeyLimits(*limits)), created_s, revoked_s)
            for name, digest, created_s, revoked_s, *limits in rows
        ]

    def charge(self, charges: Sequence[Charge]) -> None:
        """A page that was charged is not charged again."""
        with transaction(self._connection):
            self._connection.executemany(
                "INSERT INTO charges (key_id, request_id, page, num_prompt_tokens, num_completion_tokens, charged_s)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (
                        charge.key_id,
                        charge.request_id,
                        charge.page,
                        charge.usage.num_input_tokens,
                        charge.usage.num_output_tokens,
                        self._clock(),
                    )
                    for charge in charges
                ],
            )

    def spent(self, key_id: str) -> int:
        """Tokens charged so far, by whatever process: what is new since the last call is added up."""
        rows = self._connection.execute(
            "SELECT key_id, SUM(num_prompt_tokens + num_completion_tokens), MAX(id) FROM charges WHERE id > ?"
            " GROUP BY key_id",
            (self._last_counted,),
        ).fetchall()
        for charged_id, num_tokens, last in rows:
            self._spent[charged_id] += num_tokens
            self._last_counted = max(self._last_counted, last)
        return self._spent[key_id]
