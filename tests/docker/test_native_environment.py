"""What the native services are told of where their files are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

READ = (
    "from processes import Processes; from settings import Settings;"
    "print(Processes(Settings.from_environment())._environment().get('ADAPTER_KEYS_DB'))"
)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"RUN_DIR": "/tmp/own"}, "/tmp/own/keys.db"),
        ({"RUN_DIR": "/tmp/own", "ADAPTER_KEYS_DB": "/tmp/k.db"}, "/tmp/k.db"),
        ({}, "None"),
    ],
)
def test_two_run_folders_do_not_share_their_keys(given: dict[str, str], path: str) -> None:
    """Without one of its own, the adapter's default and config.yaml count."""
    environment = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": "docker/native"}
    read = subprocess.run([sys.executable, "-c", READ], env=environment | given, capture_output=True, text=True)
    assert read.stdout == f"{path}\n", read.stderr
