"""Holds answers to a form: a JSON schema, a regular expression, a grammar, or one of some texts.

Before each token, llguidance says which ones may come (https://github.com/guidance-ai/llguidance).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, grammar_from
from llguidance.hf import from_tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from engine.chat.answer import END_OF_THOUGHT, THINK, AnswerFormat
from engine.chat.grammar import chat_grammar
from engine.chat.schemas import Function
from engine.chat.tool_syntax import schema_of
from engine.endings import EndingFinder
from engine.errors import EngineError, InvalidRequest
from engine.sampling_params import SamplingParams

_MAX_GRAMMAR = 1 << 16
"""Characters, of all tools and the form together."""
_FAR = 256
"""Tokens from which on an end is taken to be in reach where none is found."""
_NUM_BETWEEN = 16
"""Tokens until an ending is looked for again where none was found."""
_NUM_KEPT = 16
"""Forms that stay ready: many requests have one of few."""
_MAX_SHOWN = 300
"""Characters of a library's error."""
_LIMITS = LLParserLimits(max_lexer_states=20_000, verbose_errors=False)
"""One request shall not take the others' time and memory: a state takes 1 to 2 kB."""
_JSON = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""Without choices of white space, which has no end."""


class Guidance:
    """What answers of one checkpoint can be held to, and the masks of a step."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        self._num_tokens = max(vocab_size, len(tokenizer))
        self._eos_token_id = min(eos_token_ids, default=0)
        self._tokenizer: LLTokenizer = from_tokenizer(tokenizer, self._num_tokens, sorted(eos_token_ids) or None)
        self._ready = lru_cache(_NUM_KEPT)(self._make_ready)
        self._endings = EndingFinder(tokenizer, self._tokenizer, vocab_size)
        self._think: list[int] = tokenizer.encode(THINK, add_special_tokens=False)
        self._end_of_thought: list[int] = tokenizer.encode(END_OF_THOUGHT, add_special_tokens=False)
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder().items()
        self._added_tokens = {token.content: f"<[{i}]>" for i, token in added if i < vocab_size}

    def guide(self, params: SamplingParams, answer_format: AnswerFormat | None = None) -> Guide | None:
        """What a request's answers are held to; None where they are free. It takes milliseconds to make.

        Raises:
            InvalidRequest: names the field whose form is not understood, or can't be held to.
        """
        holds_calls = answer_format is not None and answer_format.holds_calls
        if params.guided is None and not holds_calls:
            return None
        field, form = params.guided or ("tools", None)
        try:
            grammar = None if params.guided is None else _grammar(field, form)
        except ValueError as error:
            raise _cannot(field, str(error)) from error
        if answer_format:
            grammar = chat_grammar(answer_format, grammar, _of_schema, self._added_tokens)
        assert grammar is not None
        thinking = answer_format and answer_format.thinking
        end_of_thought = self._end_of_thought if thinking else []
        think = self._think if thinking == "possible" else []
        try:
            matcher = self._matcher(field, grammar)
        except InvalidRequest:
            if answer_format:
                self._blame_function(answer_format.functions)
            raise
        return Guide(field, matcher, self._endings, self._eos_token_id, end_of_thought, think)

    def _blame_function(self, functions: Sequence[Function]) -> None:
        """Say which function it is whose arguments can't be held to their schema, if it is one."""
        for function in functions:
            try:
                self._matcher("tools", _of_schema(schema_of(function)))
            except InvalidRequest as error:
                raise InvalidRequest("tools", f"{function.name}: {error.sentence}") from error

    def _matcher(self, field: str, grammar: str) -> LLMatcher:
        if len(grammar) > _MAX_GRAMMAR:
            raise InvalidRequest(field, f"it is longer than {_MAX_GRAMMAR} characters")
        try:
            return self._ready(grammar).deep_copy()
        except ValueError as error:
            raise _cannot(field, str(error)) from None

    def _make_ready(self, grammar: str) -> LLMatcher:
        """Raises `ValueError`, which no place is kept for."""
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        matcher.compute_bitmask()  # the first one takes longest, and shall not hold up the loop
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def masks(self, guides: Sequence[Guide | None]) -> Tensor | None:
        """`[num_guides, num_words]`, int32, a bit for each token that may come; None where no guide is.

        In the caller's thread: one takes microseconds, less than what two threads wait for each other.
        """
        present = [guide for guide in guides if guide]
        if not present:
            return None
        masks = np.empty((len(present), (self._num_tokens + 31) // 32), np.int32)
        address, size_bytes = masks.ctypes.data, masks.strides[0]
        for row, guide in enumerate(present):
            if (token := guide.next_token) is None:
                guide.matcher.unsafe_compute_mask_ptr(address + row * size_bytes, size_bytes)
            else:
                masks[row] = 0
                masks.view(np.uint32)[row, token // 32] = 1 << token % 32
        return torch.from_numpy(masks)


def _cannot(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(field, f"answers can't be held to it: {' '.join(reason.split())[:_MAX_SHOWN]}")


def _of_schema(schema: Any) -> str:
    return LLMatcher.grammar_from_json_schema(schema, defaults=_JSON)  # type: ignore[arg-type]


def _grammar(field: str, form: Any) -> str:
    match field:
        case "guided_json":
            return _of_schema({} if form is True else form)
        case "guided_json_object":
            return _of_schema({"type": "object"})
        case "guided_regex":
            return grammar_from("regex", form)
        case "guided_choice":
            return grammar_from("choice", json.dumps(form))
        case _:
            if form.lstrip().startswith("{"):
                raise ValueError("it is neither in Lark's notation nor in llama.cpp's")
            return grammar_from("grammar", form)


class Guide:
    """Follows one answer: knows what may come next, and brings the answer to an end in time."""

    def __init__(
        self,
        field: str,
        matcher: LLMatcher,
        endings: EndingFinder,
        eos_token_id: int,
        end_of_thought: Sequence[int] = (),
        think: Sequence[int] = (),
    ) -> None:
        """`field`: what says which form it is.

        `end_of_thought` and `think`: tokens that end what answers may begin with, and that begin it where it is not
        begun already.
        """
        self._field, self._matcher, self._beginning = field, matcher, matcher
        self._endings, self._eos_token_id = endings, eos_token_id
        self._end_of_thought, self._think = end_of_thought, list(think)
        self._ending = endings.find(matcher, end_of_thought)
        """Tokens that end the answer from here; None where they are not known."""
        self.num_shortest = None if self._ending is None else len(self._ending)
        """Tokens of a shortest answer, as far as is known."""
        self.is_cut = False
        """Whether the answer was brought to an end."""
        self._forced: list[int] = matcher.compute_ff_tokens()
        """Tokens that must come next, as far as is known."""
        self._num_taken = self._next_search = 0
        """Tokens so far; those before which no ending is looked for."""

    def copy(self) -> Guide:
        """The same for another answer, before its first token."""
        other = copy(self)
        other._matcher = self._matcher.deep_copy()
        return other

    @property
    def is_done(self) -> bool:
        """Whether nothing more may come, or shall."""
        return self._matcher.is_stopped() or (self.is_cut and self._matcher.is_accepting())

    @property
    def is_whole(self) -> bool:
        """Whether the answer, as far as it goes, is of the form."""
        return self._matcher.is_accepting()

    @property
    def error(self) -> EngineError | None:
        """Why the answer can be held to its form no longer: following it takes more than it may."""
        return _cannot(self._field, self._matcher.get_error()) if self._matcher.is_error() else None

    @property
    def next_token(self) -> int | None:
        """The one that must come, or shall: a mask of one takes longest. None where others may, as far as is known."""
        if self.is_cut:
            return self._ending[0] if self._ending else self._eos_token_id
        return self._forced[0] if self._forced else None

    @property
    def matcher(self) -> LLMatcher:
        """What says which tokens may come next."""
        return self._matcher

    def choose(self, token: int, num_left: int) -> int:
        """Take up the next token, behind which `num_left` may follow: another one where they would hold no end."""
        self._num_taken += 1
        before = self._ending
        if not self._matcher.consume_token(token):
            return token
        self._ending = before[1:] if before and before[0] == token else self._find_ending()
        if self._forced[:1] == [token]:
            self._forced = self._forced[1:]
        elif not self.is_cut and self._ending != before:  # most tokens are a text's, and nothing must come behind them
            self._forced = self._matcher.compute_ff_tokens()
        else:
            self._forced = []
        is_too_late = before is None or len(before) > num_left + 1
        is_in_reach = num_left >= (_FAR if self._ending is None else len(self._ending))
        if is_too_late or is_in_reach:
            return token
        assert before is not None
        self._matcher.rollback(1)
        self.is_cut = True
        first, *self._ending = before or [self._eos_token_id]
        self._matcher.consume_token(first)
        return first

    def allow(self, tokens: list[int]) -> None:
        """Let tokens come next that end a thought, also in the middle of a character."""
        if self._matcher.validate_tokens(tokens) < len(tokens):
            self._matcher = self._beginning.deep_copy()
            self._matcher.consume_tokens(self._think)
            self._forced = []
            self._ending = self._endings.find(self._matcher, self._end_of_thought)

    def _find_ending(self) -> list[int] | None:
        """A short way to the end from here; most often it is the one from before, or a part of it that is left."""
        if self._matcher.is_stopped():
            return []
        whole = [] if self._ending is None else [*self._ending, self._eos_token_id]
        for start in range(len(whole)):
            left = whole[start:]
            if self._matcher.validate_tokens(left) == len(left):
                return left[:-1]
        if self._num_taken < self._next_search:
            return None
        found = self._endings.find(self._matcher, self._end_of_thought)
        if found is None:  # which took long, and will again
            self._next_search = self._num_taken + _NUM_BETWEEN
        return found
