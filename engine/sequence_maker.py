"""From a request to its sequences: one for each choice, with what watches over its tokens."""

from __future__ import annotations

from typing import Any

from engine.chat.answer import AnswerParser
from engine.config import EngineConfig
from engine.detokenizer import TextStream, TokenBytes, make_detokenizer
from engine.embedding import HiddenMean
from engine.penalties import Penalties
from engine.repetition import LoopDetector, NgramRule
from engine.request import Request
from engine.sampling_params import SamplingParams
from engine.sequence import Sequence


class SequenceMaker:
    """Makes the sequences of requests, by the engine's settings."""

    def __init__(self, tokenizer: Any, config: EngineConfig, max_context: int) -> None:
        """`tokenizer` is one of the library tokenizers'."""
        self._tokenizer = tokenizer
        self.token_bytes = TokenBytes(tokenizer)
        self._config = config
        self._max_context = max_context

    def __call__(self, request: Request) -> list[Sequence]:
        params = request.params
        room = self._max_context - request.num_prompt_tokens
        max_tokens = max(params.max_tokens or min(self._config.default_max_tokens, room), params.min_tokens)
        if request.prompt.is_embedded:
            max_tokens = 1  # none is sampled
        answer_format = request.prompt.answer_format
        # What marks thoughts and calls is special to some tokenizers.
        skips_special_tokens = params.skip_special_tokens and not answer_format
        return [
            Sequence(
                request,
                choice,
                TextStream(make_detokenizer(self._tokenizer, self.token_bytes, skips_special_tokens), params.stop),
                max_tokens,
                self._ngram_rule(params),
                self._loop_detector(params),
                Penalties(params, request.num_prompt_tokens) if params.has_penalties else None,
                request.guide and request.guide.copy(),
                AnswerParser(answer_format) if answer_format else None,
                HiddenMean() if request.prompt.is_embedded else None,
                # Tokens that stand for an image do not say which one, and the cache has no hidden states.
                shares_prefix=self._config.prefix_cache and not (request.prompt.images or request.prompt.is_embedded),
            )
            for choice in range(params.n)
        ]

    def _ngram_rule(self, params: SamplingParams) -> NgramRule | None:
        if params.no_repeat_ngram_size == 0:
            return None
        find = self._tokenizer.token_to_id
        # What is no token of this model can't come, and needs no leave to.
        tokens = (find(token) if isinstance(token, str) else token for token in params.no_repeat_ngram_whitelist)
        whitelist = frozenset(token for token in tokens if token is not None)
        return NgramRule(params.no_repeat_ngram_size, params.no_repeat_ngram_window, whitelist)

    def _loop_detector(self, params: SamplingParams) -> LoopDetector | None:
        given = params.max_repetition_tokens
        max_tokens = self._config.max_repetition_tokens if given is None and not params.guided else given
        return LoopDetector(max_tokens) if max_tokens else None
