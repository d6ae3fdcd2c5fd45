"""Pages as what the model is trained on: views, token ids, and where on the page each token comes from."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from adapter.ocr.templates import build_prompt
from demo.ocr.maker import PageMaker
from demo.ocr.pages import Answer, Page, Point
from demo.ocr.tokenizer import BOS, EOS, IMAGE, PAD
from engine.images import ImageMode, cut_views, lay_out

IGNORED = -100
PATCH_SIDE = 16
"""Pixels of a patch, SAM's smallest unit."""
PATCH_SLOTS = 2
"""Characters that a patch is taught to tell, from left to right."""
Row: TypeAlias = tuple[list[int], list[int], list[int]]
"""Ids, labels and places."""
PROMPTS = ("free", "markdown", "grounding", "locate")


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum: `steps` batches of `rows` pages."""

    name: str
    steps: int
    rows: int
    maker: PageMaker
    learning_rate: float
    """Of Muon, the towers' and the decoder's; AdamW's is a third of it."""
    prompt_weights: tuple[float, float, float, float] | None
    """Of `PROMPTS`; None where the vision towers learn alone."""
    slip_share: float = 0.0
    """Tokens of the answer before the next one that are shown wrong, as the model's own will be at times."""
    warmup_steps: int = 0
    """At the beginning, in which the learning rate comes up from nothing."""
    decay_steps: int = 0
    """At the end, in which it goes down to nothing."""

    def learning_rate_at(self, step: int) -> float:
        """Of one of the stage's steps."""
        up = (step + 1) / self.warmup_steps if self.warmup_steps else 1.0
        down = (self.steps - step) / self.decay_steps if self.decay_steps else 1.0
        return self.learning_rate * min(up, down, 1.0)


@dataclass(frozen=True)
class Batch:
    """Rows are padded on the right."""

    views: Tensor
    """`[rows, 3, side, side]`, uint8."""
    ids: Tensor
    """`[rows, length]`: what stands behind the image: its prompt and answer."""
    labels: Tensor
    """`[rows, length]`: the token after each one, IGNORED where it is not learned."""
    places: Tensor
    """`[rows, length]`: the patch of the view where the next token stands, IGNORED where it stands nowhere."""
    slots: Tensor
    """`[rows, side / 16, side / 16, PATCH_SLOTS]`: the tokens whose centres lie in each patch; padding for none."""


class Encoder:
    """Token ids of pages and answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = {tokenizer.decode([index]): index for index in range(len(tokenizer))}
        self.bos, self.eos, self.pad = (self._vocabulary[name] for name in (BOS, EOS, PAD))
        self._characters = [self._vocabulary[chr(code)] for code in range(32, 127)]

    def prompt(self, name: str, target: str | None = None) -> list[int]:
        """Ids of a template behind the image."""
        text = build_prompt(name, target).removeprefix(IMAGE)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def row(self, page: Page, side: int, prompt: str, rng: random.Random) -> Row:
        """Ids, labels and places of one page."""
        target: str | None = None
        if prompt == "locate":
            target, answer = page.locate(rng)
        else:
            answer = {"free": page.text, "markdown": page.markdown, "grounding": page.grounding}[prompt]()
        asked = self.prompt(prompt, target)
        said = [self._vocabulary[token] for token, _ in answer]
        ids = [*asked, *said]
        labels = [*[IGNORED] * (len(asked) - 1), *said, self.eos]
        where = [cell_of(place, page.image.size, side, PATCH_SIDE) if place else IGNORED for _, place in answer]
        return ids, labels, [*[IGNORED] * (len(asked) - 1), *where, IGNORED]

    def with_slips(self, row: Row, share: float, rng: random.Random) -> Row:
        """The row of a reader that now and then misreads a token, leaves one out, or says one too many.

        What comes next on the page stays what is learned: one slip must not lead to others. After one left out, or one
        too many, the place last read is that of the token before, or of the next one.
        """
        tokens = list(zip(*row, strict=True))
        first = next(i for i, (_, label, _) in enumerate(tokens) if label != IGNORED) + 1  # of the answer
        slipped = tokens[:first]
        for token, label, place in tokens[first:]:
            if rng.random() >= share:
                slipped.append((token, label, place))
                continue
            kind = rng.choices(("misread", "left out", "too many"), (8, 1, 1))[0]
            if kind == "too many":
                slipped.append((token, label, place))
            if kind != "left out":
                slipped.append((rng.choice(self._characters), label, place))
        ids, labels, places = zip(*slipped, strict=True)
        return list(ids), list(labels), list(places)

    def slots(self, page: Page, side: int) -> NDArray[np.int64]:
        """`[patches, patches, PATCH_SLOTS]`: what stands in each patch, a line's end included."""
        count = side // PATCH_SIDE
        slots = np.full((count * count, PATCH_SLOTS), self.pad)
        filled = [0] * len(slots)
        for block in page.blocks:
            for line in block.lines:
                said: Answer = [*line.answer(), ("\n", line.places[-1])]
                for token, place in said:
                    assert place is not None
                    patch = cell_of(place, page.image.size, side, PATCH_SIDE)
                    if filled[patch] < PATCH_SLOTS:
                        slots[patch, filled[patch]] = self._vocabulary[token]
                        filled[patch] += 1
        return slots.reshape(count, count, PATCH_SLOTS)


