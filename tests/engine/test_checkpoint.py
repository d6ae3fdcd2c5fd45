from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.cache import BLOCK_SIZE
from engine.checkpoint import SUPPORTED, load_checkpoint
from engine.config import EngineConfig
from engine.errors import LoadError
from engine.loop import Engine
from engine.models.fused import FusedDecoder
from tests.checkpoints import OCR_ARCHITECTURES, VOCAB_SIZE, configs, ocr_config, save_checkpoint
from tests.engine.recorder import run

PROMPT = [5, 6, 7]


def config(folder: Path | str, **settings: object) -> EngineConfig:
    return EngineConfig(**{"checkpoint": str(folder), "dtype": "float32", "device": "cpu", **settings})


@pytest.fixture
def llama(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(checkpoints["llama"], tmp_path / "llama"))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_every_supported_architecture_has_a_small_checkpoint_here() -> None:
    ocr = {ocr_config(architecture).model_type for architecture in OCR_ARCHITECTURES}
    assert set(configs()) | ocr == SUPPORTED


def test_shards_load_as_one_file_does(tmp_path: Path, llama: Path) -> None:
    sharded = save_checkpoint("llama", tmp_path / "sharded", max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1

    def text(folder: Path) -> str:
        settings = config(folder, cache_gib=0.1)
        engine = Engine(load_checkpoint(settings), settings)
        engine.start()
        recorder = run(engine, PROMPT, temperature=0, max_tokens=20)
        engine.stop()
        return recorder.text()

    assert text(sharded) == text(llama)


def test_deepseek_coders_own_spelling_of_rope_scaling(llama: Path) -> None:
    new = load_checkpoint(config(llama)).decoder
    old_spelling = {"rope_theta": 1e5, "rope_scaling": {"type": "linear", "factor": 4.0}}
    settings = json.loads((llama / "config.json").read_text())
    del settings["rope_parameters"]
    (llama / "config.json").write_text(json.dumps(settings | old_spelling))
    old = load_checkpoint(config(llama)).decoder
    assert isinstance(new, FusedDecoder)
    assert isinstance(old, FusedDecoder)
    assert torch.equal(new._cos, old._cos)
    assert torch.equal(new._sin, old._sin)


def test_the_generation_configs_ends_and_the_tokenizers_count(llama: Path) -> None:
    edit(llama / "generation_config.json", eos_token_id=[3, 4])
    assert load_checkpoint(config(llama)).eos_token_ids == {1, 3, 4}
    edit(llama / "generation_config.json", eos_token_id=[3, VOCAB_SIZE])
    assert load_checkpoint(config(llama)).eos_token_ids == {1, 3}  # the weights have no row for the other


def test_max_context_is_bounded_by_the_model(llama: Path) -> None:
    assert load_checkpoint(config(llama, max_context=100)).max_context == 100
    assert load_checkpoint(config(llama, max_context=10_000)).max_context == 256


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def lose_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove("config.json"), "has no config.json; point at the folder of a Hugging Face checkpoint"),
        (remove("tokenizer.json"), "has no tokenizer.json; copy it from"),
        (remove("model.safetensors"), "has no weights"),
        (lose_a_shard, "lacks model-00002-of-00002.safetensors"),
        (lose_a_tensor, "lack 1 tensors, model.layers.1.mlp.up_proj.weight first"),
        (lambda folder: edit(folder / "config.json", model_type="gpt2"), "of architecture gpt2; this engine loads"),
        (lambda folder: edit(folder / "config.json", model_type="nonsense"), "config.json of .* can't be read"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json of .* can't be read"),
        (
            lambda folder: edit(
                folder / "config.json", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
            ),
            "scales RoPE by the length",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"junk" * 9), "the weights of .* can't be read"),
    ],
)
def test_a_damaged_checkpoint_says_what_it_lacks(llama: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(llama)
    with pytest.raises(LoadError, match=says) as caught:
        load_checkpoint(config(llama))
    assert "\n" not in str(caught.value)


def test_sliding_windows_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["qwen2"], tmp_path / "qwen2"))
    edit(folder / "config.json", use_sliding_window=True, sliding_window=8)
    with pytest.raises(LoadError, match="sliding-window"):
        load_checkpoint(config(folder))


def test_a_missing_folder_and_an_unknown_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoadError, match="folder /no/such/place does not exist; check the path or give a hub id"):
        load_checkpoint(config("/no/such/place"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        LoadError, match=r"deepseek-ai/none is not a folder here, and config.json of it could not be had"
    ):
        load_checkpoint(config("deepseek-ai/none"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_where_one_is_asked_for(llama: Path) -> None:
    with pytest.raises(LoadError, match="torch sees no GPU"):
        load_checkpoint(config(llama, device="cuda"))


def test_a_cache_too_small_for_one_context_says_what_it_takes(llama: Path) -> None:
    settings = config(llama, cache_gib=0.00005, max_context=200)
    with pytest.raises(LoadError, match=r"hold 96 tokens of .* less than one context of 200; set cache_gib to 0\.00"):
        Engine(load_checkpoint(settings), settings)


def test_a_context_that_does_not_fit_is_lowered_to_what_does(llama: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = config(llama, cache_gib=0.00005)
    engine = Engine(load_checkpoint(settings), settings)
    assert engine.max_context == 96
    assert "max_context is 96, not 256" in caplog.text


def test_the_cache_is_sized_by_the_machine(llama: Path) -> None:
    settings = config(llama)
    engine = Engine(load_checkpoint(settings), settings)
    assert engine.num_cache_blocks == settings.max_sequences * 256 // BLOCK_SIZE  # all sequences at full length


def test_bfloat16_loads_and_runs_packed(llama: Path) -> None:
    settings = config(llama, dtype="bfloat16", cache_gib=0.1)
    engine = Engine(load_checkpoint(settings), settings)
    engine.start()
    assert run(engine, PROMPT, temperature=0, max_tokens=5, ignore_eos=True).num_tokens() == 5
    engine.stop()
