"""A job is its key's: charged to it, and known to it alone."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from adapter.access.keys import KeyLimits
from tests.adapter.access_keys import Runs, bearer, charged, make_key, refused_as_spent, revoke
from tests.adapter.conftest import WAIT_S, Loop
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.jobs_app import create, expected_texts, page_texts, until, wait_for_end
from tests.adapter.ocr_pages import by_page, page_of, png

NUM_TOKENS = 8
"""Of each of the fake's answers."""


@pytest.fixture
def run(loop: Loop, triton: FakeTriton, tmp_path: Path) -> Runs:
    return Runs(loop, triton, tmp_path)


@pytest.fixture
def path(run: Runs) -> Path:
    return run.path


def test_a_job_is_charged_to_its_key(run: Runs, path: Path) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=20))
    with run(key) as http:
        job = create(http, 3)
        wait_for_end(http, job)
        assert http.get(f"{job['url']}/result").json()["usage"]["total_tokens"] == 3 * NUM_TOKENS
        refused_as_spent(http.post("/ocr/jobs", files={"file": png()}))
    assert charged(path, key) == (15, 9)


def test_a_job_that_goes_on_after_a_restart(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path)
    gate = triton.hangs()
    triton.reply = by_page(gates={2: gate})
    with run(key, max_parallel_pages=1) as http:
        job = create(http, 3)
        until(lambda: charged(path, key) == USAGE[:2])
        assert gate.reached.wait(WAIT_S)
    triton.reply = by_page()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM charges")  # as if the process had died before it charged the page
    with run(key) as http:
        wait_for_end(http, job)
    assert charged(path, key) == (15, 9)


def test_a_job_ends_with_its_budget(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=2 * NUM_TOKENS))
    triton.reply = by_page()
    with run(key, max_parallel_pages=1) as http:
        job = create(http, 9)
        ended = wait_for_end(http, job)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "insufficient_quota")
        refused_as_spent(http.get(f"{job['url']}/result"))
        texts = page_texts(http, job)
        assert texts == expected_texts(ended["pages_done"])
    assert 2 <= len(texts) < 9
    assert charged(path, key) == (5 * len(triton.seen), 3 * len(triton.seen))


def test_a_job_ends_with_its_key(run: Runs, path: Path, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.access.keyring.REFRESH_S", 0.0)
    key, other = make_key(path), make_key(path, "bob")
    gate = triton.hangs()
    triton.reply = by_page(gates={2: gate})
    with run(key, max_parallel_pages=1) as http:
        job = create(http, 9)
        assert gate.reached.wait(WAIT_S)
        revoke(path)
        gate.open()
        database = path.parent / "jobs" / "jobs.sqlite3"

        def error() -> str:
            with closing(sqlite3.connect(database)) as connection:
                return str(connection.execute("SELECT error FROM jobs").fetchone()[0])

        until(lambda: "invalid_api_key" in error())
        assert http.get(job["url"]).status_code == 401
        assert http.get(job["url"], headers=bearer(other)).status_code == 404
    assert len(triton.seen) == 2
    assert charged(path, key) == (10, 6)


def test_pages_that_are_not_kept_are_charged_too(run: Runs, path: Path, triton: FakeTriton) -> None:
    """Of a job that is cancelled what was read so far; of one that goes on what it read in vain."""
    key = make_key(path)
    gate = triton.hangs()

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if page_of(seen) == 1:
            yield answer("page 1", finish="stop", usage=USAGE)
            return
        yield answer("page", usage=(5, 1, 0))
        await gate.passed()

    triton.reply = reply
    with run(key, max_parallel_pages=1) as http:
        job = create(http, 2)
        until(lambda: charged(path, key) == (5, 3))
        assert gate.reached.wait(WAIT_S)
    assert charged(path, key) == (10, 4), "the process was stopped in its second page"
    gate.reached.clear()
    with run(key, max_parallel_pages=1) as http:
        assert gate.reached.wait(WAIT_S)
        assert http.delete(job["url"]).json()["status"] == "cancelled"
        until(lambda: charged(path, key) == (15, 5))
        assert page_texts(http, job) == expected_texts(1)


def test_a_page_that_fails_is_charged(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path)

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        yield answer("page", usage=(5, 2, 0))
        await context.abort(StatusCode.INVALID_ARGUMENT, "image: is odd")

    triton.reply = reply
    with run(key) as http:
        job = create(http, 1)
        assert wait_for_end(http, job)["pages_failed"] == 1
    assert charged(path, key) == (5, 2)


def test_a_job_is_its_key_s_alone(run: Runs, path: Path) -> None:
    ann, bob = make_key(path), make_key(path, "bob")
    with run(ann) as http:
        job = create(http, 1)
        wait_for_end(http, job)
        http.headers.update(bearer(bob))
        for url in (job["url"], *(f"{job['url']}/{part}" for part in ("pages", "result", "events"))):
            assert http.get(url).status_code == 404
        assert http.delete(job["url"]).status_code == 404
        assert http.get("/ocr/jobs").json()["data"] == []
        assert http.get(f"/ocr/jobs?after={job['id']}").status_code == 400
        other = create(http, 1)
        assert [listed["id"] for listed in http.get("/ocr/jobs").json()["data"]] == [other["id"]]
        http.headers.update(bearer(ann))
        assert [listed["id"] for listed in http.get("/ocr/jobs").json()["data"]] == [job["id"]]
        assert http.get(f"{job['url']}/result").status_code == 200
