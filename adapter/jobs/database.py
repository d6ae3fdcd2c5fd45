"""The jobs' SQLite file: opened, checked and given its tables."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Final

BUSY_TIMEOUT_S: Final = 10.0

_FIRST_VERSION = (
    """CREATE TABLE jobs (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        status TEXT NOT NULL,
        model TEXT NOT NULL,
        fields BLOB NOT NULL,
        field TEXT NOT NULL,
        declared_type TEXT,
        file_name TEXT,
        numbers BLOB NOT NULL,
        error_status INTEGER,
        error BLOB,
        owner TEXT,
        lease_until_s REAL,
        created_s REAL NOT NULL,
        started_s REAL,
        ended_s REAL
    )""",
    """CREATE TABLE pages (
        job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        error_status INTEGER,
        finish_reason TEXT,
        num_input_tokens INTEGER NOT NULL,
        num_output_tokens INTEGER NOT NULL,
        num_cached_tokens INTEGER NOT NULL,
        text TEXT NOT NULL,
        markdown TEXT NOT NULL,
        raw TEXT NOT NULL,
        result BLOB NOT NULL,
        PRIMARY KEY (job_id, number)
    )""",
    # Progress is counted from this alone, without the results.
    "CREATE INDEX progress ON pages (job_id, number, error_status)",
)
# What makes a database of version 0, 1, … one of the next.
_UPGRADES = (_FIRST_VERSION, ("ALTER TABLE jobs ADD COLUMN num_takeovers INTEGER NOT NULL DEFAULT 0",))
SCHEMA_VERSION: Final = len(_UPGRADES)


class JobStoreError(Exception):
    """The database can't be opened; the text is one sentence for the operator."""


def open_database(path: Path) -> sqlite3.Connection:
    """Creates the file and its folder where they are missing; raises `JobStoreError`."""
    connection: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        with _locked(path.parent):
            _prepare(connection)
    except (OSError, sqlite3.Error, JobStoreError) as error:
        if connection is not None:
            connection.close()
        raise JobStoreError(
            f"cannot open the database of the OCR jobs, {path}: {error}; mend or remove it, "
            "or set ADAPTER_JOBS_DIR to another folder"
        ) from error
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


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_mode = WAL")
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise JobStoreError(f"its schema is version {version} and this adapter knows {SCHEMA_VERSION} at most")
        for statement in chain.from_iterable(_UPGRADES[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    # Of the jobs alone, which are few: damage in a page shows when the page is read.
    (verdict,) = connection.execute("PRAGMA quick_check(jobs)").fetchone()
    if verdict != "ok":
        raise JobStoreError(f"it is damaged ({verdict})")
