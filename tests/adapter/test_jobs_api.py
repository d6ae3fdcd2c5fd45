"""Jobs from their creation to their end, over HTTP."""

import base64
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode
from PIL import Image

from tests.adapter.conftest import WAIT_S, Loop
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.jobs_app import (
    Clock,
    Servers,
    create,
    events,
    expected_texts,
    page_texts,
    until,
    wait_at_page,
    wait_for_end,
    wait_for_page,
)
from tests.adapter.ocr_pages import GROUNDED, base64_of, by_page, page_of, pdf, png, tiff, times_usage

REFUSAL = (StatusCode.INVALID_ARGUMENT, "image: is odd")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def servers(loop: Loop, triton: FakeTriton, folder: Path) -> Iterator[Servers]:
    triton.reply = by_page()
    servers = Servers(loop, triton, folder)
    yield servers
    servers.stop()


@pytest.fixture
def jobs(servers: Servers) -> httpx.Client:
    return servers.start().http


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]


def test_whoever_waits_for_an_answer_goes_first(jobs: httpx.Client, http: httpx.Client, triton: FakeTriton) -> None:
    job = jobs.post("/ocr/jobs", json={"image_base64": base64_of(png())}).json()
    wait_for_end(jobs, job)
    assert [seen.priority for seen in triton.seen] == [2]
    http.post("/ocr", json={"image_base64": base64_of(png())})
    assert [seen.priority for seen in triton.seen] == [2, 0]


def test_a_job_from_beginning_to_end(jobs: httpx.Client, triton: FakeTriton, folder: Path) -> None:
    gate = wait_at_page(triton, 3, 3)
    response = jobs.post("/ocr/jobs", files={"file": ("scan.tiff", tiff(3))}, data={"frames": "all"})
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == job["url"] == f"/ocr/jobs/{job['id']}"
    assert job["status"] in ("queued", "running")
    assert (job["model"], job["file_name"], job["pages"]) == ("deepseek-ocr", "scan.tiff", 3)
    assert (job["expires"], job["error"]) == (None, None)

    wait_for_page(jobs, job, 2)
    running = jobs.get(job["url"]).json()
    assert (running["status"], running["pages_done"], running["pages_failed"]) == ("running", 2, 0)
    pages = jobs.get(f"{job['url']}/pages").json()
    assert (pages["id"], pages["status"], pages["next"]) == (job["id"], "running", 3)
    assert [page["text"] for page in pages["pages"]] == ["page 1", "page 2"]
    assert error_of(jobs.get(f"{job['url']}/result")) == (409, "job_not_done", None)

    gate.open()
    done = wait_for_end(jobs, job)
    assert done == jobs.get(job["url"]).json()
    assert (done["status"], done["pages_done"], done["pages_failed"]) == ("done", 3, 0)
    assert done["expires"] >= done["created"] + 86_400
    assert page_texts(jobs, job) == expected_texts(3)
    assert jobs.get(f"{job['url']}/pages").json()["next"] is None
    assert [path.name for path in folder.rglob("*") if "scan" in path.name or path.name == "source"] == []


@pytest.mark.parametrize("output", ["text", "markdown", "text,markdown,blocks,figures,annotated,raw"])
def test_the_result_is_what_ocr_answers(jobs: httpx.Client, triton: FakeTriton, output: str) -> None:
    triton.reply = by_page({1: GROUNDED, 2: 'two\n\n\nlines\x00 “ü\n"', 3: REFUSAL, 4: "<|ref|>a<|/ref|>"})
    body = {"image_base64": base64_of(tiff(4)), "frames": "all", "output": output}
    expected = jobs.post("/ocr", json=body).json()
    response = jobs.post("/ocr/jobs", json=body)
    assert response.status_code == 202
    job = response.json()
    assert wait_for_end(jobs, job)["pages_failed"] == 1
    response = jobs.get(f"{job['url']}/result")
    assert response.status_code == 200
    result = response.json()
    assert result.pop("id") == job["id"]
    assert result.pop("processing_time_s") >= 0
    assert expected.pop("id") != job["id"]
    assert expected.pop("processing_time_s") >= 0
    assert result == expected
    assert result["pages"][2]["error"]["message"] == "image_base64: is odd"
    assert jobs.get(f"{job['url']}/pages").json()["pages"] == result["pages"]


