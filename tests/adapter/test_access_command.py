"""`python -m adapter keys` as an operator runs it, beside a server that is up."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.adapter.access_keys import BODY, CHAT, bearer

ROOT = Path(__file__).parents[2]


def keys(path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "adapter", "keys", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "ADAPTER_KEYS_DB": str(path)} | environment,
        cwd=path.parent,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "keys.db"


@pytest.fixture(autouse=True)
def folder(path: Path) -> None:
    path.parent.mkdir()


def test_the_database_s_whole_path_is_told(path: Path) -> None:
    made = keys(path, "create", "--name", "ann", ADAPTER_KEYS_DB="here/keys.db")
    assert str(path.parent / "here" / "keys.db") in made.stderr


def test_a_key_from_its_making_to_its_end(
    serve: Callable[..., httpx.Client], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.access.keyring.REFRESH_S", 0.0)
    http = serve(keys_db=str(path))
    made = keys(path, "create", "--name", "ann", "--budget-tokens", "10", "--requests-per-minute", "7")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert key.startswith("sk-") and len(key) > 40
    kept, where = made.stderr.splitlines()
    assert kept == "Keep it: it is not stored, and can't be shown again."
    assert where == f"Its hash is in {path}, for servers with that as ADAPTER_KEYS_DB."
    assert http.post(CHAT, json=BODY).status_code == 401
    response = http.post(CHAT, json=BODY, headers=bearer(key))
    assert (response.status_code, response.headers["x-ratelimit-limit-requests"]) == (200, "7")
    listed = keys(path, "list", ADAPTER_API_KEY="a-configured-key", ADAPTER_MAX_CONCURRENT_REQUESTS="3").stdout
    assert key not in listed and "a-configured-key" not in listed
    head, configured, ann = (line.split() for line in listed.splitlines())
    assert head[:5] == ["NAME", "MADE", "STATE", "SPENT", "BUDGET"]
    assert configured == ["config", "settings", "valid", "0", "-", "-", "-", "3"]
    assert (ann[0], *ann[2:]) == ("ann", "valid", "8", "10", "7", "-", "3")
    assert keys(path, "revoke", "ann").stdout == "ann is revoked.\n"
    assert http.post(CHAT, json=BODY, headers=bearer(key)).status_code == 401
    again = keys(path, "create", "--name", "ann").stdout.strip()
    assert again != key
    assert http.post(CHAT, json=BODY, headers=bearer(again)).status_code == 200
    states = [line.split()[2] for line in keys(path, "list").stdout.splitlines()[1:]]
    assert states == ["revoked", "valid"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["revoke", "bob"], 1, "keys: there is no key named bob to revoke; `keys list` shows them\n"),
        (["create", "--name", "a b"], 2, "'a b' must be 1 to 64 letters, digits, dots, dashes or underscores\n"),
        (["create", "--name", "a", "--budget-tokens", "0"], 2, "'0' is not a whole number above 0\n"),
        (["create"], 2, "the following arguments are required: --name\n"),
        ([], 2, "the following arguments are required: COMMAND\n"),
    ],
)
def test_what_it_refuses(path: Path, arguments: list[str], code: int, sentence: str) -> None:
    result = keys(path, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr.endswith(sentence)


def test_a_name_is_taken_while_its_key_is_valid(path: Path) -> None:
    assert keys(path, "create", "--name", "ann").returncode == 0
    taken = keys(path, "create", "--name", "ann")
    assert (taken.returncode, taken.stdout) == (1, "")
    assert taken.stderr == "keys: there is a key named ann; revoke it first, or choose another name\n"


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"what is this? " * 1000)
    result = keys(path, "list")
    assert result.returncode == 1
    assert result.stderr.startswith(f"keys: cannot open the database of the API keys, {path}: file is not a database;")
    assert result.stderr.count("\n") == 1
