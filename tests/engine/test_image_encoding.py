"""Which images a step encodes, and how many views go through the tower at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engine.detokenizer import TextStream
from engine.image_encoding import ImageEncoding
from engine.images import ImageMode, ImageViews, ViewLayout
from engine.request import Prompt, PromptImage
from engine.sequence import Sequence
from tests.engine.recorder import Recorder


class CountingEncoder:
    """Remembers how many views of which side came together."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def encode(self, views: Any) -> torch.Tensor:
        self.calls.append((len(views), views.shape[1]))
        return torch.zeros(len(views), 1, 1)

    def arrange(self, layout: ViewLayout, view: torch.Tensor, tiles: torch.Tensor | None) -> torch.Tensor:
        assert layout.num_tiles == (0 if tiles is None else len(tiles))
        return torch.zeros(1, 1)


def waiting(*sides: int, num_tiles: int = 0) -> Sequence:
    """A request with an image of each of these sizes."""
    images = []
    for side in sides:
        layout = ViewLayout(ImageMode(side, 640, crop=num_tiles > 0), num_tiles, 1 if num_tiles else 0)
        tiles = np.zeros((num_tiles, 640, 640, 3), np.uint8)
        images.append(PromptImage(layout, 0, 1, ImageViews(np.zeros((side, side, 3), np.uint8), tiles)))
    request = Recorder(Prompt([0], tuple(images))).request
    return Sequence(request, 0, TextStream(None, []), 1)  # type: ignore[arg-type]


def test_a_step_encodes_at_most_so_many_views_in_order_of_arrival() -> None:
    encoder = CountingEncoder()
    encoding = ImageEncoding(encoder, max_views=4)  # type: ignore[arg-type]
    sequences = [waiting(640, 640, 640), waiting(640, 640), waiting(640, num_tiles=6), waiting(640)]
    numbers = {sequence.request: number for number, sequence in enumerate(sequences)}
    steps = []
    while images := encoding.choose(sequences):
        encoding.encode(images)
        steps.append([numbers[request] for request in images.values()])
    assert steps == [[0, 0, 0, 1], [1], [2], [3]]
    assert all(request.is_encoded for request in numbers)
    assert all(image.views is None for request in numbers for image in request.prompt.images)
    assert max(count for count, _ in encoder.calls) == 4  # the six tiles go in two parts


def test_larger_views_go_fewer_at_once() -> None:
    encoder = CountingEncoder()
    encoding = ImageEncoding(encoder, max_views=16)  # type: ignore[arg-type]
    for side in (512, 640, 1024, 1280):
        encoding.encode(encoding.choose([waiting(*[side] * 16)]))
    assert [max(count for count, s in encoder.calls if s == side) for side in (512, 640, 1024, 1280)] == [16, 16, 2, 1]
