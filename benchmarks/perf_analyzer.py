"""NVIDIA's `perf_analyzer`, from the last wheel whose build runs on the C library of Debian 12 and Ubuntu 22.04."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".cache" / "perf_analyzer"
WHEEL = "tritonclient==2.51.0"
LIBRARIES = ("libb64.so.0d", "libcudart.so.12")
"""That it links to, and the Triton wheel carries under longer names."""


def ensure_perf_analyzer() -> Path:
    """The program, downloaded once."""
    program = FOLDER / "perf_analyzer"
    if program.exists():
        return program
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        platform = ["--platform", "manylinux1_x86_64", "--dest", folder]
        subprocess.run([*pip, *platform, WHEEL], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith("/data/bin/perf_analyzer"))
            data = wheel.read(name)
    carried = Path(sysconfig.get_paths()["purelib"]) / "nvidia_pytriton.libs"
    for library in LIBRARIES:
        stem, _, version = library.partition(".so")
        link = FOLDER / library
        link.unlink(missing_ok=True)
        link.symlink_to(next(carried.glob(f"{stem}-*.so{version}*")))
    program.write_bytes(data)
    program.chmod(0o755)
    return program


class ProfileLost(Exception):
    """perf_analyzer died while it wrote its export, as it does now and then."""


def grpc_streams(address: str, model: str, inputs: dict[str, str], concurrency: int, count: int) -> list[Any]:
    """Keep `concurrency` streams busy with `count` requests; those of its export.

    Raises:
        ProfileLost: measure once more.
    """
    with TemporaryDirectory() as folder:
        data, result = Path(folder, "inputs.json"), Path(folder, "profile.json")
        data.write_text(json.dumps({"data": [{name: [text] for name, text in inputs.items()}]}))
        command = [
            str(ensure_perf_analyzer()), "-m", model, "-u", address, "-i", "grpc", "--async", "--streaming",
            "--input-data", str(data), "--concurrency-range", str(concurrency),
            "--request-count", str(count), "--profile-export-file", str(result),
        ]  # fmt: skip
        environment = os.environ | {"LD_LIBRARY_PATH": str(FOLDER)}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
        if not result.exists():
            raise RuntimeError(f"perf_analyzer failed: {ran.stdout}\n{ran.stderr}")
        try:
            requests: list[Any] = json.loads(result.read_text())["experiments"][0]["requests"]
        except ValueError as error:
            raise ProfileLost(f"perf_analyzer ended with {ran.returncode}") from error
    return requests
