"""What runs inside Triton keeps to the Python of the image and to the `engine` group."""

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REMOVED_IN_3_12 = {"asynchat", "asyncore", "distutils", "imp", "smtpd"}
ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("engine", "model_repository") for path in (ROOT / folder).rglob("*.py"))


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level name of each absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.fixture(scope="module")
def installed_modules(project: dict[str, Any]) -> set[str]:
    """Import names of the `engine` group and of what it brings along."""
    pending = list(project["optional-dependencies"]["engine"])
    names: set[str] = set()
    modules: set[str] = set()
    while pending:
        requirement = Requirement(pending.pop())
        name = canonicalize_name(requirement.name)
        if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        with suppress(PackageNotFoundError):
            pending += requires(name) or []
            modules |= {file.parts[0].removesuffix(".py") for file in distribution(name).files or []}
    return modules


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_fits_the_oldest_python(path: Path, project: dict[str, Any], installed_modules: set[str]) -> None:
    oldest = re.search(r">=3\.(\d+)", project["requires-python"])
    assert oldest is not None

    tree = ast.parse(path.read_text(), feature_version=(3, int(oldest[1])))

    ours = {"engine", "triton_python_backend_utils"}
    assert set(imported(tree)) - (sys.stdlib_module_names - REMOVED_IN_3_12) - installed_modules - ours == set()


def test_the_images_python_is_supported(project: dict[str, Any]) -> None:
    assert "3.12" in SpecifierSet(project["requires-python"])


def test_numpy_is_of_the_generation_that_tritons_stub_reads(project: dict[str, Any]) -> None:
    numpy = next(pin for pin in project["optional-dependencies"]["engine"] if Requirement(pin).name == "numpy")
    assert re.fullmatch(r"numpy==1\.\d+\.\d+", numpy)
