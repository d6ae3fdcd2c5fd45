"""SQLite files that several processes share: opened, checked, and brought to the newest schema."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

BUSY_TIMEOUT_S: Final = 10.0


class SchemaError(Exception):
    """The file is a newer adapter's, or damaged; the text ends a sentence."""


@dataclass(frozen=True, slots=True)
class Schema:
    upgrades: Sequence[Sequence[str]]
    """The statements that make a database of version 0, 1, … one of the next."""
    checked_table: str
    """Small, and checked for damage at every start; damage in others shows when they are read."""

    @property
    def version(self) -> int:
        return len(self.upgrades)


def open_database(path: Path, schema: Schema) -> sqlite3.Connection:
    """Creates the file and its folder where they are missing; raises `OSError`, `sqlite3.Error` or `SchemaError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        with _locked(path.parent):
            _prepare(connection, schema)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE: two that read and then write would otherwise lock each other out.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Between processes: SQLite does not wait for another one that is about to switch to WAL, it fails.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, schema: Schema) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > schema.version:
            raise SchemaError(f"its schema is version {version} and this adapter knows {schema.version} at most")
        for statement in chain.from_iterable(schema.upgrades[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.version}")
    (verdict,) = connection.execute(f"PRAGMA quick_check({schema.checked_table})").fetchone()
    if verdict != "ok":
        raise SchemaError(f"it is damaged ({verdict})")
