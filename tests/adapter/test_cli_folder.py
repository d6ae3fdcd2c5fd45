"""`python -m adapter ocr … --out DIR`: which files are written, and what happens to those that are there."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapter.cli.command import main
from tests.adapter.cli_server import (
    Answer,
    OcrServerFake,
    encoded,
    error,
    events,
    failed_page,
    page,
    texts,
)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.cli.server.PAUSES_S", (0, 0, 0, 0))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an image in it."""
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"a picture")
    return tmp_path


def ocr(server: OcrServerFake, *arguments: str) -> int:
    return main([*arguments, "--out", "out", "--url", server.url])


def written() -> dict[str, bytes]:
    """Every file below the output folder, hidden ones too."""
    out = Path("out")
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def figure(number: int, image: bytes) -> dict[str, Any]:
    return {"id": f"page-1-figure-{number}.png", "box": [0, 0, 9, 9], "image_base64": encoded(image)}


def test_text(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    server.tell("a.png", texts("Grüße", "second"))
    assert ocr(server, "a.png") == 0
    assert written() == {"a.txt": "Grüße\n\nsecond\n".encode()}
    assert server.seen[0].fields == {"output": ["text"]}
    assert capsys.readouterr() == ("", "")


def test_an_empty_page(server: OcrServerFake) -> None:
    server.tell("a.png", texts(""))
    assert ocr(server, "a.png") == 0
    assert written() == {"a.txt": b""}


def test_markdown_with_figures(server: OcrServerFake) -> None:
    Path("my (1).png").write_bytes(b"a picture")
    markdown = "![page-1-figure-1.png](page-1-figure-1.png)\n\n![page-1-figure-11.png](page-1-figure-11.png)"
    figures = [figure(1, b"one"), figure(11, b"eleven")]
    server.tell("my (1).png", Answer(events([page(1, markdown=markdown, figures=figures)])))
    assert ocr(server, "my (1).png", "--markdown") == 0
    link = "my%20%281%29/page-1-figure-"
    assert written() == {
        "my (1).md": f"![page-1-figure-1.png]({link}1.png)\n\n![page-1-figure-11.png]({link}11.png)\n".encode(),
        "my (1)/page-1-figure-1.png": b"one",
        "my (1)/page-1-figure-11.png": b"eleven",
    }
    assert server.seen[0].fields == {"output": ["markdown", "figures"], "prompt": ["markdown"]}


def test_blocks_and_annotated_pages(server: OcrServerFake) -> None:
    block = {"type": "text", "text": "first", "boxes": [[1, 2, 3, 4]], "page": 1}
    pages = [
        page(1, text="first", blocks=[block], annotated=encoded(b"drawn")),
        failed_page(2, "is broken"),
        page(3, text="third", blocks=[], annotated=encoded(b"drawn too")),
    ]
    server.tell("a.png", Answer(events(pages)))
    assert ocr(server, "a.png", "--blocks", "--annotate") == 1
    files = written()
    assert files.pop("a.txt.incomplete") == b""
    assert json.loads(files.pop("a.blocks.json")) == [
        {"page": 1, "width": 90, "height": 120, "blocks": [block]},
        {"page": 2, "error": "is broken"},
        {"page": 3, "width": 90, "height": 120, "blocks": []},
    ]
    assert files == {
        "a.txt": b"first\n\n[page 2 is missing: is broken]\n\nthird\n",
        "a/page-1.annotated.png": b"drawn",
        "a/page-3.annotated.png": b"drawn too",
    }
    assert server.seen[0].fields["output"] == ["text", "blocks", "annotated"]


def test_everything(server: OcrServerFake) -> None:
    server.tell("a.png", Answer(events([page(1, markdown="x", figures=[], blocks=[], annotated=encoded(b"drawn"))])))
    assert ocr(server, "a.png", "--markdown", "--blocks", "--annotate") == 0
    assert set(written()) == {"a.md", "a.blocks.json", "a/page-1.annotated.png"}


def test_folders_keep_their_structure(server: OcrServerFake) -> None:
    for name in ("scans/x/1.PDF", "scans/x/y/2.jpg", "scans/3.tiff", "scans/notes.docx", "scans/.hidden/4.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
        server.tell(Path(name).name, texts(name))
    assert ocr(server, "scans", "--jobs", "1") == 0
    assert written() == {"x/1.txt": b"scans/x/1.PDF\n", "x/y/2.txt": b"scans/x/y/2.jpg\n", "3.txt": b"scans/3.tiff\n"}
    assert [upload.file_name for upload in server.seen] == ["3.tiff", "1.PDF", "2.jpg"]


def test_two_of_the_same_stem(server: OcrServerFake) -> None:
    Path("a.pdf").write_bytes(b"")
    server.tell("a.png", texts("the picture"))
    server.tell("a.pdf", texts("the document"))
    assert ocr(server, "a.png", "a.pdf") == 0
    assert written() == {"a.png.txt": b"the picture\n", "a.pdf.txt": b"the document\n"}


@pytest.mark.parametrize(
    ("options", "existing"),
    [
        ([], "a.txt"),
        (["--markdown"], "a.md"),
        (["--markdown"], "a/page-1-figure-2.png"),
        (["--blocks"], "a.blocks.json"),
        (["--annotate"], "a/page-7.annotated.png"),
    ],
)
def test_a_file_with_a_result_is_skipped(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str], options: list[str], existing: str
) -> None:
    Path("b.png").write_bytes(b"")
    place = Path("out", existing)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    server.tell("b.png", Answer(events([page(1, text="b", markdown="b", blocks=[], figures=[])])))
    assert ocr(server, "a.png", "b.png", *options) == 0
    assert capsys.readouterr().err == f"a.png: skipped, out/{existing} exists (--force overwrites it)\n"
    assert written()[existing] == b"mine"
    assert [upload.file_name for upload in server.seen] == ["b.png"]


def test_other_results_are_no_reason_to_skip(server: OcrServerFake) -> None:
    Path("out").mkdir()
    Path("out/a.txt").write_bytes(b"mine")
    server.tell("a.png", Answer(events([page(1, markdown="# a", figures=[])])))
    assert ocr(server, "a.png", "--markdown") == 0
    assert written() == {"a.txt": b"mine", "a.md": b"# a\n"}


def test_what_lacks_pages_is_read_again(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    def drawn(number: int) -> dict[str, Any]:
        return page(number, text=f"page {number}", blocks=[], annotated=encoded(b"drawn"))

    lacking = Answer(events([drawn(1), failed_page(2, "is broken"), drawn(3)]))
    broken = Answer(events([drawn(1)], num_pages=3, done=False))
    whole = Answer(events([drawn(1), drawn(2)]))
    server.tell("a.png", lacking, broken, error(415, "no"), whole)
    options = ("a.png", "--annotate", "--blocks")
    assert ocr(server, *options) == 1
    assert written()["a.txt"] == b"page 1\n\n[page 2 is missing: is broken]\n\npage 3\n"

    assert ocr(server, *options) == 1
    files = written()
    assert files["a.txt"] == b"page 1\n\n[all pages after page 1 are missing: no]\n"
    assert json.loads(files["a.blocks.json"])[1:] == [{"after_page": 1, "error": "no"}]
    assert "a/page-3.annotated.png" not in files

    assert ocr(server, *options) == 0
    assert written() == {
        "a.txt": b"page 1\n\npage 2\n",
        "a.blocks.json": written()["a.blocks.json"],
        "a/page-1.annotated.png": b"drawn",
        "a/page-2.annotated.png": b"drawn",
    }
    num_asked = len(server.seen)
    assert ocr(server, *options) == 0
    assert len(server.seen) == num_asked
    assert "skipped" in capsys.readouterr().err


def test_pictures_of_an_earlier_longer_result_go(server: OcrServerFake) -> None:
    def figured(*numbers: int) -> Answer:
        figures = [figure(number, b"cut") for number in numbers]
        return Answer(events([page(1, markdown="x", figures=figures, annotated=encoded(b"drawn"))]))

    Path("out/a").mkdir(parents=True)
    Path("out/a/mine.png").write_bytes(b"mine")
    server.tell("a.png", figured(1, 2, 3), figured(1))
    assert ocr(server, "a.png", "--markdown", "--annotate") == 0
    assert ocr(server, "a.png", "--markdown", "--force") == 0
    assert set(written()) == {"a.md", "a/mine.png", "a/page-1-figure-1.png", "a/page-1.annotated.png"}


def test_force_overwrites(server: OcrServerFake, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out/a").mkdir(parents=True)
    Path("out/a.txt").write_bytes(b"old")
    Path("out/a/page-1.annotated.png").write_bytes(b"old")
    server.tell("a.png", Answer(events([page(1, text="new", annotated=encoded(b"new"))])))
    assert ocr(server, "a.png", "--force", "--annotate") == 0
    assert written() == {"a.txt": b"new\n", "a/page-1.annotated.png": b"new"}
    assert capsys.readouterr().err == ""


def test_force_keeps_the_old_result_when_the_new_one_fails(server: OcrServerFake) -> None:
    Path("out").mkdir()
    Path("out/a.txt").write_bytes(b"old")
    server.tell("a.png", Answer(events([page(1, text="new")], num_pages=2, done=False)))
    assert ocr(server, "a.png", "--force") == 1
    assert written() == {"a.txt": b"old"}


@pytest.mark.parametrize(
    "answer",
    [
        error(415, "file: not an image"),
        Answer(events([], num_pages=1, done=False)),
        Answer(events([failed_page(1, "file: not an image"), failed_page(2, "file: not an image")])),
        Answer(events([page(1, markdown="x", figures=[{"id": "../../b.png", "image_base64": ""}])])),
        Answer(events([page(1, markdown="x", annotated="A")])),
    ],
)
def test_a_file_that_fails_leaves_nothing_and_is_read_by_the_next_run(server: OcrServerFake, answer: Answer) -> None:
    Path("b.png").write_bytes(b"")
    whole = Answer(events([page(1, markdown="x", figures=[], annotated=encoded(b"drawn"))]))
    server.tell("a.png", answer)
    server.tell("b.png", whole)
    assert ocr(server, "a.png", "b.png", "--markdown", "--annotate") == 1
    server.tell("a.png", whole)
    assert set(written()) == {"b.md", "b/page-1.annotated.png"}
    assert not Path("b.png").read_bytes()
    assert ocr(server, "a.png", "b.png", "--markdown", "--annotate") == 0
    assert set(written()) == {"a.md", "a/page-1.annotated.png", "b.md", "b/page-1.annotated.png"}


def test_a_result_that_cannot_be_written_is_that_files_failure(
    server: OcrServerFake, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("b.png").write_bytes(b"")
    Path("out").mkdir()
    Path("out/a").write_bytes(b"in the way")
    answer = Answer(events([page(1, text="x", annotated=encoded(b"drawn"))]))
    server.tell("a.png", answer)
    server.tell("b.png", answer)
    assert ocr(server, "a.png", "b.png", "--annotate") == 1
    assert capsys.readouterr().err == "a.png: out/a: File exists\n"
    assert set(written()) == {"a", "b.txt", "b/page-1.annotated.png"}


def test_results_inside_the_folder_that_is_read_are_not_read(server: OcrServerFake) -> None:
    server.tell("a.png", Answer(events([page(1, text="x", annotated=encoded(b"drawn"))])))
    assert ocr(server, ".", "--annotate") == 0
    assert ocr(server, ".", "--annotate", "--force") == 0
    assert [upload.file_name for upload in server.seen] == ["a.png", "a.png"]
    assert set(written()) == {"a.txt", "a/page-1.annotated.png"}
