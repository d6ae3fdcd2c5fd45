"""Jobs whose process, or whose Triton, goes away in the middle."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode

from adapter.jobs.reading import MAX_TAKEOVERS, MAX_TRIES
from adapter.jobs.runner import Pace
from adapter.jobs.store import JobStore
from tests.adapter.conftest import WAIT_S, Loop
from tests.adapter.fake_triton import FakeTriton, Gate, Seen
from tests.adapter.jobs_app import (
    QUICK,
    Clock,
    Servers,
    create,
    expected_texts,
    page_texts,
    until,
    wait_at_page,
    wait_for_end,
    wait_for_page,
)
from tests.adapter.ocr_pages import by_page, page_of

AWAY = (StatusCode.UNAVAILABLE, "Request for unknown model: 'ocr' is not found")
CRASHED = (StatusCode.INTERNAL, "Stub process 'ocr_0_0' is not healthy.")
BROKEN = (StatusCode.INTERNAL, "Failed to process the request(s), message: KeyError: 'x'")
FULL = (StatusCode.UNAVAILABLE, "[request id: a] Exceeds maximum queue size")

# Looks for work when something changes in its own process, and never on its own.
ASLEEP = Pace(lease_s=5, poll_s=3600, clean_s=3600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def servers(loop: Loop, triton: FakeTriton, folder: Path) -> Iterator[Servers]:
    triton.reply = by_page()
    servers = Servers(loop, triton, folder)
    yield servers
    servers.stop()


def asked_pages(triton: FakeTriton) -> list[int]:
    return [page_of(seen) for seen in triton.seen]


def test_a_job_of_a_process_that_hangs_is_taken_over(servers: Servers, triton: FakeTriton) -> None:
    clock = Clock()
    hung = servers.start(clock, ASLEEP, max_parallel_pages=1).http
    gate = wait_at_page(triton, 3, 5)
    job = create(hung, 5)
    wait_for_page(hung, job, 2)
    until(lambda: len(triton.seen) == 3)

    triton.reply = by_page({number: f"page {number} again" for number in range(1, 6)})
    heir = servers.start(clock).http
    # Again and again: the first one may just be extending its lease for page 2.
    until(lambda: clock.advance(ASLEEP.lease_s + 1) or heir.get(job["url"]).json()["status"] == "done")
    gate.open()  # What the first one has of page 3 comes too late.
    until(lambda: triton.seen[2].answered)
    again = [(number, f"page {number} again") for number in (3, 4, 5)]
    assert page_texts(heir, job) == page_texts(hung, job) == expected_texts(2) + again
    asked = Counter(asked_pages(triton))
    assert (asked[1], asked[2], asked[3]) == (1, 1, 2)


def test_a_killed_process(servers: Servers, triton: FakeTriton, folder: Path) -> None:
    gate = wait_at_page(triton, 4, 6)
    with adapter_process(triton, folder) as (process, http):
        job = create(http, 6, output=["text", "annotated"])
        wait_for_page(http, job, 3)
        process.kill()
        process.wait(WAIT_S)
    gate.open()

    clock = Clock()
    heir = servers.start(clock).http
    assert heir.get(job["url"]).json()["pages_done"] == 3
    assert page_texts(heir, job) == expected_texts(3)
    clock.advance(QUICK.lease_s + 1)
    done = wait_for_end(heir, job)
    assert (done["status"], done["pages_done"], done["pages_failed"]) == ("done", 6, 0)
    assert page_texts(heir, job) == expected_texts(6)
    assert all("annotated" in page for page in heir.get(f"{job['url']}/result").json()["pages"])
    asked = Counter(asked_pages(triton))
    assert all(asked[number] == 1 for number in (1, 2, 3))
    assert all(1 <= asked[number] <= 2 for number in (4, 5, 6))


def test_a_listener_does_not_hold_up_a_process_that_stops(triton: FakeTriton, folder: Path) -> None:
    gate = wait_at_page(triton, 1, 1)
    with adapter_process(triton, folder) as (process, http):
        job = create(http, 1)
        assert gate.reached.wait(WAIT_S)
        with http.stream("GET", f"{job['url']}/events") as response:
            lines = response.iter_lines()
            assert '"running"' in next(lines)
            process.terminate()
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["message"] == "The server is shutting down."
        assert process.wait(WAIT_S) == -signal.SIGTERM
    gate.open()


def test_the_pages_of_a_killed_process_are_read_alone(servers: Servers, triton: FakeTriton, folder: Path) -> None:
    """Whichever of them it was that killed it, the next one dies of that page alone."""
    clock = Clock()
    job = left_behind(servers, triton, folder, clock, num_processes=1, num_pages=3)
    gate = Gate(triton.loop)
    paged = by_page(gates={1: gate})
    unanswered: list[list[int]] = []

    def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        unanswered.append([page_of(other) for other in triton.seen if not other.answered])
        return paged(seen, context)

    triton.reply = reply
    heir = servers.start(clock).http
    assert gate.reached.wait(WAIT_S)
    assert heir.get(job["url"]).json()["status"] == "running"
    gate.open()
    assert wait_for_end(heir, job)["status"] == "done"
    assert unanswered == [[1], [2], [3]]


def test_a_page_that_kills_every_process_is_given_up(servers: Servers, triton: FakeTriton, folder: Path) -> None:
    clock = Clock()
    job = left_behind(servers, triton, folder, clock, num_processes=MAX_TAKEOVERS, num_pages=3)
    heir = servers.start(clock).http
    done = wait_for_end(heir, job)
    assert (done["status"], done["pages_failed"]) == ("done", 1)
    first, *others = heir.get(f"{job['url']}/pages").json()["pages"]
    assert first["error"]["code"] == "internal_error"
    assert [page["text"] for page in others] == ["page 2", "page 3"]
    assert asked_pages(triton) == [2, 3]


def test_a_job_that_may_kill_the_process_runs_beside_no_other(
    servers: Servers, triton: FakeTriton, folder: Path
) -> None:
    clock = Clock()
    suspect = left_behind(servers, triton, folder, clock, num_processes=2, num_pages=1)
    gate = wait_at_page(triton, 1, 1)
    jobs = servers.start(clock).http
    assert gate.reached.wait(WAIT_S)
    other = create(jobs, 1)
    assert jobs.get(suspect["url"]).json()["status"] == "running"
    assert jobs.get(other["url"]).json()["status"] == "queued"
    gate.open()
    assert wait_for_end(jobs, other)["status"] == "done"
    store = JobStore(folder / "jobs.sqlite3")
    first, second = store.get(suspect["id"]), store.get(other["id"])
    store.close()
    assert first is not None and second is not None
    assert first.ended_s is not None and second.started_s is not None
    assert first.ended_s <= second.started_s


def test_a_stopped_process_lets_go_at_once(servers: Servers, triton: FakeTriton) -> None:
    first = servers.start()
    gate = wait_at_page(triton, 2, 3)
    job = create(first.http, 3)
    wait_for_page(first.http, job, 1)
    until(lambda: len(triton.seen) == 3)
    first.stop()
    assert all(seen.cancelled.wait(WAIT_S) for seen in triton.seen if page_of(seen) > 1)

    gate.open()
    second = servers.start().http
    assert wait_for_end(second, job)["status"] == "done"
    assert page_texts(second, job) == expected_texts(3)


def test_one_of_two_processes_runs_a_job(servers: Servers, triton: FakeTriton) -> None:
    one, other = servers.start().http, servers.start().http
    jobs = [create(server, 4) for server in (one, other, one, other)]
    for job in jobs:
        assert wait_for_end(other, job)["status"] == "done"
        assert page_texts(one, job) == expected_texts(4)
    assert len(triton.seen) == 16


def test_a_cancel_reaches_the_other_process(servers: Servers, triton: FakeTriton) -> None:
    one = servers.start().http
    wait_at_page(triton, 2, 2)
    job = create(one, 2)
    wait_for_page(one, job, 1)
    until(lambda: len(triton.seen) == 2)
    other = servers.start().http
    assert other.delete(job["url"]).json()["status"] == "cancelled"
    (waiting,) = (seen for seen in triton.seen if page_of(seen) == 2)
    assert waiting.cancelled.wait(WAIT_S)


def test_no_more_jobs_run_at_once_than_allowed(servers: Servers, triton: FakeTriton) -> None:
    jobs = servers.start(max_running_jobs=2).http
    gate = wait_at_page(triton, 1, 1)
    created = [create(jobs, 1) for _ in range(4)]
    until(lambda: len(triton.seen) == 2)
    statuses = [jobs.get(job["url"]).json()["status"] for job in created]
    assert statuses == ["running", "running", "queued", "queued"]
    gate.open()
    assert [wait_for_end(jobs, job)["status"] for job in created] == ["done"] * 4


def test_triton_goes_away_and_comes_back(
    loop: Loop, servers: Servers, triton: FakeTriton, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than a page's own failures are borne."""
    jobs = servers.start(max_parallel_pages=1).http
    gate = wait_at_page(triton, 3, 3)
    job = create(jobs, 4)
    wait_for_page(jobs, job, 2)
    until(lambda: len(triton.seen) == 3)
    loop.do(triton.stop())
    gate.open()
    try:
        until(lambda: caplog.text.count("tries again: Triton: UNAVAILABLE") > 2 * MAX_TRIES)
        assert jobs.get(job["url"]).json()["status"] == "running"
    finally:
        loop.do(triton.start())
    done = wait_for_end(jobs, job)
    assert (done["status"], done["pages_failed"]) == ("done", 0)
    assert page_texts(jobs, job) == expected_texts(4)


