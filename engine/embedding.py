"""A prompt's embedding: what the decoder comes to for its tokens, averaged, of length 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.device import Copied

Embedding = NDArray[np.float32]


@dataclass(slots=True)
class HiddenMean:
    """Adds up final hidden states as they are computed, in float32 on their device."""

    num_tokens: int = 0
    _sum: Tensor | None = None
    _copied: Copied | None = None

    def add(self, hidden: Tensor) -> None:
        """Take in the next tokens': `[num_tokens, hidden_size]`, after the final norm."""
        total = hidden.float().sum(0)
        self._sum = total if self._sum is None else self._sum + total
        self._copied = Copied(self._sum)
        self.num_tokens += len(hidden)

    def read(self) -> Embedding:
        """The normalised mean, `[hidden_size]`; waits for the last tokens that were added."""
        assert self._copied is not None
        [total] = self._copied.read()
        mean = total / self.num_tokens
        embedding: Embedding = (mean / mean.norm().clamp(min=1e-12)).numpy()
        return embedding
