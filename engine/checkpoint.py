"""Loading a Hugging Face checkpoint: from a folder or a hub id, and saying plainly what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from engine.config import EngineConfig
from engine.errors import LoadError
from engine.models.decoder import Decoder
from engine.models.llama import LlamaDecoder
from engine.models.transformers_decoder import TransformersDecoder

FUSED = frozenset({"llama", "qwen2"})
"""Architectures (`model_type`) with a path of their own."""
SUPPORTED = FUSED | {"qwen3", "deepseek_v2"}
"""Architectures that load: checked token by token against transformers' `generate`."""
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


@torch.inference_mode()
def load_checkpoint(config: EngineConfig) -> Checkpoint:
    """Load what the settings name, onto the device they name.

    Raises:
        LoadError: one sentence that says what is wrong and what to do.
    """
    device = _device(config)
    name = config.gpu_checkpoint if device.type == "cuda" and config.gpu_checkpoint else config.checkpoint
    _check_folder(name)
    model_config = _load(AutoConfig, name, "config.json")
    _check_supported(name, model_config)
    max_context = min(config.max_context or model_config.max_position_embeddings, model_config.max_position_embeddings)
    dtype = _dtype(config, model_config, device)
    tokenizer = _load(AutoTokenizer, name, "the tokenizer", use_fast=True)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise LoadError(f"{name} has no fast tokenizer; add the tokenizer.json of its model.")
    model = _load_model(name, model_config, dtype).to(device).eval()
    eos_token_ids = _eos_token_ids(name, model_config, tokenizer)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    fused = model_config.model_type in FUSED and model_config.hidden_act == "silu"
    return Checkpoint(
        name=name,
        architecture=type(model).__name__,
        decoder=LlamaDecoder(model, max_context) if fused else TransformersDecoder(model),
        tokenizer=tokenizer,
        eos_token_ids=eos_token_ids,
        max_context=max_context,
        vocab_size=model_config.vocab_size,
        num_parameters=num_parameters,
        dtype=dtype,
        device=device,
    )


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
        raise LoadError(f"{name} is of architecture {model_config.model_type}; the coder loads {known}.")
    if getattr(model_config, "use_sliding_window", False):
        raise LoadError(f"{name} uses sliding-window attention, which is not supported; load a model without it.")
    rope = (getattr(model_config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise LoadError(f"{name} scales RoPE by the length of the text ({rope}), which can't be batched.")


def _load(loader: Any, name: str, what: str, **options: Any) -> Any:
    try:
        return loader.from_pretrained(name, **options)
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
    model, info = _load(AutoModelForCausalLM, name, "the weights", **options)
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
