"""What transformers makes of a page: the reference for small OCR checkpoints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    DeepseekOcr2ImageProcessorPil,
    PreTrainedTokenizerFast,
    UnlimitedOcrProcessor,
)
from transformers.models.deepseek_ocr2.processing_deepseek_ocr2 import DeepseekOcr2Processor

from engine.images import ImageMode
from tests.checkpoints import ocr_config

PROMPT = "<image>\n<|grounding|>Convert the document to markdown."
NUM_TOKENS = 24


def page(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Coarse noise: no two pages alike, and nothing that resizing wipes out."""
    numbers = np.random.default_rng([*size, seed])
    blocks = numbers.integers(0, 256, (size[1] // 20, size[0] // 20, 3), np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


class Reference:
    """transformers: its image processor where it runs without torchvision, its processor's layout, its `generate`."""

    def __init__(self, architecture: str, folder: Path) -> None:
        self._is_v2 = architecture == "deepseek_ocr2"
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        config = ocr_config(architecture)
        self._suppressed = [0, config.image_token_id]
        self.model = AutoModelForImageTextToText.from_pretrained(folder, config=config, dtype=torch.float32)

    def inputs(self, image: Image.Image, mode: ImageMode) -> dict[str, Any]:
        # DeepSeek's own code stretches small views, which transformers' processor of version 2 does not.
        if not mode.crop and mode.base_size <= (768 if self._is_v2 else 640):
            values = np.asarray(image.resize((mode.base_size, mode.base_size), Image.Resampling.BICUBIC), np.float32)
            pixels = {"pixel_values": torch.from_numpy(values / 255 * 2 - 1).permute(2, 0, 1)[None]}
            num_tiles, columns, rows = 0, 1, 1
        else:
            processor = DeepseekOcr2ImageProcessorPil(
                size={"height": mode.base_size, "width": mode.base_size}, crop_to_patches=mode.crop,
                tile_size=mode.tile_size, min_patches=2, max_patches=6,
            )  # fmt: skip
            pixels = dict(processor(image, return_tensors="pt"))
            num_tiles = int(pixels.pop("num_local_patches")[0])
            columns, rows = grid_of(num_tiles, image)
        self.layout = {"num_local_patches": [num_tiles], "patches_grid": [[columns, rows]]}
        sizes = {"size": {"height": mode.base_size, "width": mode.base_size}, "tile_size": mode.tile_size}
        processor_class = DeepseekOcr2Processor if self._is_v2 else UnlimitedOcrProcessor
        settings = SimpleNamespace(image_token="<image>", patch_size=16, downsample_ratio=4)
        marks = processor_class.replace_image_token(settings, self.layout, 0, **sizes)
        text = PROMPT.replace("<image>", marks)
        ids = [0, *self._tokenizer.encode(text, add_special_tokens=False)]
        layout = {"num_local_patches": [num_tiles]} if self._is_v2 else self.layout
        return {"input_ids": torch.tensor([ids]), **pixels, **layout}

    def generate(self, inputs: dict[str, Any]) -> str:
        mask = torch.ones_like(inputs["input_ids"])
        options = {"suppress_tokens": self._suppressed, "eos_token_id": 1, "pad_token_id": 2, "do_sample": False}
        output = self.model.generate(**inputs, attention_mask=mask, max_new_tokens=NUM_TOKENS, **options)
        tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
        return str(self._tokenizer.decode([t for t in tokens if t != 1], skip_special_tokens=False))


def grid_of(num_tiles: int, image: Image.Image) -> tuple[int, int]:
    """The columns and rows of so many tiles that are nearest the image's proportions."""
    grids = [(c, num_tiles // c) for c in range(1, num_tiles + 1) if num_tiles % c == 0] or [(1, 1)]
    return min(grids, key=lambda grid: abs(grid[0] / grid[1] - image.width / image.height))
