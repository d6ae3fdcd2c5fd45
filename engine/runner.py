"""Computes one step: a batch of chunks in, the logits of the rows to sample from out."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, takewhile

import torch
from torch import Tensor

from engine import kernels
from engine.attention import KVCache, Segment, StepAttention
from engine.device import to_device
from engine.embedding import HiddenMean
from engine.models.decoder import Decoder
from engine.prefix_cache import runs
from engine.prompt_logprobs import PromptLogprobs
from engine.scheduler import Batch
from engine.sequence import UNREAD, Sequence
from engine.shared_prefix import PrefixFinder


@dataclass(frozen=True, slots=True)
class Ahead:
    """The tokens that the last step chose, while they are on the device alone."""

    tokens: Tensor
    """`[num_rows]`, int64; negative where one has to be chosen anew, and what is computed from it is dropped."""
    rows: dict[Sequence, int]
    """Of the sequences that go on with them."""


@dataclass(slots=True)
class Step:
    """A batch as flat lists, a number for each token, and a segment for each sequence."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    cache_positions: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    last_rows: list[int] = field(default_factory=list)
    """Rows that a token is sampled from: those that reach their sequence's end."""
    read_rows: list[int] = field(default_factory=list)
    """Rows of prompts that are embedded, or whose log-probabilities are asked for."""
    readers: list[tuple[HiddenMean | PromptLogprobs, int]] = field(default_factory=list)
    """Where these go, and how many to each."""
    unread: list[tuple[int, int]] = field(default_factory=list)
    """Rows whose token is on the device alone, each with its row among those."""
    singles: list[Sequence] = field(default_factory=list)
    """The sequences of one row that are in front."""

    @classmethod
    def of(cls, batch: Batch, ahead: Ahead | None = None) -> Step:
        step = cls()
        for chunk in batch:
            start = chunk.sequence.cache_start
            assert start is not None
            step.tokens += chunk.sequence.tokens[chunk.start : chunk.end]
            step.positions += range(chunk.start, chunk.end)
            step.cache_positions += range(start + chunk.start, start + chunk.end)
            step.segments.append(Segment(chunk.num_tokens, start, chunk.end))
            if chunk.is_sampled:
                step.last_rows.append(len(step.tokens) - 1)
            if mean := chunk.sequence.hidden_mean:
                step._read(mean, len(step.tokens) - chunk.num_tokens, chunk.num_tokens)
            if logprobs := chunk.sequence.prompt_logprobs:
                num_wanted = logprobs.num_wanted(chunk.start, chunk.end)
                step._read(logprobs, len(step.tokens) - chunk.num_tokens, num_wanted)
            if step.tokens[-1] == UNREAD:
                assert ahead is not None
                step.unread.append((len(step.tokens) - 1, ahead.rows[chunk.sequence]))
        step.singles = [chunk.sequence for chunk in takewhile(lambda chunk: chunk.num_tokens == 1, batch)]
        return step

    def _read(self, reader: HiddenMean | PromptLogprobs, first_row: int, num_rows: int) -> None:
        if num_rows:
            self.read_rows += range(first_row, first_row + num_rows)
            self.readers.append((reader, num_rows))


class Runner:
    """Turns chunks into flat tensors, and runs the decoder over them."""

    def __init__(self, decoder: Decoder, cache: KVCache, device: torch.device) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = device
        self._find_shared = PrefixFinder()

    def warm_up(self, max_sequences: int) -> None:
        """Make ready for steps with up to so many sequences: no request shall wait for what is compiled once."""
        with kernels.compiling():
            self._compile(max_sequences)

    def _compile(self, max_sequences: int) -> None:
        for sizes in ([1], [1, 1], [1, 2], [1, 1, 2], [2, 1]):  # each lays tensors out in its own way
            if len(sizes) > max_sequences:
                continue
            starts = [0, *accumulate(sizes)]
            segments = [Segment(size, start, size) for size, start in zip(sizes, starts, strict=False)]
            cache_positions = list(range(starts[-1]))
            positions = [position for size in sizes for position in range(size)]
            step = Step([0] * len(positions), positions, cache_positions, segments, [end - 1 for end in starts[1:]])
            self._compute(step, self._decoder.embed(self._tensor(step.tokens)))
        kernels.warm_up(self._cache.keys[0], self._cache.values[0])

    def run(self, batch: Batch, ahead: Ahead | None = None) -> Tensor:
        """Compute the batch's tokens; their keys and values are in the cache afterwards.

        Args:
            batch: what to compute.
            ahead: the last step's tokens, if they are not read yet.

        Returns:
            `[num_sampled_chunks, vocab_size]` in float32, a row for each chunk that a token is sampled from.
        """
        self._copy_known(batch)
        step = Step.of(batch, ahead)
        tokens = self._tensor(step.tokens)
        put_unread(tokens, step, ahead)
        embeddings = self._decoder.embed(tokens)
        _place_images(embeddings, batch)
        return self._compute(step, embeddings)

    def _compute(self, step: Step, embeddings: Tensor) -> Tensor:
        num_sampled = len(step.last_rows)
        rows = None if num_sampled == len(step.tokens) else self._tensor(step.last_rows + step.read_rows)
        hidden = self._decoder.forward(embeddings, self._tensor(step.positions), self._attention(step), rows)
        for reader, num_rows in step.readers:
            reader.add(hidden[num_sampled : num_sampled + num_rows])
            num_sampled += num_rows
        return self._decoder.logits(hidden[: len(step.last_rows)]).float()

    def _attention(self, step: Step) -> StepAttention:
        shared = self._find_shared(step.singles)
        return StepAttention(self._cache, self._tensor(step.cache_positions), step.segments, shared)

    def _copy_known(self, batch: Batch) -> None:
        """Put what others have computed of a prompt where its sequence reads it."""
        for chunk in batch:
            destination = chunk.sequence.cache_start
            for source, num_tokens in runs(chunk.known):
                assert destination is not None
                self._cache.copy(source, destination, num_tokens)
                destination += num_tokens

    def _tensor(self, values: list[int]) -> Tensor:
        return to_device(values, self._device)


def put_unread(tokens: Tensor, step: Step, ahead: Ahead | None) -> None:
    """Put tokens that are on the device alone where a step needs them, in `[num_tokens]` or more."""
    if step.unread:
        assert ahead is not None
        rows, sources = to_device(step.unread, tokens.device).unbind(1)
        tokens[rows] = ahead.tokens[sources].clamp(min=0).to(tokens.dtype)


def _place_images(embeddings: Tensor, batch: Batch) -> None:
    """Put the embeddings of images where the tokens that stand for them are: into `[num_tokens, hidden_size]`."""
    row = 0
    for chunk in batch:
        for image in chunk.sequence.request.prompt.images:
            start, end = max(chunk.start, image.start), min(chunk.end, image.start + image.num_tokens)
            if start < end:
                assert image.embeddings is not None
                part = image.embeddings[start - image.start : end - image.start]
                embeddings[row + start - chunk.start : row + end - chunk.start] = part
        row += chunk.num_tokens
