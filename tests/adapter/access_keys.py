"""Keys of an adapter's database, and what its ledger says, read from beside it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from adapter.access.keys import Key, KeyLimits, digest_of, new_key
from adapter.access.store import KeyStore
from adapter.settings import Settings
from tests.adapter.conftest import WAIT_S, Adapter, Loop
from tests.adapter.fake_triton import FakeTriton

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


def refused_as_spent(response: httpx.Response) -> None:
    assert response.status_code == 402, response.text
    error = response.json()["error"]
    assert error["code"] == "insufficient_quota"
    assert error["message"].startswith("Insufficient Balance: ")


class Runs:
    """Adapters that end before the test does, on one database of keys and one of jobs."""

    def __init__(self, loop: Loop, triton: FakeTriton, folder: Path) -> None:
        self.path = folder / "keys.db"
        self._loop = loop
        jobs_dir = str(folder / "jobs")
        self._settings = {"triton_url": f"127.0.0.1:{triton.port}", "keys_db": str(self.path), "jobs_dir": jobs_dir}

    @contextmanager
    def __call__(self, key: str, **settings: Any) -> Iterator[httpx.Client]:
        adapter = Adapter(self._loop, Settings(**self._settings | settings))
        try:
            with httpx.Client(base_url=adapter.url, timeout=WAIT_S, headers=bearer(key)) as client:
                yield client
        finally:
            adapter.stop()
