"""Starts and ends a whole service on free ports."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PORTS = ("ADAPTER_PORT", "TRITON_GRPC_PORT", "TRITON_HTTP_PORT", "TRITON_METRICS_PORT")


class Stack:
    """Triton and the adapter under supervisor, on ports of their own."""

    def __init__(self, run_dir: Path, **environment: str) -> None:
        self.run_dir = run_dir
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith("_CHECKPOINT")},
            **{name: str(port) for name, port in self.ports.items()},
            "MODE": "native",
            "RUN_DIR": str(run_dir),
            **environment,
        }

    @property
    def url(self) -> str:
        return f"http://localhost:{self.ports['ADAPTER_PORT']}"

    @property
    def grpc_address(self) -> str:
        return f"localhost:{self.ports['TRITON_GRPC_PORT']}"

    def metric(self, name: str, model: str) -> float:
        """What one of Triton's metrics says of a model."""
        url = f"http://localhost:{self.ports['TRITON_METRICS_PORT']}/metrics"
        with urllib.request.urlopen(url, timeout=30) as response:
            text = response.read().decode()
        [value] = re.findall(rf'^{name}{{[^}}]*model="{model}"[^}}]*}} (\S+)$', text, re.MULTILINE)
        return float(value)

    @property
    def shared_memory(self) -> dict[str, int]:
        """Size in bytes of each of its shared-memory regions."""
        prefix = f"deepseek_on_triton_{self.ports['TRITON_HTTP_PORT']}_"
        return {region.name: region.stat().st_size for region in Path("/dev/shm").glob(f"{prefix}*")}

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What `make COMMAND` runs."""
        return subprocess.run(
            [sys.executable, "docker/native/run.py", command],
            cwd=PROJECT,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def up(self) -> str:
        result = self.run("up")
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}\n{self.logs()}"
        return result.stdout

    def down(self) -> None:
        assert self.run("down").returncode == 0

    def logs(self) -> str:
        return "\n".join(file.read_text()[-4000:] for file in sorted(self.run_dir.glob("*.log")))

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