@pytest.mark.parametrize("failure", [AWAY, CRASHED, FULL], ids=["away", "crashed", "full"])
def test_a_model_that_is_away_for_a_while(servers: Servers, triton: FakeTriton, failure: tuple[Any, str]) -> None:
    """It fails every page far more often than one may fail, and cannot say what it is."""
    num_failures = 0

    async def fail(seen: Seen, context: Any) -> AsyncIterator[Any]:
        nonlocal num_failures
        num_failures += 1
        if num_failures > 4 * MAX_TRIES:
            triton.reply, triton.describe = by_page(), describe
        await context.abort(*failure)
        yield

    describe = triton.describe
    triton.reply = triton.describe = fail
    jobs = servers.start().http
    job = create(jobs, 3)
    done = wait_for_end(jobs, job)
    assert (done["status"], done["pages_failed"]) == ("done", 0)
    assert page_texts(jobs, job) == expected_texts(3)


@pytest.mark.parametrize(("failure", "code"), [(CRASHED, "unavailable"), (BROKEN, "internal_error")])
def test_a_page_that_the_model_never_masters(
    servers: Servers, triton: FakeTriton, failure: tuple[StatusCode, str], code: str
) -> None:
    triton.reply = by_page({2: failure})
    jobs = servers.start().http
    job = create(jobs, 4)
    done = wait_for_end(jobs, job)
    assert (done["status"], done["pages_done"], done["pages_failed"]) == ("done", 4, 1)
    pages = jobs.get(f"{job['url']}/pages").json()["pages"]
    assert [page.get("text") for page in pages] == ["page 1", None, "page 3", "page 4"]
    assert pages[1]["error"]["code"] == code
    assert asked_pages(triton).count(2) > MAX_TRIES


