"""docs/ocr.md says what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adapter.ocr.fields import OcrFields
from adapter.ocr.templates import TEMPLATES

OCR = Path("docs/ocr.md").read_text()


def field_row(name: str) -> str:
    field = OcrFields.model_fields[name]
    default = field.get_default()
    shown = "" if default is None else f"`{json.dumps(default)}`"
    return f"| `{name}` | {shown} | {field.description or ''} |"


def template_row(name: str) -> str:
    text = json.dumps(TEMPLATES[name].format("OBJECT")).strip('"').replace("|", "\\|")
    return f"| `{name}` | `{text}` |"


@pytest.mark.parametrize("name", OcrFields.model_fields)
def test_every_field_has_its_row(name: str) -> None:
    assert OcrFields.model_fields[name].description
    assert field_row(name) in OCR


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_has_its_row(name: str) -> None:
    assert template_row(name) in OCR


def test_no_row_is_left_over() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", OCR, re.MULTILINE))
    assert rows == OcrFields.model_fields.keys() | TEMPLATES.keys() | {"tiny", "small", "base", "large", "gundam"}


def test_every_setting_it_names_is_one() -> None:
    names = set(re.findall(r"ADAPTER_\w+", OCR))
    assert names and all(f"| `{name}` |" in Path("README.md").read_text() for name in names)
