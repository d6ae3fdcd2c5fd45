"""`make up` and `make down` without Docker: what a person meets, and what dies and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import PROJECT, Stack

QUESTION = {"messages": [{"role": "user", "content": "Write a Python function to sort a list"}]}


@pytest.fixture
def own_stack(short_dir: Path) -> Iterator[Stack]:
    """The repository as it is, on ports of its own."""
    stack = Stack(short_dir / "own")
    yield stack
    stack.down()
    shutil.rmtree(stack.run_dir, ignore_errors=True)


def processes(stack: Stack) -> dict[int, str]:
    """Command lines of the stack's processes."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"RUN_DIR={stack.run_dir}\0".encode() in environment and command:
            found[int(folder.name)] = command
    return found


def kill(stack: Stack, name: str) -> None:
    [pid] = [
        pid for pid, command in processes(stack).items() if name in command.split(" ")[0] or f"-m {name}" in command
    ]
    os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of another process; the limit is far above what it takes."""
    import time

    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_up_down_and_what_dies_in_between(own_stack: Stack) -> None:
    printed = own_stack.up()
    assert "native Triton" in printed
    assert f"{own_stack.url}/v1" in printed
    assert "curl" in printed
    assert "demo/coder" in printed

    before = processes(own_stack)
    own_stack.up()
    assert processes(own_stack).keys() >= before.keys(), "a second up changes nothing"
    assert "triton" in own_stack.run("status").stdout

    moved = own_stack.run("up", ADAPTER_PORT="1")
    assert moved.returncode != 0
    assert "make down first" in moved.stderr

    def answers() -> bool:
        try:
            return httpx.post(f"{own_stack.url}/v1/chat/completions", json=QUESTION, timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    # What a client sees is 503 while Triton is away, and an answer again without anyone's help.
    for name in ("triton_python_backend_stub", "tritonserver", "adapter"):
        kill(own_stack, name)
        until(lambda: not answers())
        until(answers)

    own_stack.down()
    assert processes(own_stack) == {}
    assert own_stack.shared_memory == {}
    for port in own_stack.ports.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_a_taken_port_is_named(own_stack: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", own_stack.ports["TRITON_GRPC_PORT"]))
        taken.listen()
        result = own_stack.run("up")
    assert result.returncode == 1
    assert f"port {own_stack.ports['TRITON_GRPC_PORT']} can't be taken" in result.stderr
    assert "make up TRITON_GRPC_PORT=" in result.stderr
    assert processes(own_stack) == {}


def test_a_wrong_checkpoint_is_one_sentence(own_stack: Stack) -> None:
    result = own_stack.run("up", CODER_CHECKPOINT="/no/such/folder")
    assert result.returncode == 1
    assert "the checkpoint folder /no/such/folder does not exist; check the path or give a hub id" in result.stderr
    assert "Traceback" not in result.stderr
    assert processes(own_stack) == {}


def test_down_is_harmless_when_nothing_runs(own_stack: Stack) -> None:
    assert own_stack.run("down").returncode == 0
    assert PROJECT.exists()
