"""The Dockerfiles lint, copy what is there, and run as somebody who is not root."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RELEASE = re.compile(r"\b\d\d\.\d\d(-\w+)*-py3\b")

Instructions = dict[str, list[tuple[str, str]]]


def copies(instructions: list[tuple[str, str]]) -> dict[str, str]:
    """Source to destination, without slashes at the end."""
    words = [rest.split() for keyword, rest in instructions if keyword == "COPY"]
    paths = [[word.rstrip("/") for word in line if not word.startswith("--")] for line in words]
    return {source: destination for *sources, destination in paths for source in sources}


def is_sent(path: Path, dockerignore: str) -> bool:
    """Whether a path relative to the build context passes .dockerignore: the last line that fits it decides."""
    sent = True
    for line in dockerignore.splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_fits(str(part), pattern) for part in (path, *path.parents)):
            sent = line.startswith("!")
    return sent


def _fits(path: str, pattern: str) -> bool:
    translated = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return path != "." and re.fullmatch(translated, path) is not None


@pytest.mark.parametrize("service", ["triton", "adapter"])
def test_hadolint_is_content(root: Path, service: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint is not None

    lint = subprocess.run(
        [hadolint, "--no-color", root / f"docker/{service}.Dockerfile"], capture_output=True, text=True
    )

    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize("service", ["triton", "adapter"])
def test_what_is_copied_exists_and_is_sent_to_the_engine(root: Path, dockerfiles: Instructions, service: str) -> None:
    dockerignore = (root / ".dockerignore").read_text()

    for source in copies(dockerfiles[service]):
        files = [path for path in [root / source, *(root / source).rglob("*")] if path.is_file()]
        files = [path.relative_to(root) for path in files if "__pycache__" not in path.parts]
        assert files, f"{source} is empty or missing"
        assert [path for path in files if not is_sent(path, dockerignore)] == []


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", ".run/log", "tests/x.py", "demo/coder/__pycache__/data.pyc", "README.md"],
)
def test_what_no_image_needs_is_not_sent(root: Path, path: str) -> None:
    assert not is_sent(Path(path), (root / ".dockerignore").read_text())


def test_a_change_of_code_keeps_the_installed_dependencies(dockerfiles: Instructions) -> None:
    for instructions in dockerfiles.values():
        install = next(
            i for i, (keyword, rest) in enumerate(instructions) if keyword == "RUN" and "pip install" in rest
        )
        assert list(copies(instructions[:install])) == ["pyproject.toml"]


def test_neighbours_stay_neighbours(root: Path, dockerfiles: Instructions) -> None:
    copied = copies(dockerfiles["triton"])
    folders = {source for source, destination in copied.items() if source == destination}

    assert folders >= {"engine", "model_repository"}
    for path in (root / "model_repository").glob("*/1/engine.json"):
        checkpoint = json.loads(path.read_text())["checkpoint"]
        if checkpoint.startswith("."):
            assert (path.parent / checkpoint).resolve().relative_to(root).parts[0] in folders


def test_triton_serves_the_copied_repository_and_finds_the_engine(dockerfiles: Instructions) -> None:
    instructions = dockerfiles["triton"]
    workdir = dict(instructions)["WORKDIR"]
    install = dict(instructions)["RUN"]

    assert f"--model-repository={workdir}/model_repository" in json.loads(dict(instructions)["CMD"])
    assert ("ENV", "PATH=/opt/venv/bin:$PATH") in instructions
    assert "virtualenv /opt/venv " in install
    assert re.search(rf'echo {workdir} > "\$\(echo /opt/venv/lib/.*\.pth"$', install)


@pytest.mark.parametrize("service", ["triton", "adapter"])
def test_nobody_is_root(dockerfiles: Instructions, service: str) -> None:
    assert dict(dockerfiles[service])["USER"] == "1000"


@pytest.mark.parametrize(("service", "group"), [("triton", "engine"), ("adapter", "adapter")])
def test_an_image_installs_one_group(
    dockerfiles: Instructions, project: dict[str, Any], service: str, group: str
) -> None:
    installs = [rest for keyword, rest in dockerfiles[service] if keyword == "RUN" and "pip install" in rest]

    assert len(installs) == 1
    assert re.findall(r"'/tmp/pins\[(\w+)\]'", installs[0]) == [group]
    assert group in project["optional-dependencies"]


def test_the_release_of_triton_stands_in_one_place(root: Path) -> None:
    files = [*(root / "docker").rglob("*"), root / "Makefile", root / "README.md", root / "pyproject.toml"]
    found = [
        (path.name, line)
        for path in files
        if path.is_file() and path.suffix != ".pyc"
        for line in path.read_text().splitlines()
        if RELEASE.search(line)
    ]

    assert [name for name, line in found] == ["triton.Dockerfile"]
    assert found[0][1].startswith("ARG TRITON_TAG=")
