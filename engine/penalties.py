"""What speaks against tokens that were said before."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.sampling_params import SamplingParams


class Penalties:
    """Repetition penalty over prompt and output (Keskar et al., 2019); the other two over the output, as OpenAI's.

    Tokens are counted as they come: what a step costs does not grow with the output.
    """

    def __init__(self, params: SamplingParams, num_prompt_tokens: int) -> None:
        self._params = params
        self._num_prompt_tokens = num_prompt_tokens
        self._num_seen = 0
        self._is_seen = torch.empty(0, dtype=torch.bool)  # [vocab_size], in prompt or output
        self._counts = torch.empty(0)  # [vocab_size], in the output

    def apply(self, logits: Tensor, tokens: list[int]) -> None:
        """Change one row, `[vocab_size]`, in place; `tokens` are those of prompt and output."""
        self._count(tokens, logits)
        penalty = self._params.repetition_penalty
        if penalty != 1:
            logits.copy_(
                torch.where(self._is_seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
            )
        logits -= self._params.presence_penalty * (self._counts > 0) + self._params.frequency_penalty * self._counts

    def _count(self, tokens: list[int], logits: Tensor) -> None:
        if self._num_seen == 0:
            self._is_seen = torch.zeros_like(logits, dtype=torch.bool)
            self._counts = torch.zeros_like(logits)
        new = torch.tensor(tokens[self._num_seen :], device=logits.device)
        said = new[max(0, self._num_prompt_tokens - self._num_seen) :]
        self._is_seen[new] = True
        self._counts.index_add_(0, said, torch.ones_like(said, dtype=logits.dtype))
        self._num_seen = len(tokens)
