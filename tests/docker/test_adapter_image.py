"""What the adapter's image holds, its dependency group and its folder, is enough to start it."""

import os
import shutil
import socket
import subprocess
import sys
import venv
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

START_TIMEOUT_S = 60
POLL_S = 0.05


@dataclass(frozen=True)
class Image:
    python: Path
    workdir: Path


@pytest.fixture(scope="module")
def image(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The steps of adapter.Dockerfile, in a folder."""
    folder = tmp_path_factory.mktemp("image")
    pins, workdir, environment = folder / "pins", folder / "workdir", folder / "venv"
    pins.mkdir()
    shutil.copy(root / "pyproject.toml", pins)
    (pins / "README.md").touch()
    venv.create(environment, with_pip=False)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment, "install", "--quiet", f"{pins}[adapter]"], check=True
    )
    shutil.copytree(root / "adapter", workdir / "adapter", ignore=shutil.ignore_patterns("__pycache__"))
    return Image(environment / "bin/python", workdir)


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ADAPTER_", "PYTHON"))}
    return {**inherited, **settings}


@pytest.mark.parametrize("module", ["torch", "transformers", "engine"])
def test_the_engine_is_not_there(image: Image, module: str) -> None:
    missing = subprocess.run(
        [image.python, "-c", f"import {module}"], cwd=image.workdir, env=environment(), capture_output=True, text=True
    )

    assert f"No module named '{module}'" in missing.stderr


def test_the_adapter_starts_from_a_file_and_the_environment(image: Image) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (image.workdir / "config.yaml").write_text(f"host: 127.0.0.1\nport: {port}\n")
    process = subprocess.Popen(
        [image.python, "-m", "adapter"],
        cwd=image.workdir,
        env=environment(ADAPTER_TRITON_URL="127.0.0.1:1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            assert status_when_it_listens(process, port) == 200
        finally:
            process.terminate()


def status_when_it_listens(process: subprocess.Popen[str], port: int) -> int:
    """The status of `/health/live`, as soon as the port is open; fails with the adapter's output where it ends."""
    for _ in range(round(START_TIMEOUT_S / POLL_S)):
        connection = HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT_S)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status
        except ConnectionError:
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(process.stdout.read() if process.stdout else "the adapter ended")
        finally:
            connection.close()
    pytest.fail("the adapter does not listen")
