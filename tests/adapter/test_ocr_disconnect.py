"""A client that goes away takes all its pages with it, and what was opened for them."""

import json
import os
import socket
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.adapter.conftest import WAIT_S, Adapter
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.ocr_pages import base64_of, pdf, png, tiff

MEBIBYTE = 1024 * 1024
NUM_PAGES = 5
FRAMES = {"image_base64": base64_of(tiff(NUM_PAGES)), "frames": "all"}
REQUESTS = [
    ("/ocr", FRAMES),
    ("/ocr/batch", {"requests": [{"image_base64": base64_of(png())}] * NUM_PAGES}),
]
# Before the first text of a stream, two pages are begun.
STREAMS = [("/ocr/stream", FRAMES), ("/ocr/stream?format=json", FRAMES)]


def connect(adapter: Adapter, path: str, body: dict[str, Any]) -> socket.socket:
    host, port = adapter.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    connection = socket.create_connection((host, int(port)), timeout=WAIT_S)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
    connection.sendall(head.encode() + b"\r\n" + content)
    return connection


@pytest.mark.parametrize(("path", "body"), REQUESTS + STREAMS, ids=["whole", "batch", "stream", "json stream"])
def test_before_any_answer(session_adapter: Adapter, triton: FakeTriton, path: str, body: dict[str, Any]) -> None:
    triton.hangs()
    num_begun = 2 if "stream" in path else NUM_PAGES
    with connect(session_adapter, path, body):
        for _ in range(num_begun):
            assert triton.arrived.acquire(timeout=WAIT_S)
    assert len(triton.seen) == num_begun
    assert all(seen.cancelled.wait(WAIT_S) for seen in triton.seen)


@pytest.mark.parametrize(("path", "body"), STREAMS, ids=["text", "json"])
def test_in_the_middle_of_a_stream(
    session_adapter: Adapter, triton: FakeTriton, path: str, body: dict[str, Any]
) -> None:
    triton.hangs("Hello")
    with connect(session_adapter, path, body) as connection:
        received = b""
        while b"Hello" not in received:
            received += connection.recv(65536)
        for _ in range(NUM_PAGES):
            assert triton.arrived.acquire(timeout=WAIT_S)
    assert all(seen.cancelled.wait(WAIT_S) for seen in triton.seen)


def num_open_below(folder: Path) -> int:
    """How many files are open there, with a name or without; the adapter runs in this process."""
    targets = (os.readlink(fd) if fd.is_symlink() else "" for fd in Path("/proc/self/fd").iterdir())
    return sum(target.startswith(f"{folder}/") for target in targets)


def test_an_upload_is_not_kept_while_its_pages_are_read(
    http: httpx.Client, triton: FakeTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start, rest = pdf(1)[:9], pdf(1)[9:]
    large = start + b"%" + bytes(8 * MEBIBYTE) + b"\n" + rest
    gate = triton.hangs("Hello")
    with ThreadPoolExecutor(1) as threads:
        tracemalloc.start()
        try:
            answer = threads.submit(http.post, "/ocr/file", files={"file": large})
            assert gate.reached.wait(WAIT_S)
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert num_open_below(tmp_path) == 1
        gate.open()
        assert answer.result(WAIT_S).json()["text"] == "Hello"
    assert held_bytes < 4 * MEBIBYTE


def test_a_pdf_s_file_is_removed(
    session_adapter: Adapter, triton: FakeTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    triton.hangs()
    with connect(session_adapter, "/ocr", {"image_base64": base64_of(pdf(2)), "dpi": 72}):
        assert triton.arrived.acquire(timeout=WAIT_S)
        assert num_open_below(tmp_path) == 1
    while num_open_below(tmp_path):
        pass
    assert triton.seen[0].cancelled.wait(WAIT_S)
