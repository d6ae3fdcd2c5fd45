"""The vision half of DeepSeek-OCR and DeepSeek-OCR-2: views of an image to embeddings for the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.images import TOKEN_SIDE, ImageMode, ViewLayout


class VisionEncoder(Protocol):
    """Turns the views of images into embeddings that take the places of the prompt's image tokens."""

    @property
    def modes(self) -> Mapping[str, ImageMode]: ...

    @property
    def default_mode(self) -> ImageMode:
        """Unless a request says how to see its images."""

    def objection(self, mode: ImageMode) -> str | None:
        """What speaks against a mode, if anything."""

    def num_tokens(self, layout: ViewLayout) -> int:
        """Embeddings that an image comes to, those of the layout included."""

    def encode(self, views: NDArray[np.uint8]) -> Tensor:
        """`[num_views, side, side, 3]` to `[num_views, (side / 64)², hidden_size]`."""

    def arrange(self, layout: ViewLayout, view: Tensor, tiles: Tensor | None) -> Tensor:
        """Put an image's encoded view and tiles in the decoder's order: `[num_tokens, hidden_size]`."""


class _Tower:
    """What both versions have: a tower, a linear projector and a separator after each image."""

    modes: Mapping[str, ImageMode]

    def __init__(self, model: Any, default_mode: ImageMode | None) -> None:
        self.default_mode = default_mode or self.modes["gundam"]
        self._tower = model.model.vision_tower
        self._projector = model.model.multi_modal_projector
        self._separator = model.model.view_separator[None]

    def encode(self, views: NDArray[np.uint8]) -> Tensor:
        pixels = torch.tensor(views).to(self._separator.device).permute(0, 3, 1, 2)
        scaled = (pixels.float() / 127.5 - 1).to(self._separator.dtype)
        projected: Tensor = self._projector(self._tower(scaled).last_hidden_state)
        return projected


class DeepseekOcrVision(_Tower):
    """Version 1: SAM and CLIP; each row of embeddings ends with a newline's."""

    modes = MappingProxyType(
        {
            "tiny": ImageMode(512, 512, crop=False, stretch=True),
            "small": ImageMode(640, 640, crop=False, stretch=True),
            "base": ImageMode(1024, 1024, crop=False),
            "large": ImageMode(1280, 1280, crop=False),
            "gundam": ImageMode(1024, 640, crop=True),
        }
    )

    def __init__(self, model: Any, default_mode: ImageMode | None) -> None:
        super().__init__(model, default_mode)
        self._newline = model.model.image_newline

    def objection(self, mode: ImageMode) -> str | None:
        return None

    def num_tokens(self, layout: ViewLayout) -> int:
        side, tile_side = layout.mode.base_size // TOKEN_SIDE, layout.mode.tile_size // TOKEN_SIDE
        tiles = tile_side * layout.rows * (tile_side * layout.columns + 1)
        return tiles + side * (side + 1) + 1

    def arrange(self, layout: ViewLayout, view: Tensor, tiles: Tensor | None) -> Tensor:
        side, tile_side = layout.mode.base_size // TOKEN_SIDE, layout.mode.tile_size // TOKEN_SIDE
        parts = [self._with_newlines(view.view(side, side, -1)), self._separator]
        if tiles is not None:
            # [rows, columns, side, side, hidden]: the tiles' own rows side by side are the rows of the image.
            grid = tiles.view(layout.rows, layout.columns, tile_side, tile_side, -1).transpose(1, 2)
            parts.insert(0, self._with_newlines(grid.flatten(2, 3).flatten(0, 1)))
        return torch.cat(parts)

    def _with_newlines(self, grid: Tensor) -> Tensor:
        """`[rows, columns, hidden]` to `[rows · (columns + 1), hidden]`."""
        newlines = self._newline.expand(len(grid), 1, -1)
        return torch.cat((grid, newlines), dim=1).flatten(0, 1)


class DeepseekOcr2Vision(_Tower):
    """Version 2: SAM and a language model with learned queries, which exist for views of 768 and 1024 pixels."""

    modes = MappingProxyType(
        {
            "small": ImageMode(768, 768, crop=False, stretch=True),
            "base": ImageMode(1024, 1024, crop=False),
            "gundam": ImageMode(1024, 768, crop=True),
        }
    )

    def objection(self, mode: ImageMode) -> str | None:
        if {mode.base_size, mode.tile_size} <= {768, 1024}:
            return None
        return "this model sees views of 768 and 1024 pixels; choose base_size and image_size among them"

    def num_tokens(self, layout: ViewLayout) -> int:
        side, tile_side = layout.mode.base_size // TOKEN_SIDE, layout.mode.tile_size // TOKEN_SIDE
        return layout.num_tiles * tile_side**2 + side**2 + 1

    def arrange(self, layout: ViewLayout, view: Tensor, tiles: Tensor | None) -> Tensor:
        return torch.cat((*(() if tiles is None else tiles), view, self._separator))
