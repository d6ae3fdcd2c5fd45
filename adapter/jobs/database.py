"""The jobs' SQLite file: its tables, and the sentence for an operator whose file can't be opened."""

import sqlite3
from pathlib import Path
from typing import Final

from adapter.storage import database
from adapter.storage.database import Schema, SchemaError

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
_SCHEMA: Final = Schema(
    (
        _FIRST_VERSION,
        ("ALTER TABLE jobs ADD COLUMN num_takeovers INTEGER NOT NULL DEFAULT 0",),
        ("ALTER TABLE jobs ADD COLUMN key_id TEXT",),
    ),
    # The pages are many.
    checked_table="jobs",
)
SCHEMA_VERSION: Final = _SCHEMA.version


class JobStoreError(Exception):
    """The database can't be opened; the text is one sentence for the operator."""


def open_database(path: Path) -> sqlite3.Connection:
    """Creates the file and its folder where they are missing; raises `JobStoreError`."""
    try:
        return database.open_database(path, _SCHEMA)
    except (OSError, sqlite3.Error, SchemaError) as error:
        raise JobStoreError(
            f"cannot open the database of the OCR jobs, {path}: {error}; mend or remove it, "
            "or set ADAPTER_JOBS_DIR to another folder"
        ) from error