def test_what_is_read_behind_a_failing_page_is_kept(servers: Servers, triton: FakeTriton) -> None:
    gate = Gate(triton.loop)
    triton.reply = by_page({2: BROKEN}, gates={2: gate})
    jobs = servers.start().http
    job = create(jobs, 6)
    until(lambda: len(triton.seen) == 6)
    gate.open()
    assert wait_for_end(jobs, job)["pages_failed"] == 1
    asked = Counter(asked_pages(triton))
    assert asked.pop(2) == 1 + MAX_TRIES
    assert asked == {1: 1, 3: 1, 4: 1, 5: 1, 6: 1}


def test_a_job_whose_files_are_gone_fails(servers: Servers, triton: FakeTriton, folder: Path) -> None:
    first = servers.start()
    gate = wait_at_page(triton, 1, 1)
    job = create(first.http, 1)
    until(lambda: len(triton.seen) == 1)
    first.stop()
    (folder / "files" / job["id"] / "source").unlink()
    gate.open()
    second = servers.start().http
    failed = wait_for_end(second, job)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "job_files_lost")
    assert second.get(f"{job['url']}/result").status_code == 404


def test_a_job_whose_model_is_served_no_more_fails(servers: Servers, triton: FakeTriton) -> None:
    first = servers.start()
    wait_at_page(triton, 1, 1)
    job = create(first.http, 1)
    until(lambda: len(triton.seen) == 1)
    first.stop()
    second = servers.start(models={"deepseek-coder": "coder"}).http
    failed = wait_for_end(second, job)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_not_found")


@contextmanager
def adapter_process(triton: FakeTriton, folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", httpx.Client]]:
    """An adapter in a process of its own, up, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        "ADAPTER_PORT": str(port),
        "ADAPTER_HOST": "127.0.0.1",
        "ADAPTER_TRITON_URL": f"127.0.0.1:{triton.port}",
        "ADAPTER_JOBS_DIR": str(folder),
        "ADAPTER_MAX_PARALLEL_PAGES": "2",
        "ADAPTER_SHUTDOWN_TIMEOUT_S": "3600",
    }
    process = subprocess.Popen([sys.executable, "-m", "adapter"], env=os.environ | environment)
    try:
        until(lambda: is_up(port))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as http:
            yield process, http
    finally:
        process.kill()
        process.wait(WAIT_S)


def left_behind(
    servers: Servers, triton: FakeTriton, folder: Path, clock: Clock, *, num_processes: int, num_pages: int
) -> Any:
    """A job that so many processes have died of; the next one takes it over."""
    creator = servers.start(clock, max_running_jobs=1)
    wait_at_page(triton, 1, num_pages)
    job = create(creator.http, num_pages)
    until(lambda: len(triton.seen) == num_pages)
    creator.stop()  # gives it back
    store = JobStore(folder / "jobs.sqlite3", clock)
    for number in range(num_processes):
        assert store.claim(f"process {number}", QUICK.lease_s) is not None
        clock.advance(QUICK.lease_s + 1)
    store.close()
    triton.reset()
    triton.reply = by_page()
    return job


def is_up(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
