"""README's tables say what the code says, and its paths exist."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from adapter.settings import Settings
from engine.config import EngineConfig

README = Path("README.md").read_text()


def row(name: str, default: object, field: FieldInfo) -> str:
    return f"| `{name}` | {cell(default)} | {field.description} |"


def cell(value: object) -> str:
    return "" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_adapter_setting_has_its_row(name: str) -> None:
    field = Settings.model_fields[name]
    assert row(f"ADAPTER_{name.upper()}", field.get_default(), field) in README


@pytest.mark.parametrize("name", EngineConfig.model_fields)
def test_every_engine_setting_has_its_row(name: str) -> None:
    values = [json.loads(Path(f"model_repository/{model}/1/engine.json").read_text()) for model in ("coder", "ocr")]
    shown = " | ".join(cell(settings.get(name)) for settings in values)
    assert f"| `{name}` | {shown} | {EngineConfig.model_fields[name].description} |" in README


def test_no_row_is_left_over() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    adapter = {f"ADAPTER_{name.upper()}" for name in Settings.model_fields}
    assert rows == adapter | set(EngineConfig.model_fields) | set(launcher_defaults()) | {"MODE"}


def launcher_defaults() -> dict[str, str]:
    defaults: dict[str, str] = runpy.run_path("docker/native/settings.py")["DEFAULTS"]
    return {name: value.removeprefix(f"{Path.cwd()}/") for name, value in defaults.items()}


@pytest.mark.parametrize(("name", "default"), launcher_defaults().items())
def test_every_variable_of_make_up_has_its_row(name: str, default: str) -> None:
    assert f"| `{name}` | " + (f"`{default}` |" if default else "|") in README


def test_links_to_files_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not Path(link).exists()] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"`?make ([a-z0-9-]+)", README)) - {"up"}
    listed = subprocess.run(["make", "help"], capture_output=True, text=True, check=True).stdout
    assert [target for target in targets if f"make {target} " not in listed] == []
