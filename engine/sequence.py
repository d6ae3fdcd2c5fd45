"""One choice of a request: its tokens, and how far they are computed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.cache import BLOCK_SIZE
from engine.detokenizer import TextStream
from engine.prefix_cache import block_keys
from engine.repetition import LoopDetector, NgramRule
from engine.request import Request

if TYPE_CHECKING:
    from engine.chat.answer import AnswerParser
    from engine.chat.thought_budget import ThoughtBudget
    from engine.embedding import HiddenMean
    from engine.guidance import Guide
    from engine.penalties import Penalties
    from engine.prompt_logprobs import PromptLogprobs


UNREAD = -1
"""Stands for a token that is on the device alone."""


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens of prompt and output. Those below `num_computed` have their keys and values in the cache.

    A token that the device has chosen and nobody has read yet is `UNREAD`.
    """

    request: Request
    choice: int
    text: TextStream
    max_tokens: int
    ngram_rule: NgramRule | None = None
    loop_detector: LoopDetector | None = None
    penalties: Penalties | None = None
    guide: Guide | None = None
    thought_budget: ThoughtBudget | None = None
    parser: AnswerParser | None = None
    hidden_mean: HiddenMean | None = None
    """Where its prompt is embedded."""
    prompt_logprobs: PromptLogprobs | None = None
    """Where its prompt's log-probabilities are asked for, until they are said."""
    shares_prefix: bool = True
    """Whether what is computed for it may serve others, and the other way round."""
    tokens: list[int] = field(init=False)
    keys: list[bytes] = field(init=False)
    """Of the prompt's full blocks, by which others find them; none where they are not shared."""
    num_computed: int = 0
    cache_start: int | None = None
    """First position of its extent in the cache; None while it has none."""
    _rng: random.Random = field(init=False)
    _drawn: tuple[int, float] = field(init=False, default=(-1, 0.0))

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt.tokens)
        self.keys = block_keys(self.tokens) if self.shares_prefix else []
        seed = self.request.params.seed
        # Each choice of a seeded request has a stream of numbers of its own, and the same one every time.
        self._rng = random.Random(None if seed is None else f"{seed}/{self.choice}")

    @property
    def num_prompt_tokens(self) -> int:
        return self.request.num_prompt_tokens

    @property
    def num_output_tokens(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def num_left(self) -> int:
        """Tokens that may still follow."""
        return self.max_tokens - self.num_output_tokens

    @property
    def num_uncomputed(self) -> int:
        return len(self.tokens) - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Whether all of its prompt is computed."""
        return self.num_computed >= self.num_prompt_tokens

    @property
    def is_sampled(self) -> bool:
        """Whether tokens follow its prompt."""
        return self.max_tokens > 0

    @property
    def is_full(self) -> bool:
        """Whether nothing is left to compute: its last token is chosen, read or not, or none follows its prompt."""
        return self.num_uncomputed == 0 or (self.is_sampled and self.num_output_tokens >= self.max_tokens)

    @property
    def needs_tokens(self) -> bool:
        """Whether choosing its next token takes all that it said before, or more than the token is asked for."""
        if self.penalties or self.ngram_rule or self.guide or self.request.params.logprobs is not None:
            return True
        return self.thought_budget is not None and bool(self.thought_budget.forced)

    @property
    def forced_token(self) -> int | None:
        """The next one, where only one may come and nobody asks how likely it is."""
        budget = self.thought_budget
        if self.guide is None or self.request.params.logprobs is not None or (budget and budget.forced):
            return None
        return self.guide.next_token

    def draw(self) -> float:
        """The random number that chooses the next token: the same one, however often that is tried."""
        if self._drawn[0] != self.num_output_tokens:
            self._drawn = self.num_output_tokens, self._rng.random()
        return self._drawn[1]

    def computed_keys(self) -> list[bytes]:
        """Of all full blocks that are computed, the output's too; none where they are not shared."""
        if not self.shares_prefix:
            return []
        end = self.num_computed // BLOCK_SIZE
        begin = min(len(self.keys), end)
        before = self.keys[begin - 1] if begin else b""
        return self.keys[:begin] + block_keys(self.tokens[begin * BLOCK_SIZE : end * BLOCK_SIZE], before)

    @property
    def max_length(self) -> int:
        """Tokens it can come to at most: what the cache must hold for it."""
        return self.num_prompt_tokens + self.max_tokens
