from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.loop import Engine
from tests.checkpoints import configs, save_checkpoint, save_random, train_tokenizer
from tests.engine.chat_templates import R1_TOKENS

WIDE = {
    "llama": {"head_dim": 32, "intermediate_size": 128},
    "deepseek_v2": {
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 32,
        "v_head_dim": 32,
        "kv_lora_rank": 64,
        "moe_intermediate_size": 64,
    },
}
"""Heads of 32 numbers and more, and layers of 64, for loops that take no others."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of small random checkpoints: each architecture, two with wide heads, a llama with tokens for thoughts."""
    folder = tmp_path_factory.mktemp("checkpoints")
    folders = {architecture: save_checkpoint(architecture, folder / architecture) for architecture in configs()}
    for architecture, sizes in WIDE.items():
        small = configs()[architecture]
        folders[f"wide {architecture}"] = save_random(
            type(small)(**small.to_dict() | sizes), folder / f"w{architecture}"
        )
    folders["reasoner"] = save_checkpoint("llama", folder / "reasoner")
    train_tokenizer(R1_TOKENS).save_pretrained(folders["reasoner"])
    return folders


@pytest.fixture
def start_engine(checkpoints: dict[str, Path]) -> Iterator[Callable[..., Engine]]:
    """Start engines on small checkpoints in float32; afterwards each must be empty and its cache whole."""
    engines = []

    def start(architecture: str = "llama", **settings: object) -> Engine:
        options = {"dtype": "float32", "device": "cpu", "cache_gib": 0.1, "num_threads": 1, **settings}
        config = EngineConfig(checkpoint=str(checkpoints[architecture]), **options)
        engines.append(Engine(load_checkpoint(config), config))
        engines[-1].start()
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()
        assert engine.num_sequences == 0
        assert engine.num_free_cache_blocks == engine.num_cache_blocks
