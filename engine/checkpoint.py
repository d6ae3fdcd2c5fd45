"""Loading a Hugging Face checkpoint: from a folder or a hub id, and saying plainly what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.image_processing_auto import get_image_processor_config

from engine.config import EngineConfig
from engine.errors import LoadError
from engine.images import TOKEN_SIDE, ImageMode
from engine.linear import Linears
from engine.machine import num_cores
from engine.models.decoder import Decoder
from engine.models.deepseek_ocr import DeepseekOcr2Vision, DeepseekOcrVision, VisionEncoder
from engine.models.deepseek_ocr_config import is_deepseek_ocr, translate
from engine.models.fused import FusedDecoder

VISION: dict[str, type[DeepseekOcrVision] | type[DeepseekOcr2Vision]] = {
    "unlimited_ocr": DeepseekOcrVision,
    "deepseek_ocr2": DeepseekOcr2Vision,
}
"""Architectures that read images; transformers knows version 1's by the name of another model that has it."""
SUPPORTED = {"llama", "qwen2", "qwen3", "deepseek_v2"} | VISION.keys()
"""Architectures (`model_type`) that load: checked token by token against transformers' `generate`."""
IMAGE_MARK = "<image>"
"""Where an image goes in a raw prompt, and the token that stands for its embeddings."""
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model and what belongs to it."""

    name: str
    architecture: str
    decoder: Decoder
    tokenizer: PreTrainedTokenizerFast
    eos_token_ids: frozenset[int]
    max_context: int
    vocab_size: int
    num_parameters: int
    dtype: torch.dtype
    device: torch.device
    vision: VisionEncoder | None
    bos_token_id: int | None
    image_token_id: int | None
    """Stands for images in a prompt; None where the checkpoint reads none."""
    suppressed_token_ids: frozenset[int]
    """Never generated: they only ever stand for something in a prompt."""


@torch.inference_mode()
def load_checkpoint(config: EngineConfig) -> Checkpoint:
    """Load what the settings name, onto the device they name.

    Raises:
        LoadError: one sentence that says what is wrong and what to do.
    """
    device = _device(config)
    if device.type == "cpu":  # before weights are laid out, which oneDNN does for this number
        torch.set_num_threads(config.num_threads or max(1, num_cores() - 1))
    name = config.gpu_checkpoint if device.type == "cuda" and config.gpu_checkpoint else config.checkpoint
    _check_folder(name)
    model_config, tokenizer = _load_config(name)
    _check_supported(name, model_config)
    text_config = model_config.get_text_config()
    max_context = min(config.max_context or text_config.max_position_embeddings, text_config.max_position_embeddings)
    dtype = _dtype(config, model_config, device)
    if config.quantization and device.type != "cpu":
        raise LoadError('engine.json asks for quantization "int8", which is for CPUs; set null, or device "cpu".')
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise LoadError(f"{name} has no fast tokenizer; add the tokenizer.json of its model.")
    model = _load_model(name, model_config, dtype).to(device).eval()
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    vision_class = VISION.get(model_config.model_type)
    in_prompts_only = (
        {tokenizer.pad_token_id, tokenizer.bos_token_id, model_config.image_token_id} if vision_class else set()
    )
    eos_token_ids = _eos_token_ids(name, text_config, tokenizer)
    return Checkpoint(
        name=name,
        architecture=type(model).__name__,
        decoder=FusedDecoder(model, max_context, Linears(config.quantization)),
        tokenizer=tokenizer,
        eos_token_ids=eos_token_ids,
        max_context=max_context,
        vocab_size=text_config.vocab_size,
        num_parameters=num_parameters,
        dtype=dtype,
        device=device,
        vision=vision_class(model, _default_mode(name)) if vision_class else None,
        bos_token_id=text_config.bos_token_id,
        image_token_id=model_config.image_token_id if vision_class else None,
        suppressed_token_ids=frozenset(in_prompts_only - {None} - eos_token_ids),
    )


def _load_config(name: str) -> tuple[PretrainedConfig, Any]:
    """The config and the tokenizer; DeepSeek's own OCR checkpoints name remote code, which is not run."""
    written, _ = _load(PretrainedConfig, name, "config.json", get_config_dict=True)
    if not is_deepseek_ocr(written):
        return _load(AutoConfig, name, "config.json"), _load(AutoTokenizer, name, "the tokenizer", use_fast=True)
    tokenizer = _load(PreTrainedTokenizerFast, name, "the tokenizer")
    image_token_id = tokenizer.get_vocab().get(IMAGE_MARK)
    if image_token_id is None:
        raise LoadError(f"the tokenizer of {name} has no token {IMAGE_MARK}; copy the one of its model.")
    try:
        return translate(written, image_token_id), tokenizer
    except (KeyError, ValueError, TypeError) as error:
        raise LoadError(f"config.json of {name} is not DeepSeek-OCR's: {error}.") from error


