"""What keeps a model from saying the same thing forever. A token costs the same, however many came before it."""

from __future__ import annotations

from collections import deque

_GRAM = 4
"""Tokens by which an earlier passage is found again."""
_MIN_RUN = 8
_SHARE = 1 / 3
"""Of the last tokens: the n-gram rule interrupts a loop at every 20 or 30, and it takes some to be back in it."""


class NgramRule:
    """DeepSeek-OCR's rule: within a window, no `size` tokens in a row come twice; a whitelist may always come.

    Looks at the output only, as the rule in DeepSeek's own vLLM script does.
    """

    def __init__(self, size: int, window: int | None, whitelist: frozenset[int]) -> None:
        self._size = size
        self._window = window
        self._whitelist = whitelist
        self._num_tokens = 0
        self._recent: deque[int] = deque(maxlen=size)
        self._grams: deque[tuple[int, tuple[int, ...]]] = deque()
        self._starts: dict[tuple[int, ...], dict[int, int]] = {}
        """The first size - 1 tokens of each n-gram in the window, to the tokens that followed and where it began."""

    def append(self, token: int) -> None:
        self._recent.append(token)
        self._num_tokens += 1
        if len(self._recent) == self._size:
            gram, start = tuple(self._recent), self._num_tokens - self._size
            self._starts.setdefault(gram[:-1], {})[token] = start
            self._grams.append((start, gram))
        while self._window is not None and self._grams and self._grams[0][0] < self._num_tokens - self._window:
            self._forget(*self._grams.popleft())

    def banned(self) -> set[int]:
        """The tokens that may not come next."""
        if len(self._recent) < self._size - 1 or self._num_tokens < self._size:
            return set()
        prefix = tuple(self._recent)[len(self._recent) - self._size + 1 :]
        return self._starts.get(prefix, {}).keys() - self._whitelist

    def _forget(self, start: int, gram: tuple[int, ...]) -> None:
        followers = self._starts[gram[:-1]]
        if followers[gram[-1]] == start:  # else it came again since
            del followers[gram[-1]]
            if not followers:
                del self._starts[gram[:-1]]


class LoopDetector:
    """Notices a text that goes on repeating its own passages.

    A token counts as repeated once it has followed an earlier passage for `_MIN_RUN` tokens, so that the small
    changes from turn to turn which counters or the n-gram rule make don't hide a loop, and a table of a few values,
    whose cells come again in any order, is none.
    """

    def __init__(self, max_tokens: int) -> None:
        self._num_tokens = 0
        self._recent: deque[int] = deque(maxlen=_GRAM)
        self._last: dict[tuple[int, ...], int] = {}
        """Where each n-gram came last."""
        self._distance = 0
        self._run = 0
        """For how many tokens the text has been the same as `_distance` tokens before."""
        self._is_repeated: deque[bool] = deque(maxlen=max_tokens)
        self._num_repeated = 0

    def append(self, token: int) -> bool:
        """Add a token; returns whether the text is in a loop now."""
        self._recent.append(token)
        self._num_tokens += 1
        gram = tuple(self._recent)
        distance = self._num_tokens - self._last.get(gram, self._num_tokens)
        self._last[gram] = self._num_tokens
        self._run = self._run + 1 if distance and distance == self._distance else 0
        self._distance = distance
        return self._count(self._run >= _MIN_RUN)

    def _count(self, is_repeated: bool) -> bool:
        window = self._is_repeated
        if len(window) == window.maxlen:
            self._num_repeated -= window[0]
        window.append(is_repeated)
        self._num_repeated += is_repeated
        return len(window) == window.maxlen and self._num_repeated >= _SHARE * len(window)
