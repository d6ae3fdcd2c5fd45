"""The body is read before the application runs, whole and once, and let go of as it is read again."""

import tracemalloc
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from adapter.limits import BodyLimit
from adapter.request_log import RequestRecord

MEBIBYTE = 1024 * 1024


def scope(path: str) -> Scope:
    return {"type": "http", "path": path, "headers": [], "state": {"record": RequestRecord("id")}}


async def pass_through(body: Iterator[bytes], path: str = "/ocr/file") -> tuple[list[bytes], list[int]]:
    """The chunks that the application gets, and its answer's statuses; a limit of 3 MiB, and of 1 MiB elsewhere."""
    received: list[bytes] = []
    statuses: list[int] = []

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        more_body = True
        while more_body:
            message = await receive()
            received.append(message["body"])
            more_body = message["more_body"]
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Message:
        chunk = next(body, None)
        return {"type": "http.disconnect"} if chunk is None else chunk_message(chunk)

    def chunk_message(chunk: bytes) -> Message:
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    limit = BodyLimit(app, max_bytes=MEBIBYTE, max_document_bytes=3 * MEBIBYTE)
    await limit(scope(path), receive, send)
    return received, statuses


@pytest.mark.parametrize("chunk_bytes", [1000, 65536, 200_000])
async def test_it_arrives_as_it_was_sent(chunk_bytes: int) -> None:
    content = bytes(range(256)) * 4096
    chunks = [content[start : start + chunk_bytes] for start in range(0, len(content), chunk_bytes)]
    received, statuses = await pass_through(iter([*chunks, b""]))
    assert b"".join(received) == content
    assert statuses == []
    assert max(map(len, received)) < chunk_bytes + 65536


async def test_an_empty_body() -> None:
    assert await pass_through(iter([b""])) == ([b""], [])


async def test_a_client_that_goes_in_the_middle() -> None:
    assert await pass_through(iter([b"abc"])) == ([], [])


@pytest.mark.parametrize(
    ("path", "num_mebibytes"),
    [
        ("/ocr", 3),
        ("/ocr/file", 3),
        ("/ocr/jobs", 3),
        ("/v1/ocr", 3),
        ("/v1/chat/completions", 1),
        ("/v1/completions", 1),
        ("/v1/responses", 1),
        ("/v1/messages", 1),
        ("/ocrs", 1),
    ],
)
async def test_the_limit_by_path(path: str, num_mebibytes: int) -> None:
    fitting = [bytes(MEBIBYTE)] * num_mebibytes
    assert (await pass_through(iter([*fitting, b""]), path))[1] == []
    assert await pass_through(iter([*fitting, b"a", b""]), path) == ([], [413])


@pytest.mark.parametrize("cut", range(10))
@pytest.mark.parametrize(
    ("path", "mark"),
    [("/v1/chat/completions", b"image_url"), ("/v1/responses", b"image_url"), ("/v1/messages", b"base64")],
)
async def test_a_chat_with_an_image_may_be_larger(cut: int, path: str, mark: bytes) -> None:
    """Wherever the name of the part falls between two chunks."""
    chunks = [bytes(MEBIBYTE), mark[:cut], mark[cut:], bytes(MEBIBYTE)]
    assert (await pass_through(iter([*filter(None, chunks), b""]), path))[1] == []
    chunks += [bytes(MEBIBYTE)]
    assert await pass_through(iter([*filter(None, chunks), b""]), path) == ([], [413])


async def test_it_is_held_once() -> None:
    chunks = (bytes(16_384) for _ in range(128))

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        while (await receive())["more_body"]:
            pass
        held_bytes, peak_bytes = tracemalloc.get_traced_memory()
        assert held_bytes < MEBIBYTE / 2
        assert peak_bytes < 2.5 * MEBIBYTE

    async def receive() -> Message:
        chunk = next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    tracemalloc.start()
    try:
        await BodyLimit(app, max_bytes=1, max_document_bytes=3 * MEBIBYTE)(scope("/ocr"), receive, send)
    finally:
        tracemalloc.stop()