@pytest.mark.parametrize("result_format", ["text", "markdown"])
def test_the_plain_result(jobs: httpx.Client, triton: FakeTriton, result_format: str) -> None:
    """Whatever the job's output is."""
    triton.reply = by_page({1: GROUNDED, 2: REFUSAL, 3: "", 4: "last “ü"})
    job = create(jobs, 4, output="blocks")
    wait_for_end(jobs, job)
    response = jobs.get(f"{job['url']}/result", params={"format": result_format})
    plain = "plain" if result_format == "text" else result_format
    assert response.headers["content-type"] == f"text/{plain}; charset=utf-8"
    body = {"image_base64": base64_of(tiff(4)), "frames": "all", "output": result_format}
    assert response.text == jobs.post("/ocr", json=body).json()[result_format]
    assert "Hello" in response.text


def test_pictures_of_every_page(jobs: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = by_page({1: GROUNDED, 2: GROUNDED})
    job = create(jobs, 2, output=["figures", "annotated"])
    wait_for_end(jobs, job)
    pages = jobs.get(f"{job['url']}/pages").json()["pages"]
    for number, page in enumerate(pages, 1):
        (figure,) = page["figures"]
        assert figure["id"] == f"page-{number}-figure-1.png"
        annotated = Image.open(io.BytesIO(base64.b64decode(page["annotated"])))
        assert annotated.width == 10 + number


def test_a_pdf(jobs: httpx.Client, triton: FakeTriton) -> None:
    form = {"pages": "2-3,5", "dpi": "72", "prompt": "markdown", "temperature": "0.5"}
    job = jobs.post("/ocr/jobs", files={"file": ("a.pdf", pdf(5), "application/pdf")}, data=form).json()
    assert job["pages"] == 3
    assert wait_for_end(jobs, job)["status"] == "done"
    assert page_texts(jobs, job) == [(number, f"page {number}") for number in (2, 3, 5)]
    assert sorted(page_of(seen) for seen in triton.seen) == [2, 3, 5]
    assert {seen.sampling["temperature"] for seen in triton.seen} == {0.5}
    assert all("Convert the document to markdown" in seen.inputs["text_input"] for seen in triton.seen)
    assert jobs.get(f"{job['url']}/result").json()["usage"] == times_usage(3)


def test_pages_in_parts(jobs: httpx.Client) -> None:
    job = create(jobs, 30)
    wait_for_end(jobs, job)

    def part(**query: int) -> tuple[list[int], int | None]:
        answer = jobs.get(f"{job['url']}/pages", params=query).json()
        return [page["page"] for page in answer["pages"]], answer["next"]

    assert part(**{"from": 3, "limit": 2}) == ([3, 4], 5)
    assert part(**{"from": 29}) == ([29, 30], None)
    assert part(limit=25) == (list(range(1, 26)), 26)
    assert part(**{"from": 31}) == ([], None)


def test_later_pages_that_are_read_first_come_in_their_order(jobs: httpx.Client, triton: FakeTriton) -> None:
    gate = wait_at_page(triton, 1, 1)
    job = create(jobs, 4)
    for _ in range(4):
        assert triton.arrived.acquire(timeout=WAIT_S)
    assert jobs.get(f"{job['url']}/pages").json() == {
        "id": job["id"],
        "status": "running",
        "pages": [],
        "next": 1,
    }
    gate.open()
    told = [event["page"] for _, event in events(jobs, job) if event["type"] == "page"]
    assert told == [1, 2, 3, 4]
    assert page_texts(jobs, job) == expected_texts(4)


def test_events(jobs: httpx.Client, triton: FakeTriton) -> None:
    gate = wait_at_page(triton, 2, 2)
    triton_reply = triton.reply
    triton.reply = lambda seen, context: (by_page({3: REFUSAL}) if page_of(seen) == 3 else triton_reply)(seen, context)
    job = create(jobs, 3)
    wait_for_page(jobs, job, 1)
    seen = []
    for event_id, event in events(jobs, job):
        seen.append((event_id, event))
        gate.open()
    (_, first), *pages, (_, last) = seen
    assert (first["type"], first["job"]["status"], first["job"]["pages_done"]) == ("status", "running", 1)
    assert [event_id for event_id, _ in pages] == ["1", "2", "3"]
    assert [event for _, event in pages] == [
        {"type": "page", "page": 1, "status": "done", "pages_done": 1, "pages": 3},
        {"type": "page", "page": 2, "status": "done", "pages_done": 2, "pages": 3},
        {"type": "page", "page": 3, "status": "failed", "pages_done": 3, "pages": 3},
    ]
    assert last == {"type": "status", "job": jobs.get(job["url"]).json()}
    assert last["job"]["status"] == "done"


def test_events_go_on_where_they_stopped(jobs: httpx.Client) -> None:
    job = create(jobs, 4)
    wait_for_end(jobs, job)

    def told(**options: Any) -> list[int]:
        return [event["page"] for _, event in events(jobs, job, **options) if event["type"] == "page"]

    assert told() == [1, 2, 3, 4]
    assert told(headers={"last-event-id": "2"}) == [3, 4]
    assert told(params={"from": 4}) == [4]
    assert told(headers={"last-event-id": "4"}, params={"from": 1}) == []
    response = jobs.get(f"{job['url']}/events", headers={"last-event-id": "x"})
    assert error_of(response) == (400, "invalid_value", "Last-Event-ID")


def test_events_of_a_job_that_is_deleted_meanwhile(jobs: httpx.Client, triton: FakeTriton) -> None:
    wait_at_page(triton, 1, 1)
    job = create(jobs, 1)
    with jobs.stream("GET", f"{job['url']}/events") as response:
        lines = response.iter_lines()
        assert '"status"' in next(lines)
        jobs.delete(job["url"])
        jobs.delete(job["url"])
        rest = [line for line in lines if line]
    # The cancel may be told before the job is gone.
    assert rest[-1] == "data: [DONE]" or json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "job_not_found"


def test_a_silent_stream_is_kept_open(servers: Servers, triton: FakeTriton) -> None:
    jobs = servers.start(keep_alive_s=0.01).http
    gate = wait_at_page(triton, 1, 1)
    job = create(jobs, 1)
    with jobs.stream("GET", f"{job['url']}/events") as response:
        lines = response.iter_lines()
        assert ": keep-alive" in lines
        gate.open()
        assert "data: [DONE]" in lines


def test_cancel_in_the_middle(jobs: httpx.Client, triton: FakeTriton) -> None:
    wait_at_page(triton, 3, 5)
    job = create(jobs, 5)
    wait_for_page(jobs, job, 2)
    response = jobs.delete(job["url"])
    assert response.status_code == 200
    cancelled = response.json()
    assert (cancelled["status"], cancelled["pages_done"]) == ("cancelled", 2)
    assert cancelled["expires"] is not None
    assert wait_for_end(jobs, job) == cancelled
    waiting = [seen for seen in triton.seen if page_of(seen) > 2]
    assert all(seen.cancelled.wait(WAIT_S) for seen in waiting)
    assert page_texts(jobs, job) == expected_texts(2)
    response = jobs.get(f"{job['url']}/result")
    assert error_of(response) == (409, "job_not_done", None)
    assert "cancelled" in response.json()["error"]["message"]


def test_cancel_before_its_turn(servers: Servers, triton: FakeTriton) -> None:
    jobs = servers.start(max_running_jobs=1).http
    gate = wait_at_page(triton, 1, 1)
    first, second, third = (create(jobs, 1) for _ in range(3))
    assert triton.arrived.acquire(timeout=WAIT_S)
    assert [jobs.get(job["url"]).json()["status"] for job in (first, second, third)] == ["running", "queued", "queued"]
    assert jobs.delete(second["url"]).json()["status"] == "cancelled"
    gate.open()
    assert wait_for_end(jobs, third)["status"] == "done"
    assert jobs.get(first["url"]).json()["status"] == "done"
    assert jobs.get(second["url"]).json()["pages_done"] == 0
    assert len(triton.seen) == 2


def test_delete(jobs: httpx.Client, triton: FakeTriton, folder: Path) -> None:
    triton.reply = by_page({1: GROUNDED})
    job = create(jobs, 1, output="figures")
    wait_for_end(jobs, job)
    assert (folder / "files" / job["id"]).exists()
    assert jobs.delete(job["url"]).json() == {"id": job["id"], "object": "ocr.job", "deleted": True}
    assert not (folder / "files" / job["id"]).exists()
    for response in (jobs.get(job["url"]), jobs.delete(job["url"])):
        assert error_of(response) == (404, "job_not_found", "job_id")


@pytest.mark.parametrize("path", ["", "/pages", "/result", "/events"])
@pytest.mark.parametrize("job_id", ["job-x", "job-" + 32 * "0", "..%2F..%2Fetc", "%00", "x" * 5000])
def test_an_unknown_job(jobs: httpx.Client, path: str, job_id: str) -> None:
    response = jobs.get(f"/ocr/jobs/{job_id}{path}")
    assert response.status_code == 404
    assert len(response.content) < 1000


def test_the_list(servers: Servers, triton: FakeTriton) -> None:
    jobs = servers.start().http
    assert jobs.get("/ocr/jobs").json() == {"object": "list", "data": [], "has_more": False}
    created = [create(jobs, 1)["id"] for _ in range(3)]

    def listed(**query: Any) -> tuple[list[str], bool]:
        answer = jobs.get("/ocr/jobs", params=query).json()
        return [job["id"] for job in answer["data"]], answer["has_more"]

    assert listed() == (created[::-1], False)
    assert listed(limit=2) == ([created[2], created[1]], True)
    assert listed(limit=2, after=created[1]) == ([created[0]], False)
    assert error_of(jobs.get("/ocr/jobs", params={"after": "x"})) == (400, "invalid_value", "after")


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=x", "limit"),
        ("?colour=red", "colour"),
        ("/ID/pages?from=0", "from"),
        ("/ID/pages?limit=1001", "limit"),
        ("/ID/pages?first=1", "first"),
        ("/ID/result?format=pdf", "format"),
        ("/ID/events?from=-1", "from"),
    ],
)
def test_a_bad_query(jobs: httpx.Client, path: str, param: str) -> None:
    job = create(jobs, 1)
    assert error_of(jobs.get("/ocr/jobs" + path.replace("ID", job["id"]))) == (400, "invalid_value", param)


