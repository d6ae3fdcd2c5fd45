"""Keys of an adapter's database, and what its ledger says, read from beside it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from adapter.access.keys import Key, KeyLimits, digest_of, new_key
from adapter.access.store import KeyStore

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}


def make_key(path: Path, name: str = "ann", limits: KeyLimits | None = None) -> str:
    """The key itself."""
    key = new_key()
    with closing(KeyStore(path)) as store:
        store.add(Key(name, digest_of(key), limits or KeyLimits()))
    return key


def revoke(path: Path, name: str = "ann") -> None:
    with closing(KeyStore(path)) as store:
        assert store.revoke(name)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def charged(path: Path, key: str) -> tuple[int, int]:
    """Prompt and completion tokens in the ledger, summed by SQLite itself."""
    query = (
        "SELECT COALESCE(SUM(num_prompt_tokens), 0), COALESCE(SUM(num_completion_tokens), 0)"
        " FROM charges WHERE key_id = ?"
    )
    with closing(sqlite3.connect(path)) as connection:
        prompt, completion = connection.execute(query, (digest_of(key)[:16],)).fetchone()
    return prompt, completion
