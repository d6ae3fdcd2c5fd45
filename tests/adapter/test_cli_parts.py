"""The client's reader of event streams, its names for results, and its pauses."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.cli.command import main
from adapter.cli.errors import FileFailed, Interrupted, ServerAway, UsageError
from adapter.cli.event_reader import EventReader
from adapter.cli.pages import pages_after
from adapter.cli.server import PAUSES_S, pause_before_retry_s
from adapter.cli.sources import find_sources
from adapter.documents.page_ranges import parse_pages
from adapter.ocr.fields import OcrFields


def decode_in_pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    reader = EventReader()
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [data for start, end in itertools.pairwise(places) for data in reader.decode(stream[start:end])]


@given(cuts=st.lists(st.integers(0, 1000)), end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int], end: bytes) -> None:
    lines = [
        b"data: one",
        b"",
        b": a comment",
        b"event: x",
        b"data:two",
        b"data:  and",
        b"data",
        b"",
        b"",
        b"id: 1",
        b"",
    ]
    lines += ["data: \u2028\x0b\x85".encode(), b"", b"data: never ended"]
    expected = [b"one", b"two\n and\n", "\u2028\x0b\x85".encode()]
    assert decode_in_pieces(end.join(lines) + end, cuts) == expected


def names(*given_paths: str, out: str | None = None) -> dict[str, str]:
    sources = find_sources([Path(path) for path in given_paths], None if out is None else Path(out))
    return {str(source.path): str(source.name) for source in sources}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one/a.png", "one/b.png", "two/a.png", "two/sub/a.pdf", "two/sub/A.jpg", "two/.a.png", "two/a.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_one_file_is_named_without_its_folders() -> None:
    assert names("one/a.png") == {"one/a.png": "a"}
    assert names("two/a.txt") == {"two/a.txt": "a"}


def test_files_keep_the_folders_that_tell_them_apart() -> None:
    assert names("two/a.png", "one/a.png") == {"two/a.png": "two/a", "one/a.png": "one/a"}


def test_a_folder_is_searched_in_order() -> None:
    found = names("two")
    assert found == {"two/a.png": "a", "two/sub/A.jpg": "sub/A.jpg", "two/sub/a.pdf": "sub/a.pdf"}
    assert list(found) == sorted(found)


def test_folders_and_files_together_are_read_once() -> None:
    assert names("one", "./one/a.png", str(Path("one/b.png").resolve())) == {"one/a.png": "a", "one/b.png": "b"}


def test_a_name_is_never_given_twice() -> None:
    for name in ("x.png", "x.pdf", "x.png.jpg", "x", "y.tar.png", "y.tar"):
        Path(name).touch()
    found = names("x.png", "x.pdf", "x.png.jpg", "x", "y.tar.png")
    assert found == {"x.png": "x.png", "x.pdf": "x.pdf", "x.png.jpg": "x.png.jpg", "x": "x", "y.tar.png": "y.tar"}


def test_results_are_no_sources() -> None:
    assert list(names("two", out="two/sub")) == ["two/a.png"]


@pytest.mark.parametrize("path", ["missing.png", "two/sub/missing"])
def test_a_path_that_does_not_exist(path: str) -> None:
    with pytest.raises(UsageError, match=path):
        names("one", path)


@pytest.mark.parametrize("field", ["mode", "frames"])
def test_the_servers_choices_are_the_commands(field: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    schema = OcrFields.model_json_schema()["properties"][field]
    choices = schema.get("enum") or schema["anyOf"][0]["enum"]
    assert f"--{field} {{{','.join(choices)}}}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pages", "last", "left"),
    [
        (None, 2, "3-"),
        ("1-3,7", 1, "2-3,7"),
        ("1-3,7", 3, "7"),
        ("-4", 2, "3-4"),
        ("5-", 2, "5-"),
        (" 5 - , 1", 6, "7-"),
        ("9,2-4,3-", 3, "9,4,4-"),
    ],
)
def test_the_pages_that_are_left(pages: str | None, last: int, left: str) -> None:
    assert pages_after(pages, last) == left
    chosen = parse_pages(pages or "1-", "pages", 12)
    assert parse_pages(left, "pages", 12) == [number for number in chosen if number > last]


@pytest.mark.parametrize(
    ("error", "num_failures", "pause_s"),
    [
        (Interrupted("busy", 7), 1, 7),
        (Interrupted("busy", 0), 3, 0),
        (Interrupted("broke off"), 2, PAUSES_S[2]),
        (ServerAway("is away"), 0, PAUSES_S[0]),
        (Interrupted("busy", 7), len(PAUSES_S), None),
        (ServerAway("is away"), len(PAUSES_S), None),
        (Interrupted("busy", 86400), 1, None),  # nobody waits that long
        (FileFailed("is no image"), 0, None),
    ],
)
def test_pauses(error: FileFailed | ServerAway, num_failures: int, pause_s: float | None) -> None:
    assert pause_before_retry_s(error, num_failures) == pause_s
