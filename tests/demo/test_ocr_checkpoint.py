"""The bundled OCR checkpoint: its format is DeepSeek-OCR's, and its card says of it what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from demo.ocr.config import make_config
from demo.ocr.maker import VIEW_SIDE
from demo.ocr.train import STAGES
from engine.checkpoint import Checkpoint, load_checkpoint
from engine.config import EngineConfig
from engine.images import ImageMode, lay_out

FOLDER = Path(__file__).parents[2] / "demo" / "ocr"
CARD = (FOLDER / "README.md").read_text()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(EngineConfig(checkpoint=str(FOLDER), device="cpu"))


def test_the_folder_is_at_most_25_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 25_000_000


def test_the_config_is_deepseek_ocrs(checkpoint: Checkpoint) -> None:
    written = json.loads((FOLDER / "config.json").read_text())
    assert written == make_config(checkpoint.vocab_size)
    assert written["architectures"] == ["DeepseekOCRForCausalLM"]
    assert set(written["vision_config"]["width"]) == {"clip-l-14-224", "sam_vit_b"}


@pytest.mark.parametrize("token", ["<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<td>"])
def test_a_special_token_is_one_id(token: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(FOLDER)
    assert len(tokenizer.encode(token, add_special_tokens=False)) == 1


def test_the_card_says_what_it_is(checkpoint: Checkpoint) -> None:
    assert checkpoint.vision is not None
    mode = checkpoint.vision.default_mode
    assert mode == ImageMode(VIEW_SIDE, VIEW_SIDE, crop=False) == checkpoint.vision.modes["base"]
    num_tokens = checkpoint.vision.num_tokens(lay_out((800, 600), mode))
    assert f"one of {VIEW_SIDE} pixels, {num_tokens} image tokens, as in mode `base`" in CARD
    megabytes = (FOLDER / "model.safetensors").stat().st_size / 1e6
    assert f"{checkpoint.num_parameters / 1e6:.1f}M parameters ({megabytes:.1f} MB, bfloat16)" in CARD


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_card_names_the_stages(stage: object) -> None:
    assert f"| {stage.name} | {stage.steps} × {stage.rows} |" in CARD  # type: ignore[attr-defined]


def test_the_card_has_its_figures() -> None:
    assert "| characters wrong, 200 pages, fonts it was trained on |" in CARD
    assert f"{sum(stage.steps for stage in STAGES)} steps, seed 0" in CARD
