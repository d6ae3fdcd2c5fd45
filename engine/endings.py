"""Short ways to the end of an answer that is held to a form, so that it can be whole wherever it is cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

_CLOSERS = ('""', '"', "[]", "{}", "}", "]", ")", ">", "'", ",", ":", "0", "1", "a", "-", " ")
"""What ends an answer soonest, in the order in which it is tried; where none of it may come, the first that may."""
_MOST_CHOICES = 256
"""Of an ending; one that takes more is not looked for. What is forced is no choice."""
_MOST_MASKS = 1024
"""Looked at for a way out of a text that nothing of the above ends, such as one that must match a pattern."""


class EndingFinder:
    """Finds endings in the tokens of one checkpoint."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, bytes_tokenizer: LLTokenizer, vocab_size: int) -> None:
        """Both are of the same tokens; the second one knows no more than their bytes, and is fast."""
        self._tokenizer, self._bytes_tokenizer, self._vocab_size = tokenizer, bytes_tokenizer, vocab_size
        self._closers = [token for text in _CLOSERS for token in self._only_token(text) if token < vocab_size]
        self._openers = [self._only_token(text[0]) for text in _CLOSERS if len(text) > 1]
        """A closer may come in place of these."""
        characters = map(chr, range(32, 127))
        self._characters = [token for text in characters for token in self._only_token(text) if token < vocab_size]

    def find(self, matcher: LLMatcher, end_of_thought: Sequence[int] = ()) -> list[int] | None:
        """Tokens that end an answer from where a matcher is, which stays there; None where none are found.

        `end_of_thought` ends what the answer may begin with, whatever that says.
        """
        ending = self._close(matcher, list(end_of_thought), seeks_a_way=False)
        return self._close(matcher, list(end_of_thought), seeks_a_way=True) if ending is None else ending

    def _close(self, matcher: LLMatcher, end_of_thought: list[int], *, seeks_a_way: bool) -> list[int] | None:
        """`seeks_a_way`: where the same closers come again and again, look for what else leads on."""
        matcher, tokens, seen, num_choices = matcher.deep_copy(), list[int](), set[bytes](), 0
        while num_choices < _MOST_CHOICES:
            if end_of_thought and matcher.validate_tokens(end_of_thought) == len(end_of_thought):
                step, end_of_thought = end_of_thought, []
            elif forced := self._forced(matcher):
                step = forced
            elif matcher.is_accepting():
                return tokens
            else:
                step = self._step(matcher, seen) if seeks_a_way else self._closer(matcher)
                num_choices += 1
            if not step or max(step) >= self._vocab_size or not matcher.consume_tokens(step):
                return None
            tokens += step
        return None

    def _forced(self, matcher: LLMatcher) -> list[int]:
        """Tokens of what must come, not as the tokenizer merges them, which takes long."""
        try:
            tokens = self._bytes_tokenizer.greedy_tokenize(matcher.compute_ff_bytes().decode())
        except UnicodeDecodeError:  # a part of a character, or a special token
            return matcher.compute_ff_tokens()
        return tokens[:-1] if tokens[-1:] in self._openers else tokens

    def _closer(self, matcher: LLMatcher) -> list[int]:
        for token in self._closers:  # which takes less than a mask
            if matcher.validate_tokens([token]):
                return [token]
        first: list[int] = _bits(matcher.compute_bitmask()).nonzero()[0][:1].tolist()
        return first

    def _step(self, matcher: LLMatcher, seen: set[bytes]) -> list[int]:
        """A closer; where one came already and led nowhere, the way out."""
        mask = matcher.compute_bitmask()
        if mask in seen:
            return self._way_out(matcher, mask)
        seen.add(mask)
        return self._closer(matcher)

    def _way_out(self, matcher: LLMatcher, mask: bytes) -> list[int]:
        """The fewest characters after which a better closer may come than may now.

        States are told apart by their masks, so that what may be any text is not seen to lead anywhere.
        """
        rank, num_masks = self._rank(mask), 0
        seen, waiting = {mask}, deque([(matcher, list[int]())])
        while waiting and num_masks < _MOST_MASKS:
            state, way = waiting.popleft()
            for token, after in self._successors(state):
                mask = after.compute_bitmask()
                num_masks += 1
                if after.is_accepting() or self._rank(mask) < rank:
                    return [*way, token]
                if mask not in seen:
                    seen.add(mask)
                    waiting.append((after, [*way, token]))
        return []

    def _successors(self, matcher: LLMatcher) -> Iterator[tuple[int, LLMatcher]]:
        allowed = _bits(matcher.compute_bitmask())
        for token in self._characters:
            if allowed[token]:
                after = matcher.deep_copy()
                after.consume_token(token)
                yield token, after

    def _rank(self, mask: bytes) -> int:
        """Of the best closer that may come; lower is better."""
        allowed = _bits(mask)
        return next((rank for rank, token in enumerate(self._closers) if allowed[token]), len(self._closers))

    def _only_token(self, text: str) -> list[int]:
        """The token of a text; none where it takes several."""
        ids: list[int] = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return ids if len(ids) == 1 else []


def _bits(mask: bytes) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
