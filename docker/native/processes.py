"""The supervised processes."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path

from settings import DEFAULTS, PROJECT, Failed, Settings
from supervisor.xmlrpc import SupervisorTransport

_MARKER = "DEEPSEEK_ON_TRITON_RUN_DIR"
"""Environment variable by which a process is known as ours."""
_DEATH_TIMEOUT_S = 10
STOP_TIMEOUT_S = 60
"""Longer than supervisor waits for each of them."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One supervised process, in supervisor's words."""

    name: str
    state: str
    pid: int
    description: str


class Processes:
    """Triton and the adapter under supervisor."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket = settings.run_dir / "supervisor.sock"

    @property
    def are_running(self) -> bool:
        try:
            self._supervisor().supervisor.getState()
        except OSError:
            return False
        return True

    def states(self) -> list[ProcessState]:
        infos = self._supervisor().supervisor.getAllProcessInfo()
        assert isinstance(infos, list)
        return [
            ProcessState(info["name"], info["statename"], info["pid"], info["description"])
            for info in infos
            if isinstance(info, dict)
        ]

    def start(self) -> None:
        """Start supervisor, which starts the others.

        Raises:
            Failed: this Python can't host Triton's Python models.
        """
        self._link_backend()
        self._find_engine_here()
        configuration = str(Path(__file__).with_name("supervisord.conf"))
        command = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", configuration]
        subprocess.run(command, env=self._environment(), check=True)

    def stop(self) -> None:
        """End all of them, and what a crash may have left."""
        if self.are_running:
            pid = self._supervisor().supervisor.getPID()
            self._supervisor().supervisor.shutdown()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < deadline:
                if not Path(f"/proc/{pid}/cmdline").read_bytes():  # a zombie
                    break
                time.sleep(0.1)
        self.end_leftovers()

    def end_leftovers(self) -> None:
        """Kill what runs on our folder without a supervisor, and remove its shared memory."""
        marker = f"\0{_MARKER}={self._settings.run_dir}\0".encode()
        killed = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = marker in b"\0" + (process / "environ").read_bytes()
            except OSError:
                continue
            if is_ours:
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(process)
        deadline = time.monotonic() + _DEATH_TIMEOUT_S
        while any(map(_holds_ports, killed)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for region in Path("/dev/shm").glob(f"{self._settings.shm_prefix}*"):
            region.unlink(missing_ok=True)

    def _supervisor(self) -> xmlrpc.client.ServerProxy:
        return xmlrpc.client.ServerProxy("http://localhost", SupervisorTransport(serverurl=f"unix://{self._socket}"))

    def _environment(self) -> dict[str, str]:
        python, wheel = Path(sys.executable), _wheel()
        libraries = [str(sysconfig.get_config_var("LIBDIR")), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            **os.environ,
            **self._settings.values,
            _MARKER: str(self._settings.run_dir),
            "PROJECT_DIR": str(PROJECT),
            "PYTHON": str(python),
            "TRITON_SERVER": str(wheel / "bin" / "tritonserver"),
            "SHM_PREFIX": self._settings.shm_prefix,
            "ADAPTER_JOBS_DIR": os.environ.get("ADAPTER_JOBS_DIR") or f"{self._settings.run_dir}/jobs",
            **self._keys_db(),
            "ADAPTER_TRITON_URL": f"{self._settings.triton_address}:{self._settings.values['TRITON_GRPC_PORT']}",
            "TRITON_URL": self._settings.triton_url,
            # Triton's Python stub takes the environment of the first python3 on the path,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            # and loads that interpreter's shared library, not whichever of the same version the system has.
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            "PYTHONUNBUFFERED": "1",
        }

    def _keys_db(self) -> dict[str, str]:
        """Of a run folder of its own; else it is the adapter's default, or what config.yaml says."""
        if os.environ.get("ADAPTER_KEYS_DB") or str(self._settings.run_dir) == DEFAULTS["RUN_DIR"]:
            return {}
        return {"ADAPTER_KEYS_DB": f"{self._settings.run_dir}/keys.db"}

    def _link_backend(self) -> None:
        """Put the Python backend and this interpreter's stub side by side, as Triton wants them.

        Raises:
            Failed: this Python has no shared library for the stub to load.
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
        backend = self._settings.run_dir / "backends" / "python"
        shutil.rmtree(backend, ignore_errors=True)
        backend.mkdir(parents=True)
        stub = _wheel() / "python_backend_stubs" / version / "triton_python_backend_stub"
        for file in (*(_wheel() / "backends" / "python").glob("*.*"), stub):
            (backend / file.name).symlink_to(file)

    @staticmethod
    def _find_engine_here() -> None:
        """Let the stub import `engine` from this folder: it ignores PYTHONPATH, and the folder may have been moved."""
        (Path(sysconfig.get_paths()["purelib"]) / "deepseek_on_triton_here.pth").write_text(f"{PROJECT}\n")


def _wheel() -> Path:
    """The folder of the Triton server in the installed wheel."""
    return Path(sysconfig.get_paths()["purelib"]) / "pytriton" / "tritonserver"


def _holds_ports(process: Path) -> bool:
    """Whether a thread of a killed process is still on its way out: the first one may be a zombie before the others."""
    for thread in (process / "task").glob("*"):
        try:
            if (thread / "stat").read_text().rpartition(") ")[2][0] not in "ZX":
                return True
        except OSError:  # it has just ended
            continue
    return False
