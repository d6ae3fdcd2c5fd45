"""A job is its key's: charged to it, and known to it alone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from adapter.access.keys import KeyLimits
from tests.adapter.access_keys import Runs, bearer, charged, make_key, refused_as_spent
from tests.adapter.conftest import WAIT_S, Loop
from tests.adapter.fake_triton import USAGE, FakeTriton
from tests.adapter.jobs_app import create, until, wait_for_end
from tests.adapter.ocr_pages import by_page, png

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
