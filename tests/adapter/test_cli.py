"""`python -m adapter ocr`: what is sent, what is printed, and how a run ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adapter.cli.command import main
from tests.adapter.cli_server import Answer, OcrServerFake, error, events, failed, failed_page, page, texts


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.cli.server.PAUSES_S", (0, 0, 0, 0))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two images in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(f"content of {name}".encode())
    return tmp_path


def test_a_files_text_is_printed(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", texts("Hello\n", "", "a second\u2028page"))
    assert main(["a.png", "--url", server.url]) == 0
    assert capsys.readouterr() == ("Hello\n\na second\u2028page\n", "")
    (upload,) = server.seen
    assert upload.path == "/ocr/stream?format=pages"
    assert upload.content == b"content of a.png"
    assert upload.fields == {"output": ["text"]}


def test_every_option_reaches_the_server(server: OcrServerFake) -> None:
    server.tell("a.png", Answer(events([page(3, markdown="")])))
    options = "--markdown --pages 1-3,7 --frames all --mode gundam --prompt free --object cat --dpi 200"
    options += f" --max-tokens 50 --model my-ocr --url {server.url}/"
    assert main(["a.png", *options.split()]) == 0
    assert server.seen[0].fields == {
        "output": ["markdown"],
        "pages": ["1-3,7"],
        "frames": ["all"],
        "mode": ["gundam"],
        "prompt": ["free"],
        "object": ["cat"],
        "dpi": ["200"],
        "max_tokens": ["50"],
        "model": ["my-ocr"],
    }


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        (["--markdown"], "markdown"),
        (["--blocks"], "markdown"),
        (["--object", "cat"], "locate"),
        (["--object", "cat", "--blocks"], "locate"),
        (["--markdown", "--prompt", "Read\\nit"], "Read\\nit"),
    ],
)
def test_the_prompt_follows_from_what_is_asked_for(server: OcrServerFake, options: list[str], prompt: str) -> None:
    server.tell("a.png", texts("Hello"))
    assert main(["a.png", "--url", server.url, *options]) == 0
    assert server.seen[0].fields["prompt"] == [prompt]


def test_markdown_is_printed(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", Answer(events([page(1, markdown="# Title"), page(2, markdown="Text")])))
    assert main(["a.png", "--markdown", "--url", server.url]) == 0
    assert capsys.readouterr().out == "# Title\n\nText\n"


def test_blocks_are_printed(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    block = {"type": "title", "text": "Größe", "boxes": [[1, 2, 3, 4]], "page": 1}
    server.tell("a.png", Answer(events([page(1, blocks=[block]), failed_page(2, "is broken")])))
    assert main(["a.png", "--blocks", "--url", server.url]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"page": 1, "width": 90, "height": 120, "blocks": [block]},
        {"page": 2, "error": "is broken"},
    ]


def test_several_files_are_printed_in_their_order_under_headers(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tell("a.png", texts("first"))
    server.tell("b.png", texts("second"))
    server.before["a.png"] = server.answered["b.png"] = threading.Event()
    assert main(["a.png", "b.png", "--url", server.url]) == 0
    assert capsys.readouterr().out == "==> a.png <==\nfirst\n\n==> b.png <==\nsecond\n\n"


def test_one_job_reads_one_file_after_the_other(server: OcrServerFake) -> None:
    server.tell("a.png", Answer(events([page(1, text="")], done=False), hold=True))
    server.tell("b.png", texts("second"))
    interrupt = threading.Thread(target=lambda: server.holding.wait(10) and os.kill(os.getpid(), signal.SIGINT))
    interrupt.start()
    assert main(["a.png", "b.png", "--jobs", "1", "--url", server.url]) == 130
    interrupt.join()
    assert [upload.file_name for upload in server.seen] == ["a.png"]


def test_a_failing_file_is_one_line_and_spoils_no_other(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tell("a.png", error(400, "file: can't be read as an image or PDF\n"))
    server.tell("b.png", texts("second"))
    assert main(["a.png", "b.png", "--url", server.url]) == 1
    assert capsys.readouterr() == (
        "==> b.png <==\nsecond\n\n",
        "a.png: file: can't be read as an image or PDF\n",
    )


def test_a_failing_page_is_one_line_and_spoils_no_other(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str]
) -> None:
    server.tell("a.png", Answer(events([failed_page(2, "cannot be rendered"), page(3, text="third")])))
    assert main(["a.png", "--url", server.url]) == 1
    assert capsys.readouterr() == (
        "[page 2 is missing: cannot be rendered]\n\nthird\n",
        "a.png: page 2: cannot be rendered\n",
    )


def test_a_page_that_is_cut_short_is_mentioned(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [page(1, text="a", finish_reason="repetition"), page(2, text="b", finish_reason="length")]
    server.tell("a.png", Answer(events(pages)))
    assert main(["a.png", "--url", server.url]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("a.png: page 1: it is cut short: ") and "repeat" in first
    assert second.startswith("a.png: page 2: it is cut short: ") and "limit" in second


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: OcrServerFake, capsys: pytest.CaptureFixture[str], status: int) -> None:
    busy = error(status, "the queue is full", Retry_After="0")
    server.tell("a.png", busy, busy, texts("Hello"))
    assert main(["a.png", "--url", server.url]) == 0
    assert capsys.readouterr() == ("Hello\n", "")
    assert [upload.content for upload in server.seen] == [b"content of a.png"] * 3


def test_a_server_that_stays_busy_is_given_up(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", error(429, "the queue is full", Retry_After="0"))
    assert main(["a.png", "--url", server.url]) == 1
    assert capsys.readouterr() == ("", "a.png: the queue is full\n")
    assert 3 < len(server.seen) < 10


def test_other_errors_are_not_tried_again(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", Answer(b"<h1>Bad gateway</h1>", 502))
    assert main(["a.png", "--url", server.url]) == 1
    assert capsys.readouterr().err == "a.png: the server answers with status 502\n"
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (events([], num_pages=2, done=False), "the server's answer broke off"),
        (events([], num_pages=2), "the server's answer broke off"),
        (b"", "the server's answer broke off"),
        (b"data: [DONE]\n\n", "the server's answer broke off"),
        (b"data: " + json.dumps(page(1, text="Hel")).encode() + b"\n\n", "the server's answer is not understood: "),
        (b"data: Hello\n\ndata: [DONE]\n\n", "the server's answer is not understood: "),
        (b'data: {"type": "start"}\n\n', "the server's answer is not understood: pages: "),
        (b'data: {"choices": []}\n\n', "the server's answer is not understood: "),
        (failed("The model went away."), "The model went away."),
        (b'data: {"error": {"message": "The model went away."}}\n\n', "The model went away."),
    ],
)
def test_an_answer_without_a_page_is_a_failure(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str], body: bytes, message: str
) -> None:
    server.tell("a.png", Answer(body))
    assert main(["a.png", "--url", server.url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"a.png: {message}") and err.count("\n") == 1


@pytest.mark.parametrize("ending", [b"", failed("The server is shutting down.")])
def test_all_pages_without_the_ending_are_a_whole_answer(server: OcrServerFake, ending: bytes) -> None:
    server.tell("a.png", Answer(events([page(1, text="Hel")], done=False) + ending))
    assert main(["a.png", "--url", server.url]) == 0
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("ending", "headers"),
    [
        (b"", {}),
        (b"", {"Content-Length": "100000"}),
        (failed("The model went away.", "service_unavailable_error"), {}),
    ],
    ids=["ended", "cut", "failed"],
)
def test_a_broken_answer_is_asked_for_the_rest(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str], ending: bytes, headers: dict[str, str]
) -> None:
    def breaking(*pages: int, num_pages: int) -> Answer:
        read = [page(number, text=f"page {number}") for number in pages]
        return Answer(events(read, num_pages=num_pages, done=False) + ending, headers=headers)

    busy = error(503, "is starting", Retry_After="0")
    whole = Answer(events([page(number, text=f"page {number}") for number in (4, 5)]))
    server.tell("a.png", busy, breaking(1, 2, num_pages=5), busy, breaking(3, num_pages=3), whole)
    assert main(["a.png", "--url", server.url]) == 0
    assert capsys.readouterr() == ("page 1\n\npage 2\n\npage 3\n\npage 4\n\npage 5\n", "")
    assert [upload.fields.get("pages") for upload in server.seen] == [None, None, ["3-"], ["3-"], ["4-"]]
    assert {upload.content for upload in server.seen} == {b"content of a.png"}


def test_the_rest_of_chosen_pages(server: OcrServerFake) -> None:
    broken = Answer(events([page(2, text="a"), page(3, text="b")], num_pages=4, done=False))
    server.tell("a.png", broken, Answer(events([page(4, text="c"), page(7, text="d")])))
    assert main(["a.png", "--pages", "7,2-4", "--url", server.url]) == 0
    assert [upload.fields["pages"] for upload in server.seen] == [["7,2-4"], ["7,4"]]


@pytest.mark.parametrize(
    ("last_answer", "message", "num_asked"),
    [
        (Answer(events([], num_pages=2, done=False)), "the server's answer broke off", 5),
        (Answer(failed("file: is odd", "invalid_request_error")), "file: is odd", 2),
        (error(400, "file: is odd"), "file: is odd", 2),
        (texts("Hel"), "the server's answer is not understood: page 1 was not asked for", 2),
    ],
)
def test_the_pages_before_a_break_are_kept(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str], last_answer: Answer, message: str, num_asked: int
) -> None:
    server.tell("a.png", Answer(events([page(1, text="Hel")], num_pages=3, done=False)), last_answer)
    assert main(["a.png", "--url", server.url]) == 1
    assert capsys.readouterr() == (
        f"Hel\n\n[all pages after page 1 are missing: {message}]\n",
        f"a.png: after page 1: {message}\n",
    )
    assert len(server.seen) == num_asked


def test_a_server_that_goes_away_ends_the_run(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", Answer(events([page(1, text="Hel")], num_pages=2, done=False)))
    server.before["a.png"] = threading.Event()
    stopping = threading.Thread(target=server.http.shutdown)

    def stop() -> None:
        server.arrived.wait(10)
        stopping.start()
        stopping.join()
        server.http.socket.close()
        server.before["a.png"].set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert main(["a.png", "b.png", "--jobs", "1", "--url", server.url]) == 1
    stopper.join()
    out, err = capsys.readouterr()
    away = f"No server answers at {server.url}: start one with `make up`, or name it with --url."
    assert out == f"==> a.png <==\nHel\n\n[all pages after page 1 are missing: {away}]\n\n"
    assert err == f"a.png: after page 1: {away}\n{away}\n"


def test_a_server_that_is_away_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert main(["a.png", "b.png", "--url", url]) == 1
    sentence = f"No server answers at {url}: start one with `make up`, or name it with --url.\n"
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "missing.png",
        "empty",
        "a.png --annotate",
        "a.png --markdown --blocks",
        "a.png --out b.png",
        "empty a.png --out empty --markdown",
        "a.png --mode huge",
        "a.png --jobs 0",
        "a.png --max-tokens x",
        "a.png --url localhost:8000",
        "a.png --colour",
    ],
)
def test_a_wrong_command_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    assert "python -m adapter ocr: error: " in capsys.readouterr().err


def test_an_unreadable_file(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    Path("scans").mkdir()
    Path("scans/gone.png").symlink_to("nowhere.png")
    assert main(["scans", "--url", server.url]) == 1
    assert capsys.readouterr().err == "scans/gone.png: No such file or directory\n"


def test_the_bar_counts_pages_and_files(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", texts("a", "b", "c"))
    server.tell("b.png", Answer(events([page(1, text="a")], num_pages=9, done=False)), error(400, "is odd"))
    assert main(["a.png", "b.png", "--progress", "--url", server.url]) == 1
    err = capsys.readouterr().err
    last = err.split("\r")[-1]
    assert "4/4" in last and "2/2 files" in last


def command(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "adapter", *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_leaves_nothing_half_done(
    server: OcrServerFake, folder: Path, number: signal.Signals
) -> None:
    server.tell("a.png", texts("first"))
    server.tell("b.png", Answer(events([page(1, text="a")], num_pages=2, done=False), hold=True))
    with command("ocr", "a.png", "b.png", "--jobs", "1", "--out", "out", "--url", server.url) as process:
        assert server.holding.wait(30)
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "stopped\n")
    assert server.client_gone.wait(10)
    assert [path.name for path in (folder / "out").iterdir()] == ["a.txt"]


def test_a_reader_that_goes_away_ends_the_command(server: OcrServerFake) -> None:
    server.tell("a.png", texts("first"))
    server.before["a.png"] = threading.Event()
    with command("ocr", "a.png", "--url", server.url) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        server.before["a.png"].set()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["serve"], 2), (["-x", "ocr"], 2)])
def test_the_command_without_a_client(arguments: list[str], code: int) -> None:
    with command(*arguments) as process:
        out, err = process.communicate()
    assert process.returncode == code
    assert "python -m adapter ocr FILE…" in (err if code else out)
