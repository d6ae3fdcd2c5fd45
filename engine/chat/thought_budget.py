"""Bounds the thought of one answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from engine.chat.answer import ThoughtReader
from engine.detokenizer import Detokenizer


class ThoughtBudget:
    """Follows an answer, and says when its thought has had its tokens: those that count as reasoning."""

    def __init__(self, num_tokens: int, end: Sequence[int], reader: ThoughtReader, detokenizer: Detokenizer) -> None:
        """`end`: the tokens of `</think>`; `reader` and `detokenizer` are for this answer alone."""
        self._num_left, self._end = num_tokens, list(end)
        self._reader, self._detokenizer = reader, detokenizer
        self._recent: deque[int] = deque(maxlen=len(end) - 1)
        self.forced: list[int] = []
        """What ends the thought, and comes next, whatever is drawn; empty where anything may come."""
        self._force()

    def append(self, token: int) -> None:
        """Take up the answer's next token."""
        if self._reader.is_over:
            return
        self._reader.decode(self._detokenizer.decode(token))
        if self._reader.is_reasoning:
            self._num_left -= 1
        self._recent.append(token)
        self._force()

    def _force(self) -> None:
        is_spent = self._reader.is_inside and self._num_left <= 0
        self.forced = self._end[self._num_said() :] if is_spent else []

    def _num_said(self) -> int:
        """Tokens of the end that were said last, by the model itself or since they were forced."""
        recent = list(self._recent)
        return next(num for num in range(len(recent), -1, -1) if recent[len(recent) - num :] == self._end[:num])
