"""One choice of a request: its tokens, and how far they are computed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from engine.detokenizer import TextStream
from engine.repetition import LoopDetector, NgramRule
from engine.request import Request


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens of prompt and output. Those below `num_computed` have their keys and values in the cache."""

    request: Request
    choice: int
    text: TextStream
    max_tokens: int
    ngram_rule: NgramRule | None = None
    loop_detector: LoopDetector | None = None
    tokens: list[int] = field(init=False)
    num_computed: int = 0
    cache_start: int | None = None
    """First position of its extent in the cache; None while it has none."""
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt.tokens)
        seed = self.request.params.seed
        # Each choice of a seeded request has a stream of numbers of its own, and the same one every time.
        self.rng = random.Random(None if seed is None else f"{seed}/{self.choice}")

    @property
    def num_prompt_tokens(self) -> int:
        return self.request.num_prompt_tokens

    @property
    def num_output_tokens(self) -> int:
        return len(self.tokens) - self.num_prompt_tokens

    @property
    def num_uncomputed(self) -> int:
        return len(self.tokens) - self.num_computed

    @property
    def max_length(self) -> int:
        """Tokens it can come to at most: what the cache must hold for it."""
        return self.num_prompt_tokens + self.max_tokens
