"""The engine's settings: `engine.json` beside a model's `model.py`, and one environment variable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import LoadError

Quantization = Literal["int8"]


class EngineConfig(BaseModel):
    """What `engine.json` may say. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    checkpoint: str = Field(description="A hub id, or a folder; a relative folder starts at engine.json's.")
    gpu_checkpoint: str | None = Field(None, description="What to load instead where there is a GPU.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where torch sees one.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="auto: the checkpoint's own, or float32 on a CPU that can't multiply it fast."
    )
    quantization: Quantization | None = Field(
        None,
        description="int8: linear layers in 8 bits, half the memory; on CPU, faster with AMX or AVX-512 VNNI.",
    )
    max_sequences: int = Field(16, ge=1, description="Sequences in the engine at once; more wait in Triton's queue.")
    max_context: int | None = Field(
        None,
        ge=2,
        description="Tokens of prompt and output together; null: the checkpoint's own, if the cache holds it.",
    )
    default_max_tokens: int = Field(
        4096, ge=1, description="Longest answer of a request without `max_tokens`; the cache is reserved for it."
    )
    max_step_tokens: int = Field(512, ge=1, description="Tokens computed in one step, prefill and decode together.")
    cache_gib: float | None = Field(
        None,
        gt=0,
        description="Memory for keys and values; null: what all sequences can use, at most 0.4 of what is free.",
    )
    prefix_cache: bool = Field(
        True, description="Whether what prompts without images have in common is computed only once."
    )
    num_threads: int | None = Field(None, ge=1, description="Compute threads on CPU; null: all cores but one.")
    max_repetition_tokens: int = Field(
        0, ge=0, description="Tokens after which an output that only repeats itself ends as `repetition`; 0: never."
    )
    max_step_views: int | None = Field(
        None,
        ge=1,
        description="Views of images (tiles too) in one batch; null: 16 on a GPU, 1 on a CPU, where more cost more.",
    )
    max_image_pixels: int = Field(
        100_000_000, ge=1, description="Most pixels that the images of one prompt have together."
    )
    max_images: int = Field(16, ge=1, description="Most images in one prompt.")

    @model_validator(mode="after")
    def _a_step_decodes_everyone(self) -> EngineConfig:
        if self.max_step_tokens < self.max_sequences:
            raise ValueError("max_step_tokens must be at least max_sequences, so that a step can decode all of them")
        return self


def read_config(path: Path, model_name: str) -> EngineConfig:
    """Read `engine.json`; `<MODEL>_CHECKPOINT` in the environment overrides its checkpoints.

    Raises:
        LoadError: the file is missing, is not JSON, or has a wrong or unknown key.
    """
    try:
        config = EngineConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LoadError(f"{path} can't be read ({error.strerror}); every model needs one.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise LoadError(f"{path}: {key}: {first['msg']}.") from error
    override = os.environ.get(f"{model_name.upper()}_CHECKPOINT")
    if override:
        return config.model_copy(update={"checkpoint": override, "gpu_checkpoint": None})
    return config.model_copy(update={"checkpoint": _anchor(config.checkpoint, path.parent)})


def _anchor(checkpoint: str, folder: Path) -> str:
    """Make a relative folder (`./` or `../`) absolute; leave hub ids as they are."""
    return str((folder / checkpoint).resolve()) if checkpoint.startswith(".") else checkpoint
