"""A client that goes away takes its generations with it, at once."""

import json
import socket
from typing import Any

import pytest

from tests.adapter.conftest import WAIT_S, Adapter
from tests.adapter.fake_triton import FakeTriton

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
RESPONSES = ("/v1/responses", {"input": "hi"})
MESSAGES = ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
COMPLETIONS = ("/v1/completions", {"prompt": ["a", "b", "c"]})

ALL = [CHAT, COMPLETIONS, RESPONSES, MESSAGES]
IDS = ["chat", "three prompts", "response", "message"]


def connect(adapter: Adapter, path: str, body: dict[str, Any]) -> socket.socket:
    host, port = adapter.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    connection = socket.create_connection((host, int(port)), timeout=WAIT_S)
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n".encode()
        + content
    )
    return connection


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("path", "body"), ALL, ids=IDS)
def test_before_the_first_response(
    session_adapter: Adapter, triton: FakeTriton, path: str, body: dict[str, Any], streamed: bool
) -> None:
    triton.hangs()
    num_generations = len(body.get("prompt", [None]))
    with connect(session_adapter, path, body | {"stream": streamed}):
        for _ in range(num_generations):
            assert triton.arrived.acquire(timeout=WAIT_S)
    assert len(triton.seen) == num_generations
    assert all(seen.cancelled.wait(WAIT_S) for seen in triton.seen)


@pytest.mark.parametrize(("path", "body"), ALL, ids=IDS)
def test_in_the_middle_of_a_stream(
    session_adapter: Adapter, triton: FakeTriton, path: str, body: dict[str, Any]
) -> None:
    triton.hangs("Hello")
    with connect(session_adapter, path, body | {"stream": True}) as connection:
        received = b""
        while b"Hello" not in received:
            received += connection.recv(65536)
    assert all(seen.cancelled.wait(WAIT_S) for seen in triton.seen)


def test_while_a_whole_answer_is_gathered(session_adapter: Adapter, triton: FakeTriton) -> None:
    gate = triton.hangs("Hello")
    with connect(session_adapter, *CHAT):
        assert gate.reached.wait(WAIT_S)
    assert triton.seen[0].cancelled.wait(WAIT_S)


def test_in_the_middle_of_the_request(session_adapter: Adapter, triton: FakeTriton) -> None:
    host, port = session_adapter.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    with connect(session_adapter, *CHAT) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert len(triton.seen) == 1
