"""The SQLite file of the keys and of what each has used: its tables, and the sentence where it can't be opened."""

import sqlite3
from pathlib import Path
from typing import Final

from adapter.storage import database
from adapter.storage.database import Schema, SchemaError

_FIRST_VERSION = (
    """CREATE TABLE keys (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        budget_tokens INTEGER,
        requests_per_minute INTEGER,
        tokens_per_minute INTEGER,
        max_concurrent_requests INTEGER,
        created_s REAL NOT NULL,
        revoked_s REAL
    )""",
    # A name is free again once its key is revoked.
    "CREATE UNIQUE INDEX names ON keys (name) WHERE revoked_s IS NULL",
    # AUTOINCREMENT: ids only grow, so that what was charged since is found by id. A request's row has no page, a
    # job has one row per page; request ids may repeat, pages of a job may not.
    """CREATE TABLE charges (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key_id TEXT NOT NULL,
        request_id TEXT NOT NULL,
        page INTEGER,
        num_prompt_tokens INTEGER NOT NULL,
        num_completion_tokens INTEGER NOT NULL,
        charged_s REAL NOT NULL,
        UNIQUE (request_id, page)
    )""",
)
_SCHEMA: Final = Schema((_FIRST_VERSION,), checked_table="keys")


class KeyStoreError(Exception):
    """The database can't be opened; the text is one sentence for the operator."""


def open_database(path: Path) -> sqlite3.Connection:
    """Creates the file and its folder where they are missing; raises `KeyStoreError`."""
    try:
        return database.open_database(path, _SCHEMA)
    except (OSError, sqlite3.Error, SchemaError) as error:
        raise KeyStoreError(
            f"cannot open the database of the API keys, {path}: {error}; mend it, "
            "or set ADAPTER_KEYS_DB to another file"
        ) from error
