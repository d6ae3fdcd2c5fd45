"""Runs tritonserver, and ends it when one of its Python models dies.

Triton goes on without a stub process that crashed: the model still looks ready and every request to it fails. Here the
server ends with it, so that whoever supervises this process (supervisor, Docker) starts both anew.

Usage: python serve_triton.py SHM_PREFIX URL tritonserver ARGUMENT…   (URL: the server's HTTP endpoint)
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

CHECK_INTERVAL_S = 0.25
STOP_TIMEOUT_S = 8.0
"""How long a stopping server may finish what runs; Triton's own limit does not hold while a model is busy."""
ENVIRONMENT_FOLDERS = "python_env_*"
"""Empty folders that a server which was killed leaves in /tmp."""
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let this process be killed when the one that started it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def child_pids(pid: int) -> set[int]:
    """The Python models of a server: its only child processes."""
    children = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children |= {int(child) for child in task.read_text().split()}
        except OSError:  # a thread that ended while we looked
            continue
    return children


def is_ready(url: str) -> bool:
    """Whether the server has loaded every model. One that fails to load is no crash: its reason stays readable."""
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=1):
            return True
    except OSError:
        return False


def remove_shared_memory(prefix: str) -> None:
    for region in Path("/dev/shm").glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def serve(shm_prefix: str, url: str, command: list[str]) -> int:
    """Run the server to its end, and return its exit status."""
    die_with_parent()
    remove_shared_memory(shm_prefix)
    folders_before = set(Path("/tmp").glob(ENVIRONMENT_FOLDERS))
    command = [*command, f"--backend-config=python,shm-region-prefix-name={shm_prefix}"]
    server = subprocess.Popen(command, preexec_fn=die_with_parent)  # no thread runs here yet
    stop_received = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop_received.set())
    models: set[int] = set()
    while server.poll() is None:
        if stop_received.wait(CHECK_INTERVAL_S):
            _stop(server)
        elif not models:
            models = child_pids(server.pid) if is_ready(url) else set()
        elif not all(map(is_alive, models)):
            print("a Python model died: ending the server, to be started anew", file=sys.stderr, flush=True)
            server.kill()
            server.wait()
    remove_shared_memory(shm_prefix)
    for folder in set(Path("/tmp").glob(ENVIRONMENT_FOLDERS)) - folders_before:
        with contextlib.suppress(OSError):
            folder.rmdir()
    return server.returncode


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        models = child_pids(server.pid)
        server.kill()
        server.wait()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(map(is_alive, models)) and time.monotonic() < deadline:
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], sys.argv[2], sys.argv[3:]))
