from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.config import read_config
from engine.errors import LoadError


def write(folder: Path, **settings: object) -> Path:
    path = folder / "engine.json"
    path.write_text(json.dumps({"checkpoint": "org/name", **settings}))
    return path


IMAGE_SETTINGS = {"max_step_views", "max_image_pixels", "max_images"}


@pytest.mark.parametrize(("model", "left_out"), [("coder", IMAGE_SETTINGS), ("ocr", set())])
def test_the_models_own_settings_are_read(model: str, left_out: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{model.upper()}_CHECKPOINT", raising=False)
    path = Path(f"model_repository/{model}/1/engine.json")
    config = read_config(path, model)
    assert Path(config.checkpoint) == Path(f"demo/{model}").resolve()
    assert set(json.loads(path.read_text())) == set(type(config).model_fields) - left_out


def test_the_environment_overrides_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODER_CHECKPOINT", "other/model")
    config = read_config(write(tmp_path, gpu_checkpoint="big/model"), "coder")
    assert (config.checkpoint, config.gpu_checkpoint) == ("other/model", None)
    assert read_config(write(tmp_path), "ocr").checkpoint == "org/name"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_seqs": 3}, "max_seqs: Extra inputs"),
        ({"max_sequences": 0}, "max_sequences: Input should be greater"),
        ({"max_sequences": 8, "max_step_tokens": 4}, "max_step_tokens must be at least max_sequences"),
        ({"dtype": "int3"}, "dtype: Input should be"),
        ({"checkpoint": 5}, "checkpoint: Input should be a valid string"),
    ],
)
def test_a_bad_setting_is_refused_by_name(tmp_path: Path, settings: dict[str, object], says: str) -> None:
    with pytest.raises(LoadError, match=says):
        read_config(write(tmp_path, **settings), "x")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"engine.json can't be read"):
        read_config(tmp_path / "engine.json", "x")
