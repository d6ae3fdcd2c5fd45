"""From a request to its sequences: one for each choice, with what watches over its tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from engine.chat.answer import END_OF_THOUGHT, AnswerParser, ThoughtReader
from engine.chat.thought_budget import ThoughtBudget
from engine.config import EngineConfig
from engine.detokenizer import Detokenizer, TextStream, TokenBytes, make_detokenizer
from engine.embedding import HiddenMean
from engine.penalties import Penalties
from engine.prompt_logprobs import PromptLogprobs
from engine.repetition import LoopDetector, NgramRule
from engine.request import Request
from engine.sampling_params import SamplingParams
from engine.sequence import Sequence


class SequenceMaker:
    """Makes the sequences of requests, by the engine's settings."""

    def __init__(
        self, tokenizer: Any, config: EngineConfig, max_context: int, logits: Callable[[Tensor], Tensor]
    ) -> None:
        """`tokenizer` is one of the library tokenizers', `logits` the decoder's."""
        self._tokenizer = tokenizer
        self.token_bytes = TokenBytes(tokenizer)
        self._config = config
        self._max_context = max_context
        self._logits = logits
        self._end_of_thought: list[int] = tokenizer.encode(END_OF_THOUGHT, add_special_tokens=False).ids

    def __call__(self, request: Request) -> list[Sequence]:
        params, answer_format = request.params, request.prompt.answer_format
        max_tokens = self.max_tokens(request)
        return [
            Sequence(
                request,
                choice,
                text=TextStream(self._detokenizer(request), params.stop),
                max_tokens=max_tokens,
                ngram_rule=self._ngram_rule(params),
                loop_detector=self._loop_detector(request),
                penalties=Penalties(params, request.num_prompt_tokens) if params.has_penalties else None,
                guide=request.guide and request.guide.copy(),
                thought_budget=self._thought_budget(request),
                parser=AnswerParser(answer_format) if answer_format else None,
                hidden_mean=HiddenMean() if request.prompt.is_embedded else None,
                # They are the prompt's: one choice says them for all.
                prompt_logprobs=self._prompt_logprobs(request) if choice == 0 else None,
                # Tokens that stand for an image do not say which one, and the cache has no hidden states.
                shares_prefix=self._config.prefix_cache and not (request.prompt.images or request.prompt.is_embedded),
            )
            for choice in range(params.n)
        ]

    def _detokenizer(self, request: Request) -> Detokenizer:
        answer_format = request.prompt.answer_format
        # What marks thoughts and calls is special to some tokenizers.
        marks = map(self._tokenizer.token_to_id, answer_format.marks if answer_format else ())
        kept = frozenset(token for token in marks if token is not None)
        return make_detokenizer(self._tokenizer, self.token_bytes, request.params.skip_special_tokens, kept)

    def _thought_budget(self, request: Request) -> ThoughtBudget | None:
        num_tokens, answer_format = request.params.max_thought_tokens, request.prompt.answer_format
        if num_tokens is None or answer_format is None or answer_format.thinking is None:
            return None
        reader = ThoughtReader(answer_format.thinking == "begun")
        return ThoughtBudget(num_tokens, self._end_of_thought, reader, self._detokenizer(request))

    def _ngram_rule(self, params: SamplingParams) -> NgramRule | None:
        if params.no_repeat_ngram_size == 0:
            return None
        find = self._tokenizer.token_to_id
        # What is no token of this model can't come, and needs no leave to.
        tokens = (find(token) if isinstance(token, str) else token for token in params.no_repeat_ngram_whitelist)
        whitelist = frozenset(token for token in tokens if token is not None)
        return NgramRule(params.no_repeat_ngram_size, params.no_repeat_ngram_window, whitelist)

    def max_tokens(self, request: Request) -> int:
        """Most tokens of each of its choices."""
        if request.prompt.is_embedded:
            return 0
        room, params = self._max_context - request.num_prompt_tokens, request.params
        if params.max_tokens is not None:
            return params.max_tokens
        return max(min(self._config.default_max_tokens, room), params.min_tokens)

    def _prompt_logprobs(self, request: Request) -> PromptLogprobs | None:
        num_top = request.params.prompt_logprobs
        return None if num_top is None else PromptLogprobs(request.prompt.tokens, num_top, self._logits)

    def _loop_detector(self, request: Request) -> LoopDetector | None:
        given = request.params.max_repetition_tokens
        max_tokens = self._config.max_repetition_tokens if given is None and not request.guide else given
        return LoopDetector(max_tokens) if max_tokens else None
