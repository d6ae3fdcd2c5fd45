"""Who runs a job, and what of it is kept."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from adapter.jobs.database import SCHEMA_VERSION, JobStoreError
from adapter.jobs.records import Failure, NewJob, PageRecord
from adapter.jobs.store import JobStore
from adapter.tensors import Usage
from tests.adapter.jobs_app import Clock

LEASE_S = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "jobs.sqlite3"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[JobStore]:
    store = JobStore(path, clock)
    yield store
    store.close()


@pytest.fixture
def other(path: Path, clock: Clock, store: JobStore) -> Iterator[JobStore]:
    """Another process's."""
    other = JobStore(path, clock)
    yield other
    other.close()


def new_job(name: str, num_pages: int = 3) -> NewJob:
    return NewJob(name, "deepseek-ocr", b"{}", "file", None, f"{name}.pdf", list(range(1, num_pages + 1)))


def add(store: JobStore, *names: str) -> None:
    for name in names:
        assert store.create(new_job(name), max_jobs=100) == []


def page(number: int, text: str = "text") -> PageRecord:
    return PageRecord(number, b'{"page": %d}' % number, None, "stop", Usage(5, 3, 2), text, f"# {text}", f"<{text}>")


def failed_page(number: int) -> PageRecord:
    return PageRecord(number, orjson.dumps({"page": number, "error": {"code": f"bad {number}"}}), 413)


def claimed(store: JobStore, owner: str) -> str | None:
    job = store.claim(owner, LEASE_S)
    return None if job is None else job.id


def test_a_job_is_kept_as_it_was_asked_for(store: JobStore, other: JobStore, clock: Clock) -> None:
    asked = NewJob("a", "deepseek-ocr", b'{"dpi": 100}', "image_base64", "image/png", None, [2, 5])
    assert store.create(asked, max_jobs=1) == []
    job = other.get("a")
    assert job is not None
    assert job.asked == asked
    assert (job.status, job.num_done, job.num_failed, job.started_s, job.ended_s) == ("queued", 0, 0, None, None)
    assert 0 <= clock() - job.created_s < 60
    assert store.get("b") is None


def test_no_more_jobs_than_allowed(store: JobStore) -> None:
    add(store, "a", "b")
    assert store.has_room(max_jobs=3)
    assert not store.has_room(max_jobs=2)
    assert store.create(new_job("c"), max_jobs=2) is None
    assert store.ids() == {"a", "b"}


def test_those_that_ended_first_make_room(store: JobStore, clock: Clock) -> None:
    add(store, "a", "b", "c", "d")
    for name in ("c", "a", "b"):
        clock.advance(1)
        store.cancel_or_delete(name)
    assert store.has_room(max_jobs=4)
    assert store.create(new_job("e"), max_jobs=4) == ["c"]
    assert store.create(new_job("f"), max_jobs=3) == ["a", "b"]
    assert store.create(new_job("g"), max_jobs=3) is None
    assert store.ids() == {"d", "e", "f"}


def test_the_newest_first(store: JobStore) -> None:
    add(store, "a", "b", "c")
    assert [job.id for job in store.newest(2)] == ["c", "b"]
    assert [job.id for job in store.newest(2, after="b")] == ["a"]
    assert store.newest(2, after="x") == []


def test_first_come_first_served(store: JobStore) -> None:
    add(store, "a", "b")
    assert [claimed(store, "me"), claimed(store, "you"), claimed(store, "me")] == ["a", "b", None]
    job = store.get("a")
    assert job is not None
    assert job.status == "running"


def test_each_job_is_claimed_once_by_whoever_races(path: Path, store: JobStore) -> None:
    names = {f"job {number}" for number in range(40)}
    add(store, *names)

    def race(owner: str) -> list[str]:
        mine = JobStore(path)
        won = []
        while (job := mine.claim(owner, LEASE_S)) is not None:
            won.append(job.id)
        mine.close()
        return won

    with ThreadPoolExecutor(4) as threads:
        won = [name for names in threads.map(race, "abcd") for name in names]
    assert len(won) == len(names)
    assert set(won) == names


def test_processes_that_start_together_make_one_database(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(JobStore, [path] * 8))
    add(stores[0], "a")
    assert all(store.ids() == {"a"} for store in stores)
    for store in stores:
        store.close()


def test_a_lease_that_ended_is_taken_over(store: JobStore, other: JobStore, clock: Clock) -> None:
    add(store, "a")
    assert claimed(store, "me") == "a"
    assert store.record("me", "a", page(1, "mine"))
    clock.advance(LEASE_S - 1)
    assert claimed(other, "you") is None
    clock.advance(2)
    assert claimed(other, "you") == "a"
    assert other.remaining(new_job("a")) == [2, 3]

    assert store.renew("me", ["a"], LEASE_S) == set()
    assert not store.record("me", "a", page(2, "too late"))
    assert not store.finish("me", "a")
    assert other.record("you", "a", page(2, "yours"))
    assert [record.text for record in store.pages("a", 1, 10)] == ["mine", "yours"]


def test_takeovers_are_counted_until_a_page_is_done(store: JobStore, clock: Clock) -> None:
    add(store, "a")

    def num_takeovers(owner: str) -> int:
        clock.advance(LEASE_S + 1)
        job = store.claim(owner, LEASE_S)
        assert job is not None
        return job.num_takeovers

    assert [num_takeovers(owner) for owner in ("one", "two", "three")] == [0, 1, 2]
    store.release("three")
    assert num_takeovers("four") == 2, "nothing was taken over"
    assert store.record("four", "a", failed_page(1))
    assert num_takeovers("five") == 1, "a page that is given up is behind it too"
    assert store.record("five", "a", page(2))
    assert num_takeovers("six") == 1


