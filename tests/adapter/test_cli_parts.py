"""The client's reader of event streams, its names for results, and its pauses."""

import itertools
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.cli.errors import UsageError
from adapter.cli.event_reader import EventReader
from adapter.cli.server import retry_pause_s
from adapter.cli.sources import find_sources


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


@pytest.mark.parametrize(
    ("status", "retry_after", "default_s", "pause_s"),
    [
        (429, "7", 1, 7),
        (503, "0", 8, 0),
        (503, "", 4, 4),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", 2, 2),
        (429, "7", None, None),  # the last try
        (429, "86400", 1, None),  # nobody waits that long
        (500, "7", 1, None),
        (400, "", 1, None),
    ],
)
def test_pauses(status: int, retry_after: str, default_s: float | None, pause_s: float | None) -> None:
    assert retry_pause_s(httpx.Response(status, headers={"Retry-After": retry_after}), default_s) == pause_s
