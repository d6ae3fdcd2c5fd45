"""Chooses the next token of every row of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine import kernels
from engine.device import Copied, to_device
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
    is_new: bool = False
    """Whether it was chosen anew when it was read."""


class Sampled:
    """The next tokens of some rows, which the device may still be choosing."""

    def __init__(
        self, sequences: list[Sequence], tokens: Tensor, drawing: Drawing | None, logprobs: dict[int, Tensor]
    ) -> None:
        """`tokens` are `[num_rows]` int64; some may have to be chosen anew, by `drawing`, when they are read."""
        self.tokens = tokens
        self._sequences, self._drawing, self._logprobs = sequences, drawing, logprobs
        self._copied = Copied(tokens)

    def read(self) -> list[SampledToken]:
        """Wait for the tokens."""
        [tokens] = self._copied.read()
        return [self._read(row, token) for row, token in enumerate(tokens.tolist())]

    def _read(self, row: int, token: int) -> SampledToken:
        is_new = token == _TOO_FEW
        if is_new:
            assert self._drawing is not None
            token = self._drawing.draw_of_all(row)
        sequence = self._sequences[row]
        if sequence.thought_budget and sequence.thought_budget.forced:
            token = sequence.thought_budget.forced[0]
        if sequence.guide:
            token = sequence.guide.choose(token, sequence.num_left)
        logprobs = self._logprobs.get(row)
        return SampledToken(token, None if logprobs is None else _logprob(logprobs, token, sequence), is_new)


class Sampler:
    """Samples a batch of rows, each with its own parameters and its own stream of random numbers.

    A row's token depends on its logits, its parameters and one number of its own generator: whatever else is in the
    batch, a seeded request gets the same tokens. The rows are computed together, and waited for once.
    """

    def __init__(
        self, eos_token_ids: frozenset[int], suppressed_token_ids: frozenset[int], device: torch.device
    ) -> None:
        self._eos_token_ids = eos_token_ids
        self._suppressed = suppressed_token_ids
        self._suppressed_index = to_device(list(suppressed_token_ids), device)

    def sample(self, logits: Tensor, sequences: list[Sequence], masks: Tensor | None = None) -> Sampled:
        """Choose a token for each row.

        Args:
            logits: `[num_rows, vocab_size]`, float32; changed in place.
            sequences: the sequence of each row.
            masks: `[num_guides, num_words]`, a bit for each token that may come, for those sequences that have a guide.
        """
        logprobs = {
            row: logits[row].log_softmax(-1)
            for row, sequence in enumerate(sequences)
            if sequence.request.params.logprobs is not None
        }
        logits.index_fill_(1, self._suppressed_index, -torch.inf)
        for row, sequence in enumerate(sequences):
            self._adjust(logits[row], sequence)
        held = [row for row, sequence in enumerate(sequences) if sequence.guide]
        if kernels.takes(logits):
            how = [_how(sequence, logits.shape[1]) for sequence in sequences]
            return Sampled(sequences, kernels.choose(logits, how, masks, held), None, logprobs)
        if masks is not None:
            _forbid(logits, held, masks)
        tokens, drawing = logits.argmax(-1), None
        if rows := [row for row, sequence in enumerate(sequences) if not sequence.request.params.is_greedy]:
            drawing = Drawing(logits, sequences, rows)
            drawing.put_into(tokens)
        return Sampled(sequences, tokens, drawing, logprobs)

    def _adjust(self, logits: Tensor, sequence: Sequence) -> None:
        """Apply penalties, biases and bans to one row, `[vocab_size]`, in place."""
        params = sequence.request.params
        if sequence.penalties:
            sequence.penalties.apply(logits, sequence.tokens)
        if params.logit_bias:
            tokens = to_device(list(params.token_bias), logits.device)
            logits[tokens] += to_device(list(params.token_bias.values()), logits.device, logits.dtype)
        if sequence.ngram_rule:
            banned = sequence.ngram_rule.banned()
            if len(banned | self._suppressed) < len(logits):  # else nothing is left to say
                logits.index_fill_(0, to_device(list(banned), logits.device), -torch.inf)
        if sequence.num_output_tokens < params.min_tokens:
            ends = to_device(list(self._eos_token_ids | params.stop_tokens), logits.device)
            logits.index_fill_(0, ends, -torch.inf)


def _how(sequence: Sequence, vocab_size: int) -> tuple[float, int, float, float, float]:
    """What `kernels.choose` wants to know."""
    params = sequence.request.params
    if params.is_greedy:
        return 0.0, 0, 1.0, 0.0, 0.0
    top_k = params.top_k if params.top_k > 0 else vocab_size
    return params.temperature, top_k, params.top_p, params.min_p, sequence.draw()


def _forbid(logits: Tensor, rows: list[int], masks: Tensor) -> None:
    """Rule out, in some rows, what has no bit in `[len(rows), num_words]`."""
    for row, may_come in zip(rows, unpacked(masks.to(logits.device), logits.shape[1]), strict=True):
        logits[row].masked_fill_(~may_come, -torch.inf)


def unpacked(masks: Tensor, size: int) -> Tensor:
    """`[num_rows, num_words]`, int32, as `[num_rows, size]`, bool: the lowest bit comes first."""
    bits = torch.arange(32, device=masks.device, dtype=masks.dtype)
    return (masks[:, :, None] >> bits & 1).bool().flatten(1)[:, :size]


class Drawing:
    """Draws for those rows of the adjusted logits that are not greedy, where the compiled loops can't."""

    def __init__(self, logits: Tensor, sequences: list[Sequence], rows: list[int]) -> None:
        self._rows = rows
        self._params = [sequences[row].request.params for row in rows]
        points = [sequences[row].draw() for row in rows]
        self._points = to_device(points, logits.device, torch.float64)
        self._index = to_device(rows, logits.device)
        chosen = logits if len(rows) == len(sequences) else logits[self._index]
        self._probabilities = _probabilities(chosen, self._params)

    def put_into(self, tokens: Tensor) -> None:
        """Replace what is drawn in `[num_rows]`, where there is anything to draw; `_TOO_FEW` where it takes longer."""
        drawn = _draw(self._probabilities, self._params, self._points, _NUM_CANDIDATES)
        tokens[self._index] = torch.where(drawn == _NOTHING, tokens[self._index], drawn)

    def draw_of_all(self, row: int) -> int:
        """The token of one row, with all of the vocabulary sorted."""
        i = self._rows.index(row)
        one = slice(i, i + 1)
        probabilities = self._probabilities[one]
        token = int(_draw(probabilities, self._params[one], self._points[one], probabilities.shape[-1]))
        return int(probabilities.argmax()) if token == _NOTHING else token


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
    rows = to_device(cut, points.device)
    tokens = _invert(probabilities, points)
    tokens[rows] = _draw_best(probabilities[rows], [params[row] for row in cut], points[rows], num_candidates)
    return tokens


