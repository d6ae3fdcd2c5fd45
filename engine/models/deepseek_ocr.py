"""The vision half of DeepSeek-OCR and DeepSeek-OCR-2: views of an image to embeddings for the decoder."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.images import MODES, ImageMode, ImageViews

_TOKEN_SIDE = 64
"""Pixels of a view's side that become one embedding: SAM's patches of 16, compressed four times."""


class VisionEncoder(Protocol):
    """Turns the views of images into embeddings that take the places of the prompt's image tokens."""

    modes: dict[str, ImageMode]
    default_mode: str

    def check(self, mode: ImageMode) -> str | None:
        """What speaks against a mode, if anything."""

    def num_tokens(self, views: ImageViews) -> int:
        """Embeddings that an image comes to, layout included."""

    def encode(self, views: NDArray[np.uint8]) -> Tensor:
        """`[num_views, side, side, 3]` to `[num_views, (side / 64)², hidden_size]`."""

    def arrange(self, views: ImageViews, view: Tensor, tiles: Tensor) -> Tensor:
        """Put an image's encoded view and tiles in the decoder's order: `[num_tokens, hidden_size]`."""


class DeepseekOcrVision:
    """Version 1: SAM and CLIP; each row of embeddings ends with a newline's, each image with a separator's."""

    modes = MODES
    default_mode = "gundam"

    def __init__(self, model: Any) -> None:
        self._tower = model.model.vision_tower
        self._projector = model.model.multi_modal_projector
        self._separator = model.model.view_separator[None]
        self._newline = getattr(model.model, "image_newline", None)

    def check(self, mode: ImageMode) -> str | None:
        return None

    def num_tokens(self, views: ImageViews) -> int:
        num_tokens = _rows(views.view) * (_rows(views.view) + 1) + 1
        if len(views.tiles):
            side = _rows(views.tiles[0])
            num_tokens += side * views.rows * (side * views.columns + 1)
        return num_tokens

    def encode(self, views: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(views).to(self._separator.device).permute(0, 3, 1, 2)
        scaled = (pixels.float() / 127.5 - 1).to(self._separator.dtype)
        projected: Tensor = self._projector(self._tower(scaled).last_hidden_state)
        return projected

    def arrange(self, views: ImageViews, view: Tensor, tiles: Tensor) -> Tensor:
        parts = [self._with_newlines(view.view(_rows(views.view), -1, view.shape[-1])), self._separator]
        if len(tiles):
            side = _rows(views.tiles[0])
            # [rows, columns, side, side, hidden]: the tiles' own rows side by side are the rows of the image.
            grid = tiles.view(views.rows, views.columns, side, side, -1).transpose(1, 2)
            parts.insert(0, self._with_newlines(grid.flatten(2, 3).flatten(0, 1)))
        return torch.cat(parts)

    def _with_newlines(self, grid: Tensor) -> Tensor:
        """`[rows, columns, hidden]` to `[rows · (columns + 1), hidden]`."""
        assert self._newline is not None
        newlines = self._newline.expand(len(grid), 1, -1)
        return torch.cat((grid, newlines), dim=1).flatten(0, 1)


class DeepseekOcr2Vision(DeepseekOcrVision):
    """Version 2: SAM and a language model with learned queries, which exist for views of 768 and 1024 pixels."""

    modes = {  # noqa: RUF012 - read only
        "small": ImageMode(768, 768, crop=False),
        "base": ImageMode(1024, 1024, crop=False),
        "gundam": ImageMode(1024, 768, crop=True),
    }

    def check(self, mode: ImageMode) -> str | None:
        if {mode.base_size, mode.tile_size} <= {768, 1024}:
            return None
        return "this model sees views of 768 and 1024 pixels; choose base_size and image_size among them"

    def num_tokens(self, views: ImageViews) -> int:
        num_tokens = _rows(views.view) ** 2 + 1
        if len(views.tiles):
            num_tokens += len(views.tiles) * _rows(views.tiles[0]) ** 2
        return num_tokens

    def arrange(self, views: ImageViews, view: Tensor, tiles: Tensor) -> Tensor:
        return torch.cat((*tiles, view, self._separator))


def _rows(view: NDArray[np.uint8]) -> int:
    """Rows of embeddings of one view `[side, side, 3]`."""
    return view.shape[0] // _TOKEN_SIDE
