"""The files under test, parsed once."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    """pyproject.toml's `project` table."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


@pytest.fixture(scope="session")
def dockerfiles() -> dict[str, list[tuple[str, str]]]:
    """Service to its Dockerfile's instructions: keyword, and the rest on one line."""
    return {path.stem: _instructions(path.read_text()) for path in (ROOT / "docker").glob("*.Dockerfile")}


def _instructions(dockerfile: str) -> list[tuple[str, str]]:
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(keyword, rest.strip()) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines())]
