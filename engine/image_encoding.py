"""Encodes the images of waiting requests, views of many of them in one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.images import ImageViews
from engine.models.deepseek_ocr import VisionEncoder
from engine.request import PromptImage, Request
from engine.sequence import Sequence

_UNIT_SIDE = 640
"""Side of the views that the limit counts; a view's memory grows with the fourth power of its side."""


class ImageEncoding:
    """The step before a prompt with images can be scheduled. Used by the loop's thread alone."""

    def __init__(self, encoder: VisionEncoder | None, max_views: int) -> None:
        self._encoder = encoder
        self._max_views = max_views

    def choose(self, sequences: Iterable[Sequence]) -> dict[PromptImage, Request]:
        """The next images to encode, in order of arrival: as many as have `max_views` together, or the first."""
        chosen: dict[PromptImage, Request] = {}
        num_views = 0
        for request in dict.fromkeys(sequence.request for sequence in sequences):
            for image in request.prompt.images:
                if image.embeddings is not None:
                    continue
                num_views += 1 + image.layout.num_tiles
                if chosen and num_views > self._max_views:
                    return chosen
                chosen[image] = request
        return chosen

    def encode(self, images: Iterable[PromptImage]) -> None:
        """Give these images their embeddings, and drop their pixels."""
        assert self._encoder is not None, "a prompt has images, and the checkpoint reads none"
        views = {image: image.views for image in images if image.views is not None}
        whole = self._encode(views, lambda pixels: pixels.view[None])
        tiles = self._encode(views, lambda pixels: pixels.tiles)
        for image in views:
            image.embeddings = self._encoder.arrange(image.layout, whole[image][0], tiles.get(image))
            image.views = None
            assert len(image.embeddings) == image.num_tokens

    def _encode(
        self, views: dict[PromptImage, ImageViews], of: Callable[[ImageViews], NDArray[np.uint8]]
    ) -> dict[PromptImage, Tensor]:
        """Encode stacks of views, `[num_views, side, side, 3]` each; those of the same side go together."""
        by_side: defaultdict[int, dict[PromptImage, NDArray[np.uint8]]] = defaultdict(dict)
        for image, pixels in views.items():
            if len(stack := of(pixels)):
                by_side[stack.shape[1]][image] = stack
        encoded: dict[PromptImage, Tensor] = {}
        for side, stacks in by_side.items():
            features = self._encode_all(np.concatenate(list(stacks.values())), side)
            parts = torch.split(features, [len(stack) for stack in stacks.values()])
            encoded |= zip(stacks, parts, strict=True)
        return encoded

    def _encode_all(self, views: NDArray[np.uint8], side: int) -> Tensor:
        assert self._encoder is not None
        at_once = max(1, int(self._max_views * (_UNIT_SIDE / side) ** 4))
        return torch.cat([self._encoder.encode(views[i : i + at_once]) for i in range(0, len(views), at_once)])