def _default_mode(name: str) -> ImageMode | None:
    """How a checkpoint wants to see images, if its preprocessor_config.json says so: DeepSeek's own have none.

    Raises:
        LoadError: its views have no whole number of embeddings.
    """
    written = get_image_processor_config(name)
    if not isinstance(written.get("size"), dict):
        return None
    side = written["size"].get("height", 0)
    mode = ImageMode(side, written.get("tile_size", side), crop=written.get("crop_to_patches", True))
    if not side or side % TOKEN_SIDE or mode.tile_size % TOKEN_SIDE:
        raise LoadError(
            f"preprocessor_config.json of {name} asks for views that are no multiple of {TOKEN_SIDE} pixels."
        )
    return mode


def _device(config: EngineConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise LoadError('engine.json asks for device "cuda", but torch sees no GPU; set "auto" or "cpu".')
    use_gpu = config.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_gpu else "cpu")


def _dtype(config: EngineConfig, model_config: Any, device: torch.device) -> torch.dtype:
    if config.dtype != "auto":
        return _DTYPES[config.dtype]
    dtype = model_config.dtype or torch.bfloat16
    if device.type == "cpu" and dtype != torch.float32:
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return dtype if isinstance(dtype, torch.dtype) else _DTYPES[dtype]


def _is_folder(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or Path(name).is_dir()


def _check_folder(name: str) -> None:
    """Say what a folder lacks before transformers stumbles over it."""
    if not _is_folder(name):
        return
    folder = Path(name)
    if not folder.is_dir():
        raise LoadError(f"the checkpoint folder {name} does not exist; check the path or give a hub id.")
    if not (folder / "config.json").is_file():
        raise LoadError(f"{name} has no config.json; point at the folder of a Hugging Face checkpoint.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError) as error:
            raise LoadError(f"{index} can't be read ({error!r}); download the checkpoint again.") from error
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise LoadError(f"{name} lacks {', '.join(missing)}, named in {index.name}; download it again.")
    elif not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise LoadError(f"{name} has no weights (*.safetensors); download the checkpoint again.")
    if not (folder / "tokenizer.json").is_file():
        raise LoadError(f"{name} has no tokenizer.json; copy it from the checkpoint that this one was made from.")


def _check_supported(name: str, model_config: Any) -> None:
    if model_config.model_type not in SUPPORTED:
        known = ", ".join(sorted(SUPPORTED))
        raise LoadError(f"{name} is of architecture {model_config.model_type}; this engine loads {known}.")
    text_config = model_config.get_text_config()
    if text_config.hidden_act != "silu":
        raise LoadError(f"{name} uses the activation {text_config.hidden_act}; this engine computes silu.")
    layer_types = set(getattr(text_config, "layer_types", None) or ()) - {"full_attention"}
    if getattr(model_config, "use_sliding_window", False) or layer_types:
        raise LoadError(f"{name} uses sliding-window attention, which is not supported; load a model without it.")
    rope = (getattr(text_config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise LoadError(f"{name} scales RoPE by the length of the text ({rope}), which can't be batched.")


def _load(loader: Any, name: str, what: str, *, get_config_dict: bool = False, **options: Any) -> Any:
    try:
        load = loader.get_config_dict if get_config_dict else loader.from_pretrained
        return load(name, **options)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if not _is_folder(name):
            raise LoadError(
                f"{name} is not a folder here, and {what} of it could not be had from the hub ({reason}); "
                "check the name and the network, or give the path of a folder."
            ) from error
        raise LoadError(f"{what} of {name} can't be read: {reason}") from error


def _load_model(name: str, model_config: Any, dtype: torch.dtype) -> Any:
    options = {"config": model_config, "dtype": dtype, "output_loading_info": True}
    loader = AutoModelForImageTextToText if model_config.model_type in VISION else AutoModelForCausalLM
    model, info = _load(loader, name, "the weights", **options)
    missing = sorted(info["missing_keys"])
    if missing:
        raise LoadError(f"the weights of {name} lack {len(missing)} tensors, {missing[0]} first; download them again.")
    return model


def _eos_token_ids(name: str, model_config: Any, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """The tokens that end a text, as far as the weights have rows for them."""
    try:
        declared = GenerationConfig.from_pretrained(name).eos_token_id
    except OSError:  # the file is optional
        declared = model_config.eos_token_id
    ids = declared if isinstance(declared, list) else [declared]
    return frozenset(i for i in (*ids, tokenizer.eos_token_id) if i is not None and i < model_config.vocab_size)
