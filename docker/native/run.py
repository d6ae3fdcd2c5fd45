"""Triton and the adapter without Docker: the Triton binary of a PyPI wheel, under supervisor.

Usage: python run.py up|down|status|logs
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "docker"))

from announce import announce, call  # noqa: E402

DEFAULTS = {
    "ADAPTER_PORT": "8000",
    "TRITON_GRPC_PORT": "8001",
    "TRITON_METRICS_PORT": "8002",
    "TRITON_HTTP_PORT": "8003",
    "MODEL_REPOSITORY": str(PROJECT / "model_repository"),
    "RUN_DIR": str(PROJECT / ".run"),
    "UP_TIMEOUT_S": "1800",
}
PORTS = [name for name in DEFAULTS if name.endswith("_PORT")]


class Failed(Exception):
    """Something the person at the keyboard can mend; the text says how."""


class NativeStack:
    """The supervised processes, and the folder where their sockets and logs are."""

    def __init__(self) -> None:
        self._settings = {name: os.environ.get(name) or default for name, default in DEFAULTS.items()}
        self._run_dir = Path(self._settings["RUN_DIR"]).resolve()
        self._log = self._run_dir / "triton.log"

    def up(self) -> None:
        """Start what does not run, wait for a real answer, and say what runs where.

        Raises:
            Failed: a port is taken, or the model could not be loaded.
        """
        if not self._is_running():
            self._check_ports()
            self._link_backend()
            self._supervise("supervisord")
        else:
            self._check_same_ports()
        try:
            self._wait_for_model()
        except Failed:
            self.down()
            raise
        if not announce(f"native Triton, as {self._reason()}", self._adapter_url, self._adapter_url):
            raise Failed(f"the model is loaded but does not answer; see {self._run_dir}/*.log")

    def down(self) -> None:
        """End every process; harmless when none runs."""
        if self._is_running():
            pid = int((self._run_dir / "supervisord.pid").read_text())
            self._supervise("supervisorctl", "shutdown", stdout=subprocess.DEVNULL)
            while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
                time.sleep(0.1)
        print("Nothing is running.")

    def status(self) -> None:
        if not self._is_running():
            print("Nothing is running; make up starts it.")
            return
        self._supervise("supervisorctl", "status", check=False)
        print(json.dumps(call(f"{self._adapter_url}/health", timeout_s=5), indent=2))

    def logs(self) -> None:
        """Follow both logs until interrupted."""
        files = [str(file) for file in sorted(self._run_dir.glob("*.log"))]
        if not files:
            raise Failed("there are no logs yet; make up starts the services")
        subprocess.run(["tail", "-n", "50", "-F", *files])

    @property
    def _adapter_url(self) -> str:
        return f"http://localhost:{self._settings['ADAPTER_PORT']}"

    @staticmethod
    def _reason() -> str:
        if os.environ.get("MODE") == "native":
            return "MODE=native asks for it"
        return "no Docker engine answered" if shutil.which("docker") else "there is no Docker here"

    def _environment(self) -> dict[str, str]:
        python = Path(sys.executable)
        wheel = self._wheel()
        library_path = [str(sysconfig.get_config_var("LIBDIR")), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            **self._settings,
            "RUN_DIR": str(self._run_dir),
            "MODEL_REPOSITORY": str(Path(self._settings["MODEL_REPOSITORY"]).resolve()),
            "PROJECT_DIR": str(PROJECT),
            "PYTHON": str(python),
            "TRITON_SERVER": str(wheel / "bin" / "tritonserver"),
            "SHM_PREFIX": f"deepseek_on_triton_{self._settings['TRITON_HTTP_PORT']}_",
            "ADAPTER_TRITON_URL": f"localhost:{self._settings['TRITON_GRPC_PORT']}",
            # Triton's Python stub takes the environment of the first python3 on the path,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            # and loads that interpreter's shared library, not whichever of the same version the system has.
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, library_path)),
            "PYTHONUNBUFFERED": "1",
        }

    @staticmethod
    def _wheel() -> Path:
        """The folder of the Triton server in the installed wheel."""
        return Path(sysconfig.get_paths()["purelib"]) / "pytriton" / "tritonserver"

    def _link_backend(self) -> None:
        """Put the Python backend and this interpreter's stub side by side, as Triton wants them.

        Raises:
            Failed: there is no stub for this Python, or it has no shared library for the stub to load.
        """
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        library = f"libpython{version}.so.1.0"
        found = Path(str(sysconfig.get_config_var("LIBDIR"))) / library
        try:
            ctypes.CDLL(str(found if found.exists() else library))
        except OSError as error:
            raise Failed(
                f"this Python ({sys.base_prefix}) has no {library}, which Triton's Python backend loads; install it "
                f"(Debian: libpython{version}) or make .venv with a Python built with --enable-shared"
            ) from error
        backend = self._run_dir / "backends" / "python"
        shutil.rmtree(backend, ignore_errors=True)
        backend.mkdir(parents=True)
        stub = self._wheel() / "python_backend_stubs" / version / "triton_python_backend_stub"
        for file in (*(self._wheel() / "backends" / "python").glob("*.*"), stub):
            (backend / file.name).symlink_to(file)

    def _supervise(self, program: str, *arguments: str, check: bool = True, **options: Any) -> None:
        configuration = str(Path(__file__).with_name("supervisord.conf"))
        command = [sys.executable, "-W", "ignore", "-m", f"supervisor.{program}", "-c", configuration, *arguments]
        subprocess.run(command, env=self._environment(), check=check, **options)

    def _is_running(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self._run_dir / "supervisor.sock"))
        except OSError:
            return False
        return True

    def _check_ports(self) -> None:
        for name in PORTS:
            port = int(self._settings[name])
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", port))
                except OSError as error:
                    raise Failed(
                        f"port {port} can't be taken ({error.strerror}); end what uses it, "
                        f"or choose another: make up {name}={port + 10}"
                    ) from error
        self._run_dir.mkdir(parents=True, exist_ok=True)
        (self._run_dir / "ports.json").write_text(json.dumps({name: self._settings[name] for name in PORTS}))

    def _check_same_ports(self) -> None:
        """A second `up` leaves what runs alone, so it can't move it to other ports."""
        running = json.loads((self._run_dir / "ports.json").read_text())
        for name, port in running.items():
            if os.environ.get(name, port) != port:
                raise Failed(f"already running with {name}={port}; make down first")
        self._settings.update(running)

    def _wait_for_model(self) -> None:
        """Wait until Triton has loaded its models and the adapter is ready.

        Raises:
            Failed: a model failed to load, with its reason, or it took too long.
        """
        deadline = time.monotonic() + float(self._settings["UP_TIMEOUT_S"])
        while time.monotonic() < deadline:
            for model in self._models():
                if model.get("state") == "UNAVAILABLE" and model.get("reason") not in (None, "unloaded"):
                    reason = model["reason"].removeprefix("Internal: ").split("\n")[0]
                    raise Failed(f"model {model['name']} was not loaded: {reason}\n(the whole log: {self._log})")
            if self._is_ready():
                return
            time.sleep(0.25)
        raise Failed(f"not ready after {self._settings['UP_TIMEOUT_S']} s (UP_TIMEOUT_S); see {self._run_dir}/*.log")

    def _models(self) -> list[dict[str, str]]:
        url = f"http://localhost:{self._settings['TRITON_HTTP_PORT']}/v2/repository/index"
        try:
            models: list[dict[str, str]] = call(url, {}, timeout_s=5)
        except (OSError, ValueError):
            return []
        return models

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._adapter_url}/health/ready", timeout=5):
                return True
        except OSError:
            return False


def main() -> None:
    stack = NativeStack()
    commands = {"up": stack.up, "down": stack.down, "status": stack.status, "logs": stack.logs}
    try:
        commands[sys.argv[1]]()
    except Failed as error:
        sys.exit(f"make {sys.argv[1]}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
