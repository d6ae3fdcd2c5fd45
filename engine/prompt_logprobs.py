"""Log probabilities of a prompt's own tokens, each beside the likeliest in its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from engine.device import Copied, to_device
from engine.request import TokenLogprob

_MAX_ROWS = 64
"""Tokens whose logits are there at once: 64 of 100,000 in float32 are 25 MB, and more are hardly faster."""


_MAX_ENTRIES = 1024
"""Log probabilities in a part: to write and to read so many takes 10 ms, in which others' responses wait."""


class PromptLogprobs:
    """Says what each token made of the next one, as they are computed, chunk by chunk."""

    def __init__(self, tokens: list[int], num_top: int, logits: Callable[[Tensor], Tensor]) -> None:
        """`logits` takes final hidden states, `[num_rows, hidden_size]`, to `[num_rows, vocab_size]`."""
        self._tokens = tokens
        self._num_top = num_top
        self._logits = logits
        self._num_added = 1  # nothing precedes the first
        self._num_read = 0
        self._unread: deque[Copied] = deque()

    @property
    def is_read(self) -> bool:
        """Whether all tokens are."""
        return self._num_read == len(self._tokens)

    def num_wanted(self, start: int, end: int) -> int:
        """Of the tokens `start … end`, those in front that have a next one in the prompt."""
        return max(0, min(end, len(self._tokens) - 1) - start)

    def add(self, hidden: Tensor) -> None:
        """Take in what a chunk's tokens came to: `[num_tokens, hidden_size]`, after the final norm."""
        pieces = [self._piece(hidden[start : start + _MAX_ROWS]) for start in range(0, len(hidden), _MAX_ROWS)]
        self._unread.append(Copied(*map(torch.cat, zip(*pieces, strict=True))))

    def read(self) -> Iterator[list[TokenLogprob]]:
        """Of the tokens that the first unread chunk leads to, in parts; waits for that chunk, and for nothing later."""
        said = [] if self._num_read else [TokenLogprob(self._tokens[0], None, ())]
        if self._unread:  # a prompt of one token has no chunk that leads to any
            own, top, ids = (column.tolist() for column in self._unread.popleft().read())
            start = max(1, self._num_read)
            said += [
                TokenLogprob(token, logprob, tuple(zip(best, logprobs, strict=True)))
                for token, logprob, best, logprobs in zip(
                    self._tokens[start : start + len(own)], own, ids, top, strict=True
                )
            ]
        self._num_read += len(said)
        size = max(1, _MAX_ENTRIES // (1 + self._num_top))
        for start in range(0, len(said), size):
            yield said[start : start + size]

    def _piece(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The log probabilities of the next tokens, and the highest with their tokens."""
        tokens = self._tokens[self._num_added : self._num_added + len(hidden)]
        self._num_added += len(hidden)
        logprobs = self._logits(hidden).float().log_softmax(-1)
        own = logprobs.gather(-1, to_device(tokens, hidden.device)[:, None]).squeeze(-1)
        return own, *logprobs.topk(self._num_top)
