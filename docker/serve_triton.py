"""Runs tritonserver, and ends it when one of its Python models dies.

Triton goes on without a stub process that crashed: the model still looks ready and every request to it fails. Here the
server ends with it, so that whoever supervises this process (supervisor, Docker) starts both anew.

Usage: python serve_triton.py SHM_PREFIX HTTP_PORT tritonserver ARGUMENT…
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

CHECK_INTERVAL_S = 1.0
STUB = "triton_python_backend_stub"


def stub_pids(server_pid: int) -> set[int]:
    """Process ids of the server's Python models; zombies don't count."""
    pids = set()
    for children in Path(f"/proc/{server_pid}/task").glob("*/children"):
        try:
            for pid in children.read_text().split():
                status = Path(f"/proc/{pid}/stat").read_text()
                name, state = status[status.index("(") + 1 :].rsplit(") ", 1)
                if STUB.startswith(name) and state[0] != "Z":
                    pids.add(int(pid))
        except OSError:  # it ended while we looked
            continue
    return pids


def remove_shared_memory(prefix: str) -> None:
    for region in Path("/dev/shm").glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def is_ready(http_port: str) -> bool:
    """Whether the server has loaded every model. One that fails to load is no crash: its reason stays readable."""
    try:
        with urllib.request.urlopen(f"http://localhost:{http_port}/v2/health/ready", timeout=CHECK_INTERVAL_S):
            return True
    except OSError:
        return False


def serve(shm_prefix: str, http_port: str, command: list[str]) -> int:
    """Run the server to its end, and return its exit status."""
    remove_shared_memory(shm_prefix)
    options = [f"--http-port={http_port}", f"--backend-config=python,shm-region-prefix-name={shm_prefix}"]
    server = subprocess.Popen([*command, *options])
    is_stopping = threading.Event()

    def forward(received: int, _: object) -> None:
        is_stopping.set()
        server.send_signal(received)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    loaded: set[int] | None = None
    while (status := _wait(server)) is None:
        if is_stopping.is_set():
            continue
        if loaded is None:
            loaded = stub_pids(server.pid) if is_ready(http_port) else None
        elif loaded - stub_pids(server.pid):
            print("a Python model died: ending the server, to be started anew", file=sys.stderr, flush=True)
            is_stopping.set()
            server.kill()
    remove_shared_memory(shm_prefix)
    return status


def _wait(server: subprocess.Popen[bytes]) -> int | None:
    try:
        return server.wait(CHECK_INTERVAL_S)
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], sys.argv[2], sys.argv[3:]))
