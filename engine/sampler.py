"""Chooses the next token of every row of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.request import TokenLogprob
from engine.sampling_params import SamplingParams
from engine.sequence import Sequence

_NUM_CANDIDATES = 256
"""Most likely tokens among which `top_k` and `top_p` choose; where they are too few, the whole row is sorted."""
_NOTHING, _TOO_FEW = -1, -2
"""Instead of a token that was drawn."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    token_id: int
    logprob: TokenLogprob | None


class Sampler:
    """Samples a batch of rows, each with its own parameters and its own stream of random numbers.

    A row's token depends on its logits, its parameters and one number of its own generator: whatever else is in the
    batch, a seeded request gets the same tokens. The rows are computed together, and waited for once.
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
        tokens = _choose(logits, sequences)
        return [
            SampledToken(token, _logprob(raw[row], token, sequences[row]) if row in raw else None)
            for row, token in enumerate(tokens)
        ]

    def _adjust(self, logits: Tensor, sequence: Sequence) -> None:
        """Apply penalties, biases and bans to one row, `[vocab_size]`, in place."""
        params = sequence.request.params
        if sequence.penalties:
            sequence.penalties.apply(logits, sequence.tokens)
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


def _choose(logits: Tensor, sequences: list[Sequence]) -> list[int]:
    """A token for each row of the adjusted logits: the best one, or one that is drawn."""
    best = logits.argmax(-1)
    rows = [row for row, sequence in enumerate(sequences) if not sequence.request.params.is_greedy]
    if not rows:
        greedy: list[int] = best.tolist()
        return greedy
    params = [sequences[row].request.params for row in rows]
    points = torch.tensor([sequences[row].rng.random() for row in rows], dtype=torch.float64, device=logits.device)
    probabilities = _probabilities(logits if len(rows) == len(sequences) else logits[rows], params)
    drawn = _draw(probabilities, params, points, _NUM_CANDIDATES)
    tokens: list[int] = torch.cat((best, drawn)).tolist()  # the one wait for the device
    tokens, drawn_tokens = tokens[: len(sequences)], tokens[len(sequences) :]
    for i, (row, token) in enumerate(zip(rows, drawn_tokens, strict=True)):
        if token == _TOO_FEW:
            token = int(_draw(probabilities[i : i + 1], params[i : i + 1], points[i : i + 1], logits.shape[-1]))
        if token != _NOTHING:
            tokens[row] = token
    return tokens


def _probabilities(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    """`[num_rows, vocab_size]`, 0 for what `min_p` rules out."""
    probabilities = (logits / _column([given.temperature for given in params], logits)).softmax(-1)
    if any(given.min_p > 0 for given in params):
        floor = _column([given.min_p for given in params], logits) * probabilities.amax(-1, keepdim=True)
        probabilities.masked_fill_(probabilities < floor, 0)
    return probabilities


def _draw(probabilities: Tensor, params: list[SamplingParams], points: Tensor, num_candidates: int) -> Tensor:
    """A token of each row, or `_NOTHING` where there is none to draw, or `_TOO_FEW` where more have to be sorted."""
    cut = [row for row, given in enumerate(params) if given.top_k > 0 or given.top_p < 1]
    if not cut:
        return _invert(probabilities, points)
    tokens = torch.empty(len(params), dtype=torch.long, device=points.device)
    if whole := [row for row in range(len(params)) if row not in cut]:
        tokens[whole] = _invert(probabilities[whole], points[whole])
    tokens[cut] = _draw_best(probabilities[cut], [params[row] for row in cut], points[cut], num_candidates)
    return tokens


def _draw_best(probabilities: Tensor, params: list[SamplingParams], points: Tensor, num_candidates: int) -> Tensor:
    """As `_draw`, of the `top_k` most likely tokens, and of those the fewest whose mass reaches `top_p`."""
    vocab_size = probabilities.shape[-1]
    kept, ids = probabilities.topk(min(num_candidates, vocab_size))
    size = kept.shape[-1]
    top_k = _column([given.top_k if given.top_k > 0 else vocab_size for given in params], probabilities)
    top_p = _column([given.top_p for given in params], probabilities)
    kept.masked_fill_(torch.arange(size, device=kept.device) >= top_k, 0)
    # top_p is a share of what top_k left, and of everything where there is no top_k.
    mass = torch.where(top_k < vocab_size, kept.sum(-1, keepdim=True), probabilities.sum(-1, keepdim=True))
    before = kept.cumsum(-1) - kept
    is_outside = before >= top_p * mass
    is_outside[:, 0] = False
    is_short = ((top_k > size) & ~is_outside[:, -1:]).squeeze(-1)
    index = _invert(kept.masked_fill(is_outside, 0), points)
    tokens = torch.where(index == _NOTHING, index, ids.gather(-1, index.clamp(min=0)[:, None]).squeeze(-1))
    return tokens.masked_fill(is_short, _TOO_FEW) if size < vocab_size else tokens


def _invert(probabilities: Tensor, points: Tensor) -> Tensor:
    """Where the cumulative distribution of each row reaches its point; `_NOTHING` where all of it is 0 or NaN."""
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    index = torch.searchsorted(cumulative, points[:, None] * total, right=True).clamp_(max=probabilities.shape[-1] - 1)
    return torch.where(total > 0, index, _NOTHING).squeeze(-1)


def _column(values: list[float] | list[int], like: Tensor) -> Tensor:
    """`[num_rows, 1]`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _logprob(logprobs: Tensor, token: int, sequence: Sequence) -> TokenLogprob:
    count = sequence.request.params.logprobs or 0
    values, ids = logprobs.topk(count)
    return TokenLogprob(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
