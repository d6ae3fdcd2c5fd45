"""Chooses the next token of every row of a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.request import TokenLogprob
from engine.sequence import Sequence

_NUM_CANDIDATES = 256
"""Tokens that are sorted first for top_p; nearly always they hold its mass, else everything is sorted."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    token_id: int
    logprob: TokenLogprob | None


class Sampler:
    """Samples a batch of rows, each with its own parameters and its own stream of random numbers.

    A row's token depends on its logits, its parameters and one number of its own generator: whatever else is in the
    batch, a seeded request gets the same tokens.
    """

    def __init__(self, eos_token_ids: frozenset[int], suppressed_token_ids: frozenset[int] = frozenset()) -> None:
        self._eos_token_ids = eos_token_ids
        self._suppressed_token_ids = sorted(suppressed_token_ids)

    def sample(self, logits: Tensor, sequences: list[Sequence]) -> list[SampledToken]:
        """Choose a token for each row.

        Args:
            logits: `[num_rows, vocab_size]`, float32; changed in place.
            sequences: the sequence of each row.
        """
        raw = {
            row: logits[row].log_softmax(-1)
            for row, sequence in enumerate(sequences)
            if sequence.request.params.logprobs is not None
        }
        if self._suppressed_token_ids:
            logits[:, self._suppressed_token_ids] = -torch.inf
        for row, sequence in enumerate(sequences):
            self._adjust(logits[row], sequence)
        tokens = logits.argmax(-1).tolist()
        for row, sequence in enumerate(sequences):
            if not sequence.request.params.is_greedy:
                tokens[row] = _draw(logits[row], sequence)
        return [
            SampledToken(token, _logprob(raw[row], token, sequences[row]) if row in raw else None)
            for row, token in enumerate(tokens)
        ]

    def _adjust(self, logits: Tensor, sequence: Sequence) -> None:
        """Apply penalties, biases and bans to one row, `[vocab_size]`, in place."""
        params = sequence.request.params
        if params.has_penalties:
            _penalize(logits, sequence)
        if params.logit_bias:
            biases = params.token_bias
            logits[list(biases)] += torch.tensor(list(biases.values()), device=logits.device)
        if sequence.ngram_rule and (banned := sequence.ngram_rule.banned()):
            tokens = list(banned)
            scores = logits[tokens]
            logits[tokens] = -torch.inf
            if logits.max() == -torch.inf:  # nothing else is left to say
                logits[tokens] = scores
        if sequence.num_output_tokens < params.min_tokens:
            logits[list(self._eos_token_ids | params.stop_tokens)] = -torch.inf


def _penalize(logits: Tensor, sequence: Sequence) -> None:
    """Repetition penalty over prompt and output (Keskar et al., 2019); the other two over the output, as OpenAI's."""
    params = sequence.request.params
    if params.repetition_penalty != 1:
        seen = list(set(sequence.tokens))
        scores = logits[seen]
        logits[seen] = torch.where(scores > 0, scores / params.repetition_penalty, scores * params.repetition_penalty)
    counts = Counter(sequence.tokens[sequence.num_prompt_tokens :])
    if counts:
        times = torch.tensor(list(counts.values()), dtype=logits.dtype, device=logits.device)
        logits[list(counts)] -= params.presence_penalty + params.frequency_penalty * times


def _draw(logits: Tensor, sequence: Sequence) -> int:
    """Draw from one row, `[vocab_size]`, by inverting its cumulative distribution at one random number."""
    params = sequence.request.params
    probabilities = (logits / params.temperature).softmax(-1)
    if params.min_p > 0:
        probabilities = probabilities.masked_fill(probabilities < params.min_p * probabilities.max(), 0)
    candidates = None
    if params.top_k > 0 or params.top_p < 1:
        probabilities, candidates = _truncate(probabilities, params.top_k, params.top_p)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    if not cumulative[-1] > 0:  # every token is banned, or the penalties overflowed: nothing to draw from
        return int(logits.nan_to_num().argmax())
    point = sequence.rng.random() * cumulative[-1]
    index = torch.searchsorted(cumulative, point, right=True).clamp(max=len(cumulative) - 1)
    return int(index if candidates is None else candidates[index])


def _truncate(probabilities: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Keep the `top_k` most likely tokens, and of those the fewest whose mass reaches `top_p`.

    Returns:
        Their probabilities, best first, and their ids: `[num_candidates]` each.
    """
    vocab_size = len(probabilities)
    size = min(top_k if top_k > 0 else _NUM_CANDIDATES, vocab_size)
    kept, ids = probabilities.topk(size)
    # top_p is a share of what top_k left, and of everything where there is no top_k.
    mass = kept.sum() if top_k > 0 else probabilities.sum()
    if top_k <= 0 and kept.sum() < top_p * mass:
        kept, ids = probabilities.sort(descending=True)
    before = kept.cumsum(-1) - kept
    inside = before < top_p * mass
    inside[0] = True
    return kept[inside], ids[inside]


def _logprob(logprobs: Tensor, token: int, sequence: Sequence) -> TokenLogprob:
    count = sequence.request.params.logprobs or 0
    values, ids = logprobs.topk(count)
    return TokenLogprob(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
