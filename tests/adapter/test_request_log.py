"""A request's id and its line in the log."""

import asyncio
import logging
import logging.handlers
import queue
import re
from collections.abc import Iterator

import httpx
import pytest
from grpc import StatusCode

from adapter.request_log import RequestLog, RunningRequests
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.sse_reading import stream

BODY = {"prompt": "a"}


@pytest.fixture
def lines() -> Iterator["queue.SimpleQueue[logging.LogRecord]"]:
    """A line follows its response, so a test has to wait for it."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    logger = logging.getLogger("adapter.requests")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield records
    logger.setLevel(level)
    logger.removeHandler(handler)


def test_the_client_s_id_is_kept(http: httpx.Client, triton: FakeTriton) -> None:
    response = http.post("/v1/completions", json=BODY, headers={"x-request-id": "my-id/1"})
    assert response.headers["x-request-id"] == "my-id/1"
    assert triton.seen[0].id == "my-id/1"


@pytest.mark.parametrize("own_id", ["", "a b", "é", "x" * 129])
def test_an_unfit_id_is_replaced(http: httpx.Client, own_id: str) -> None:
    response = http.get("/health/live", headers=[(b"x-request-id", own_id.encode())])
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/nope", "/docs"])
def test_every_response_has_an_id(http: httpx.Client, path: str) -> None:
    first, second = (http.get(path).headers["x-request-id"] for _ in range(2))
    assert first != second


def test_one_line_per_request(
    http: httpx.Client, triton: FakeTriton, lines: "queue.SimpleQueue[logging.LogRecord]"
) -> None:
    def line() -> str:
        """The next one; a stream's comes when its client may have its end already."""
        return re.sub(r"[\d.]+ms", "0ms", lines.get(timeout=10).getMessage())

    http.headers["x-request-id"] = "id"
    http.post("/v1/completions", json=BODY)
    assert line() == "id POST /v1/completions 200 0ms in=5 out=3"
    stream(http, "/v1/completions", BODY)
    assert line() == "id POST /v1/completions 200 0ms in=5 out=3"
    http.post("/v1/embeddings", json={"input": ["abc", "de"]})
    assert line() == "id POST /v1/embeddings 200 0ms in=5 out=0"
    http.post("/v1/completions", json={})
    assert line() == "id POST /v1/completions 400 0ms error=invalid_value"
    http.get("/a%0Ab")
    assert line() == "id GET /a%0Ab 404 0ms error=not_found"
    triton.fails(StatusCode.UNKNOWN, "?", after=["x"])
    stream(http, "/v1/completions", BODY)
    assert line() == "id internal_error: Triton: UNKNOWN: ?"
    assert line() == "id POST /v1/completions 200 0ms error=internal_error"


async def test_a_request_that_is_cancelled_by_the_server_s_end() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise asyncio.CancelledError

    sent = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": []}
    await RequestLog(app, RunningRequests())(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 503
    assert b"shutting down" in sent[1]["body"]  # type: ignore[operator]
