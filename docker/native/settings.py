"""Ports and paths of the native services, from the environment."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DEFAULTS = {
    "ADAPTER_PORT": "8000",
    "TRITON_GRPC_PORT": "8001",
    "TRITON_METRICS_PORT": "8002",
    "TRITON_HTTP_PORT": "8003",
    "TRITON_HOST": "127.0.0.1",
    "MODEL_REPOSITORY": str(PROJECT / "model_repository"),
    "CODER_CHECKPOINT": "",
    "OCR_CHECKPOINT": "",
    "RUN_DIR": str(PROJECT / ".run"),
    "UP_TIMEOUT_S": "1800",
}
PORTS = [name for name in DEFAULTS if name.endswith("_PORT")]
CHECKPOINTS = [name for name in DEFAULTS if name.endswith("_CHECKPOINT")]
MAX_SOCKET_PATH = 100
"""Bytes; the system's limit on the path of a Unix socket is 107."""


class Failed(Exception):
    """Something the person at the keyboard can mend; the text says how."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of `DEFAULTS`, as the environment changes them."""

    values: dict[str, str]

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment.

        Raises:
            Failed: a value can't be used.
        """
        settings = cls({name: os.environ.get(name) or default for name, default in DEFAULTS.items()})
        values = settings.values
        for name in PORTS:
            if not (values[name].isdecimal() and 0 < int(values[name]) < 65536):
                raise Failed(f"{name} is {values[name]!r}; give a port, 1 to 65535")
        if len({values[name] for name in PORTS}) < len(PORTS):
            raise Failed(f"{', '.join(PORTS)} must differ; they are {', '.join(values[name] for name in PORTS)}")
        if not values["UP_TIMEOUT_S"].isdecimal():
            raise Failed(f"UP_TIMEOUT_S is {values['UP_TIMEOUT_S']!r}; give whole seconds")
        values["RUN_DIR"] = str(Path(values["RUN_DIR"]).resolve())
        if len(values["RUN_DIR"].encode()) > MAX_SOCKET_PATH - len("/supervisor.sock"):
            raise Failed(f"the path {values['RUN_DIR']} is too long for a socket in it; set RUN_DIR to a shorter one")
        values["MODEL_REPOSITORY"] = str(Path(values["MODEL_REPOSITORY"]).resolve())
        if not Path(values["MODEL_REPOSITORY"]).is_dir():
            raise Failed(f"MODEL_REPOSITORY is {values['MODEL_REPOSITORY']}, which is no folder")
        for name in CHECKPOINTS:
            if values[name] and Path(values[name]).is_dir():
                values[name] = str(Path(values[name]).resolve())
        return settings

    @property
    def run_dir(self) -> Path:
        return Path(self.values["RUN_DIR"])

    @property
    def up_timeout_s(self) -> float:
        return float(self.values["UP_TIMEOUT_S"])

    @property
    def adapter_url(self) -> str:
        return f"http://localhost:{self.values['ADAPTER_PORT']}"

    @property
    def triton_address(self) -> str:
        """Where Triton is reached from here."""
        return "127.0.0.1" if self.values["TRITON_HOST"] == "0.0.0.0" else self.values["TRITON_HOST"]

    @property
    def triton_url(self) -> str:
        return f"http://{self.triton_address}:{self.values['TRITON_HTTP_PORT']}"

    @property
    def shm_prefix(self) -> str:
        return f"deepseek_on_triton_{self.values['TRITON_HTTP_PORT']}_"

    def check_ports(self) -> None:
        """See that every port is free.

        Raises:
            Failed: names the port that is not, and the way out.
        """
        for name in PORTS:
            port = int(self.values[name])
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", port))
                except OSError as error:
                    raise Failed(
                        f"port {port} can't be taken ({error.strerror}); end what uses it, "
                        f"or choose another: make up {name}={port + 10}"
                    ) from error

    def save(self) -> None:
        """Remember what is about to run."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self.values))

    def of_what_runs(self) -> Settings:
        """The settings that were saved; what runs is left alone, so it can't be given other ones.

        Raises:
            Failed: the environment asks for others.
        """
        running = Settings(json.loads(self._file.read_text()))
        for name, value in running.values.items():
            if os.environ.get(name) and self.values[name] != value and name != "UP_TIMEOUT_S":
                raise Failed(f"it runs already, with {name}={value or '(none)'}; make down first")
        return running

    @property
    def _file(self) -> Path:
        return self.run_dir / "settings.json"
