"""What the runner asks of a model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from engine.attention import CacheShape, StepAttention


class Decoder(Protocol):
    """A decoder over one step's flat tokens, whichever sequences they belong to."""

    cache_shape: CacheShape
    waits: bool
    """Whether it looks at numbers of a step before it goes on, so that the step cannot be recorded on a GPU."""

    def embed(self, token_ids: Tensor) -> Tensor:
        """`[num_tokens]` to `[num_tokens, hidden_size]`."""

    def forward(
        self, embeddings: Tensor, positions: Tensor, attention: StepAttention, rows: Tensor | None = None
    ) -> Tensor:
        """`[num_tokens, hidden_size]` at `positions [num_tokens]` to final hidden states, of all or of these `rows`."""

    def logits(self, hidden: Tensor) -> Tensor:
        """`[num_rows, hidden_size]` to `[num_rows, vocab_size]`."""