@pytest.mark.parametrize(
    ("content", "form", "status", "param"),
    [
        (b"", {}, 400, "file"),
        (b"%PDF-1.4 and no more", {}, 400, "file"),
        (png()[:40], {}, 400, "file"),
        (tiff(2), {"frames": "all", "pages": "3"}, 400, "pages"),
        (tiff(2), {"prompt": "locate"}, 400, "object"),
        (tiff(2), {"colour": "red"}, 400, "colour"),
        (tiff(2), {"stream": "true"}, 400, "stream"),
        (tiff(2), {"model": "gpt"}, 404, "model"),
        (tiff(4), {"frames": "all"}, 413, "pages"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    servers: Servers, folder: Path, content: bytes, form: dict[str, str], status: int, param: str
) -> None:
    jobs = servers.start(max_pages=3).http
    response = jobs.post("/ocr/jobs", files={"file": ("a", content, "image/tiff")}, data=form)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert jobs.get("/ocr/jobs").json()["data"] == []
    assert list(folder.glob("files/*")) == []


def test_neither_a_form_nor_json(jobs: httpx.Client) -> None:
    response = jobs.post("/ocr/jobs", content=png(), headers={"content-type": "image/png"})
    assert error_of(response) == (415, "unsupported_media_type", None)


@pytest.mark.parametrize("path", ["/pages", "/result"])
def test_lost_files_are_an_answer_of_their_own(jobs: httpx.Client, folder: Path, path: str) -> None:
    job = create(jobs, 2, output="annotated")
    wait_for_end(jobs, job)
    (folder / "files" / job["id"] / "page-2.json").unlink()
    assert error_of(jobs.get(job["url"] + path)) == (404, "job_files_lost", None)


@pytest.mark.parametrize("path", ["/pages", "/result?format=text"])
def test_a_database_that_fails_is_an_answer_of_its_own(jobs: httpx.Client, folder: Path, path: str) -> None:
    job = create(jobs, 1)
    wait_for_end(jobs, job)
    with sqlite3.connect(folder / "jobs.sqlite3") as connection:
        connection.execute("ALTER TABLE pages RENAME COLUMN raw TO gone")
    connection.close()
    assert error_of(jobs.get(job["url"] + path)) == (503, "unavailable", None)


def test_no_more_jobs_than_allowed(servers: Servers, triton: FakeTriton, folder: Path) -> None:
    jobs = servers.start(max_jobs=2).http
    wait_at_page(triton, 1, 1)
    create(jobs, 1)
    create(jobs, 1)
    response = jobs.post("/ocr/jobs", files={"file": png()})
    assert error_of(response) == (429, "too_many_jobs", None)
    assert response.headers["retry-after"] == "1"
    assert len(list((folder / "files").iterdir())) == 2
    # It is said before anything is done with the upload.
    assert jobs.post("/ocr/jobs", files={"file": b"broken"}).status_code == 429


def test_jobs_that_have_ended_make_room(servers: Servers, folder: Path) -> None:
    jobs = servers.start(max_jobs=2).http
    created = []
    for _ in range(4):
        created.append(create(jobs, 1, output="annotated"))
        wait_for_end(jobs, created[-1])
    kept = [job["id"] for job in created[2:]]
    assert [job["id"] for job in jobs.get("/ocr/jobs").json()["data"]] == kept[::-1]
    assert sorted(path.name for path in (folder / "files").iterdir()) == sorted(kept)


def test_a_file_name_is_no_path(jobs: httpx.Client, tmp_path: Path, folder: Path) -> None:
    names = ["../../../evil.png", "/etc/passwd", "a\\..\\b.png", "x" * 1000]
    for name in names:
        job = create(jobs, 1, name=name)
        assert job["file_name"] == name[:255]
        assert wait_for_end(jobs, job)["status"] == "done"
        assert job["id"] in {path.name for path in (folder / "files").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"jobs"}
    assert {path.name.partition(".")[0] for path in folder.iterdir()} <= {"jobs", "files"}


def test_all_pages_fail(jobs: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(*REFUSAL)
    job = create(jobs, 2)
    failed = wait_for_end(jobs, job)
    assert (failed["status"], failed["pages_done"], failed["pages_failed"]) == ("failed", 2, 2)
    assert failed["error"] == {
        "message": "file: is odd",
        "type": "invalid_request_error",
        "param": "file",
        "code": "invalid_value",
    }
    response = jobs.get(f"{job['url']}/result")
    assert (response.status_code, response.json()) == (400, {"error": failed["error"]})
    assert [page["error"] for page in jobs.get(f"{job['url']}/pages").json()["pages"]] == [failed["error"]] * 2


def test_what_has_ended_expires(servers: Servers, triton: FakeTriton, folder: Path) -> None:
    clock = Clock()
    jobs = servers.start(clock, job_ttl_s=100).http
    gate = wait_at_page(triton, 2, 2)
    old, running = create(jobs, 1), create(jobs, 2)
    wait_for_end(jobs, old)
    assert jobs.get(old["url"]).status_code == 200
    clock.advance(99)
    wait_for_page(jobs, running, 1)
    clock.advance(2)
    until(lambda: jobs.get(old["url"]).status_code == 404)
    until(lambda: {path.name for path in (folder / "files").iterdir()} == {running["id"]})
    gate.open()
    assert wait_for_end(jobs, running)["status"] == "done"


def test_files_without_a_job_are_removed(servers: Servers, folder: Path) -> None:
    orphan, foreign = folder / "files" / f"job-{32 * 'a'}", folder / "files" / "notes"
    for path in (orphan, foreign):
        path.mkdir(parents=True)
        (path / "source").touch()
    clock = Clock()
    jobs = servers.start(clock).http
    job = create(jobs, 1)
    wait_for_end(jobs, job)
    assert orphan.exists(), "it could be that of a job that is being created"
    clock.advance(4000)
    until(lambda: not orphan.exists())
    assert foreign.exists()
    assert page_texts(jobs, job) == expected_texts(1)


def test_a_database_that_can_not_be_opened_stops_only_jobs(
    servers: Servers, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    (folder / "jobs.sqlite3").write_bytes(b"what is this? " * 1000)
    jobs = servers.start().http
    for response in (jobs.get("/ocr/jobs"), jobs.post("/ocr/jobs", files={"file": png()})):
        assert error_of(response) == (503, "unavailable", None)
    assert jobs.post("/ocr/file", files={"file": png(11)}).json()["text"] == "page 1"
    assert "OCR jobs are off: cannot open the database" in caplog.text
    assert "jobs.sqlite3: file is not a database" in caplog.text