def test_a_lease_that_is_renewed_is_kept(store: JobStore, other: JobStore, clock: Clock) -> None:
    add(store, "a", "b")
    assert {claimed(store, "me"), claimed(store, "me")} == {"a", "b"}
    for _ in range(4):
        clock.advance(LEASE_S / 2)
        assert store.renew("me", ["a"], LEASE_S) == {"a"}
    assert claimed(other, "you") == "b"
    assert claimed(other, "you") is None


def test_a_released_job_waits_at_its_old_place(store: JobStore, other: JobStore) -> None:
    add(store, "a", "b")
    claimed(store, "me")
    store.release("me")
    job = other.get("a")
    assert job is not None
    assert job.status == "queued"
    assert [claimed(other, "you"), claimed(other, "you")] == ["a", "b"]
    store.release("me")
    assert other.renew("you", ["a", "b"], LEASE_S) == {"a", "b"}


def test_a_page_that_is_done_stays_as_it_is(store: JobStore) -> None:
    add(store, "a")
    claimed(store, "me")
    assert store.record("me", "a", page(2, "first"))
    assert store.record("me", "a", page(2, "second"))
    assert store.pages("a", 1, 10) == [page(2, "first")]
    assert store.remaining(new_job("a")) == [1, 3]


def test_pages_and_progress(store: JobStore) -> None:
    add(store, "a")
    claimed(store, "me")
    for record in (page(1), failed_page(2), page(3)):
        assert store.record("me", "a", record)
    assert [record.number for record in store.pages("a", 2, 1)] == [2]
    assert [record.error_status for record in store.pages("a", 1, 10)] == [None, 413, None]
    progress = [(done.number, done.failed, done.num_done) for done in store.progress("a", 2)]
    assert progress == [(2, True, 2), (3, False, 3)]
    job = store.get("a")
    assert job is not None
    assert (job.num_done, job.num_failed) == (3, 1)
    totals = store.totals("a")
    assert (totals.usage, totals.finish_reasons) == (Usage(10, 6, 4), ["stop"])
    assert store.totals("b").usage == Usage(0, 0, 0)


def test_the_end_of_a_job(store: JobStore, clock: Clock) -> None:
    add(store, "done", "failed", "broken", "cancelled")
    for _ in range(3):
        claimed(store, "me")
    for number in (1, 2, 3):
        store.record("me", "failed", failed_page(number))
        store.record("me", "done", page(3) if number == 3 else failed_page(number))
    broken = Failure(400, b'{"code": "odd"}')
    assert store.finish("me", "done")
    assert store.finish("me", "failed")
    assert store.finish("me", "broken", broken)
    store.cancel_or_delete("cancelled")

    jobs = {job.id: job for job in store.newest(10)}
    assert all(name == job.status for name, job in jobs.items() if name != "broken")
    assert (jobs["broken"].status, jobs["broken"].failure) == ("failed", broken)
    assert jobs["failed"].failure == Failure(413, b'{"code":"bad 1"}')
    assert jobs["done"].failure is None
    assert all(job.ended_s is not None for job in jobs.values())
    assert claimed(store, "you") is None


def test_cancel_and_delete(store: JobStore) -> None:
    add(store, "a")
    claimed(store, "me")
    store.record("me", "a", page(1))
    before = store.cancel_or_delete("a")
    assert before is not None
    assert before.status == "running"
    assert store.renew("me", ["a"], LEASE_S) == set()
    assert not store.record("me", "a", page(2))
    assert len(store.pages("a", 1, 10)) == 1

    before = store.cancel_or_delete("a")
    assert before is not None
    assert before.status == "cancelled"
    assert store.get("a") is None
    assert store.pages("a", 1, 10) == []
    assert store.cancel_or_delete("a") is None


def test_what_has_ended_expires(store: JobStore, clock: Clock) -> None:
    add(store, "old", "running", "young")
    for name in ("old", "running", "young"):
        claimed(store, "me")
        store.record("me", name, page(1))
    store.finish("me", "old")
    clock.advance(50)
    store.finish("me", "young")
    clock.advance(60)
    assert list(store.expire(ttl_s=100)) == ["old"]
    assert store.ids() == {"running", "young"}
    assert store.pages("old", 1, 10) == []


def test_an_older_schema_is_upgraded(path: Path, store: JobStore) -> None:
    add(store, "a")
    with sqlite3.connect(path) as connection:
        for column in ("num_takeovers", "key_id"):
            connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    upgraded = JobStore(path)
    assert claimed(upgraded, "me") == "a"
    upgraded.close()


def test_a_newer_schema_is_refused(path: Path, store: JobStore) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(JobStoreError, match=f"schema is version {SCHEMA_VERSION + 1} and this adapter knows"):
        JobStore(path)


def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"what is this? " * 1000)
    with pytest.raises(JobStoreError, match=r"jobs\.sqlite3: file is not a database; .* ADAPTER_JOBS_DIR"):
        JobStore(path)


def test_a_damaged_database(path: Path) -> None:
    store = JobStore(path)
    add(store, *(f"job {number}" for number in range(100)))
    store.close()
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(JobStoreError, match="malformed"):
        JobStore(path)


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobStoreError, match="ADAPTER_JOBS_DIR"):
        JobStore(tmp_path / "file" / "jobs.sqlite3")
