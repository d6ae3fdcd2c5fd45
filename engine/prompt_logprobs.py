"""Log probabilities of a prompt's own tokens, each beside the likeliest in its place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from engine.device import to_device
from engine.request import TokenLogprob

_MAX_ROWS = 64
"""Tokens whose logits are there at once: 64 of 100,000 in float32 are 25 MB, and more are hardly faster."""


class PromptLogprobs:
    """Says what each token made of the next one, as they are computed, chunk by chunk."""

    def __init__(self, tokens: list[int], num_top: int, logits: Callable[[Tensor], Tensor]) -> None:
        """`logits` takes final hidden states, `[num_rows, hidden_size]`, to `[num_rows, vocab_size]`."""
        self._next = tokens[1:]
        self._num_top = num_top
        self._logits = logits
        self._num_added = 0
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def num_wanted(self, start: int, end: int) -> int:
        """Of the tokens `start … end`, those in front that have a next one in the prompt."""
        return max(0, min(end, len(self._next)) - start)

    def add(self, hidden: Tensor) -> None:
        """Take in what the next tokens came to: `[num_tokens, hidden_size]`, after the final norm."""
        for start in range(0, len(hidden), _MAX_ROWS):
            part = hidden[start : start + _MAX_ROWS]
            tokens = self._next[self._num_added : self._num_added + len(part)]
            logprobs = self._logits(part).float().log_softmax(-1)
            own = logprobs.gather(-1, to_device(tokens, part.device)[:, None]).squeeze(-1)
            self._parts.append((own, *logprobs.topk(self._num_top)))
            self._num_added += len(part)

    def read(self) -> list[TokenLogprob]:
        """Of all tokens but the first, which nothing precedes; waits for the device."""
        if not self._parts:
            return []
        own, top, ids = (torch.cat(parts).tolist() for parts in zip(*self._parts, strict=True))
        return [
            TokenLogprob(token, logprob, tuple(zip(best, logprobs, strict=True)))
            for token, logprob, best, logprobs in zip(self._next, own, ids, top, strict=True)
        ]
