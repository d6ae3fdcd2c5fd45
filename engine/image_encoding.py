"""Encodes the images of waiting requests, views of many of them in one batch."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.deepseek_ocr import VisionEncoder
from engine.request import Request
from engine.sequence import Sequence


class ImageEncoding:
    """The step before a prompt with images can be scheduled. Used by the loop's thread alone."""

    def __init__(self, encoder: VisionEncoder | None, max_views: int) -> None:
        self._encoder = encoder
        self._max_views = max_views

    def choose(self, sequences: list[Sequence]) -> list[Request]:
        """The next requests to encode, in order of arrival: as many as have `max_views` together, or the first."""
        waiting = dict.fromkeys(s.request for s in sequences if s.request.prompt.images and not s.request.is_encoded)
        chosen: list[Request] = []
        num_views = 0
        for request in waiting:
            num_views += sum(image.views.num_views for image in request.prompt.images)
            if chosen and num_views > self._max_views:
                break
            chosen.append(request)
        return chosen

    def encode(self, requests: list[Request]) -> None:
        """Give every image of these requests its embeddings."""
        assert self._encoder is not None, "a prompt has images, and the checkpoint reads none"
        images = [image for request in requests for image in request.prompt.images]
        views = iter(self._encode([image.views.view[None] for image in images]))
        tiles = iter(self._encode([image.views.tiles for image in images]))
        for image in images:
            image.embeddings = self._encoder.arrange(image.views, next(views)[0], next(tiles))
            assert len(image.embeddings) == image.num_tokens

    def _encode(self, stacks: list[NDArray[np.uint8]]) -> list[Tensor]:
        """Encode stacks of views, `[num_views, side, side, 3]` each; those of the same side go together."""
        assert self._encoder is not None
        by_side = defaultdict(list)
        for index, stack in enumerate(stacks):
            if len(stack):
                by_side[stack.shape[1]].append(index)
        encoded = [torch.empty(0)] * len(stacks)
        for indices in by_side.values():
            views = np.concatenate([stacks[i] for i in indices])
            # One prompt may have more views than a step; their number at once decides what memory this takes.
            parts = [
                self._encoder.encode(views[i : i + self._max_views]) for i in range(0, len(views), self._max_views)
            ]
            sizes = [len(stacks[i]) for i in indices]
            for i, features in zip(indices, torch.split(torch.cat(parts), sizes), strict=True):
                encoded[i] = features
        return encoded