def cell_of(place: Point, size: tuple[int, int], side: int, unit: int) -> int:
    """The square of `unit` pixels of a padded view, row by row, in which a place of the page is seen."""
    scale = side / max(size)
    x, y = (
        min(max(value * scale + (side - length * scale) / 2, 0), side - 1)
        for value, length in zip(place, size, strict=True)
    )
    return int(y) // unit * (side // unit) + int(x) // unit


def view_of(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """`[3, side, side]`: the page as the engine shows it to the model."""
    layout = lay_out(image.size, ImageMode(side, side, crop=False))
    return cut_views(image.convert("RGB"), layout).view.transpose(2, 0, 1)


class Batches:
    """The batch of each step, made from the seed, the step and nothing else."""

    def __init__(
        self, stages: Sequence[Stage], tokenizer: PreTrainedTokenizerFast, seed: int, part: tuple[int, int] = (0, 1)
    ) -> None:
        """`part`: which of how many equal parts of each batch to make."""
        self._first, self._stride = part
        self._tokenizer = tokenizer
        self._stages = stages
        self._encoder = Encoder(tokenizer)
        self._seed = seed

    def __len__(self) -> int:
        return sum(stage.steps for stage in self._stages)

    def digest(self) -> str:
        """A hash of each stage's first batch: other fonts, texts, prompts or libraries make another."""
        batches = Batches(self._stages, self._tokenizer, self._seed)
        digest = hashlib.sha256()
        for step in accumulate((stage.steps for stage in self._stages[:-1]), initial=0):
            batch = batches[step]
            for tensor in (batch.views, batch.ids, batch.labels, batch.places, batch.slots):
                digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def stage(self, step: int) -> tuple[Stage, int]:
        """The stage that a step belongs to, and how many of its steps come before."""
        for stage in self._stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError(step)

    def __getitem__(self, step: int) -> Batch:
        stage, _ = self.stage(step)
        side = stage.maker.view
        views, rows, slots = [], [], []
        for index in range(self._first, stage.rows, self._stride):
            rng = random.Random(f"{self._seed}/{step}/{index}")
            page = stage.maker.page(rng)
            views.append(view_of(page.image, side))
            if stage.prompt_weights is None:
                rows.append(([], [], []))
            else:
                prompt = rng.choices(PROMPTS, stage.prompt_weights)[0]
                row = self._encoder.row(page, side, prompt, rng)
                rows.append(self._encoder.with_slips(row, stage.slip_share, rng) if stage.slip_share else row)
            slots.append(self._encoder.slots(page, side))
        ids, labels, places = zip(*rows, strict=True)
        return Batch(
            torch.from_numpy(np.stack(views)),
            _padded(ids, self._encoder.pad),
            _padded(labels, IGNORED),
            _padded(places, IGNORED),
            torch.from_numpy(np.stack(slots)),
        )


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])