def _draw_best(probabilities: Tensor, params: list[SamplingParams], points: Tensor, num_candidates: int) -> Tensor:
    """As `_draw`, of the `top_k` most likely tokens, and of those the fewest whose mass reaches `top_p`."""
    vocab_size = probabilities.shape[-1]
    kept, ids = probabilities.topk(min(num_candidates, vocab_size))
    size = kept.shape[-1]
    top_k = _column(
        [min(given.top_k, vocab_size) if given.top_k > 0 else vocab_size for given in params], probabilities
    )
    top_p = _column([given.top_p for given in params], probabilities)
    kept.masked_fill_(torch.arange(size, device=kept.device) >= top_k, 0)
    # top_p is a share of what top_k left, and of everything where there is no top_k.
    mass = torch.where(top_k < vocab_size, kept.sum(-1, keepdim=True), probabilities.sum(-1, keepdim=True))
    before = kept.cumsum(-1) - kept
    is_outside = before >= top_p * mass
    is_outside[:, 0] = False
    # More than are sorted may be wanted; with a top_k, what they hold together is not even known.
    is_short = ((top_k > size) & (~is_outside[:, -1:] | (top_k < vocab_size))).squeeze(-1)
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
    return to_device(values, like.device, like.dtype)[:, None]


def _logprob(logprobs: Tensor, token: int, sequence: Sequence) -> TokenLogprob:
    count = sequence.request.params.logprobs or 0
    values, ids = logprobs.topk(count)
    return TokenLogprob(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))
