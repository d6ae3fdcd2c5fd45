"""`make up` and `make down` without Docker: what a person meets, and what dies and comes back."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Stack


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
        if f"DEEPSEEK_ON_TRITON_RUN_DIR={stack.run_dir}\0".encode() in environment and command:
            found[int(folder.name)] = command
    return found


def pid_of(stack: Stack, name: str) -> int:
    [pid] = [pid for pid, command in processes(stack).items() if re.search(name, command)]
    return pid


def wait_for_end(pid: int) -> None:
    """Wait for a process that is not our child."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        assert select.select([descriptor], [], [], 60)[0], "it did not end"
        os.close(descriptor)


SERVER = r"^\S*/tritonserver "
CODER = r"^\S*/triton_python_backend_stub \S*/coder/"
WRAPPER, ADAPTER = r"^\S+ \S*/serve_triton.py ", r"-m adapter"


def test_up_what_dies_in_between_and_down_in_a_generation(own_stack: Stack) -> None:
    printed = own_stack.up()
    assert "native Triton" in printed
    assert f"{own_stack.url}/v1" in printed
    assert "curl" in printed
    assert "demo/coder" in printed

    before = processes(own_stack)
    own_stack.up()
    assert processes(own_stack) == before, "a second up changes nothing"
    assert "RUNNING" in own_stack.run("status").stdout

    moved = own_stack.run("up", ADAPTER_PORT="1234")
    assert moved.returncode != 0
    assert "make down first" in moved.stderr

    # Whatever dies, an answer comes again without anyone's help: `up` only waits for it.
    for victim, falls_with_it in (
        (CODER, SERVER),
        (SERVER, CODER),
        (WRAPPER, SERVER),
        (ADAPTER, ADAPTER),
    ):
        falling = pid_of(own_stack, falls_with_it)
        os.kill(pid_of(own_stack, victim), signal.SIGKILL)
        wait_for_end(falling)
        own_stack.up()

    body = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "n": 16, "stream": True}
    with httpx.stream("POST", f"{own_stack.url}/v1/completions", json=body, timeout=60) as response:
        chunks = response.iter_bytes()
        next(chunks)
        own_stack.down()
    nothing_is_left(own_stack)


def nothing_is_left(stack: Stack) -> None:
    assert processes(stack) == {}
    assert stack.shared_memory == {}
    for port in stack.ports.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_down_ends_what_a_killed_supervisor_left(own_stack: Stack) -> None:
    own_stack.up()
    os.kill(pid_of(own_stack, "supervisord"), signal.SIGKILL)
    own_stack.down()
    nothing_is_left(own_stack)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"ADAPTER_PORT": "abc"}, "ADAPTER_PORT is 'abc'; give a port, 1 to 65535"),
        ({"ADAPTER_PORT": "70000"}, "ADAPTER_PORT is '70000'"),
        ({"ADAPTER_PORT": "8001", "TRITON_GRPC_PORT": "8001"}, "must differ"),
        ({"MODEL_REPOSITORY": "/no/such/place"}, "MODEL_REPOSITORY is /no/such/place, which is no folder"),
        ({"RUN_DIR": "/tmp/" + "x" * 100}, "is too long for a socket in it; set RUN_DIR"),
        ({"UP_TIMEOUT_S": "abc"}, "UP_TIMEOUT_S is 'abc'; give whole seconds"),
        ({"ADAPTER_MODELS": "notjson"}, "adapter does not start"),
    ],
)
def test_a_bad_setting_is_one_sentence(own_stack: Stack, environment: dict[str, str], says: str) -> None:
    result = own_stack.run("up", **environment)
    assert result.returncode == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert processes(own_stack) == {}


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


@pytest.mark.parametrize(
    ("variable", "checkpoint", "says"),
    [
        ("CODER_CHECKPOINT", "demo/ocr", "reads images; serve it as the ocr model"),
        ("OCR_CHECKPOINT", "demo/coder", "reads no images; serve it as the coder model"),
    ],
)
def test_models_in_each_others_place_are_told_apart(
    own_stack: Stack, variable: str, checkpoint: str, says: str
) -> None:
    result = own_stack.run("up", **{variable: checkpoint})
    assert result.returncode == 1
    assert says in result.stderr


def test_down_and_status_are_harmless_when_nothing_runs(own_stack: Stack) -> None:
    assert own_stack.run("down").returncode == 0
    assert "Nothing is running" in own_stack.run("status").stdout
