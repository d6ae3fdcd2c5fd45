from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.repetition import LoopDetector, NgramRule


def banned_by_scanning(tokens: list[int], size: int, window: int | None, whitelist: set[int]) -> set[int]:
    """DeepSeek-OCR's rule as its definition reads: look at every n-gram that begins in the window."""
    if len(tokens) < size:
        return set()
    prefix = tokens[len(tokens) - size + 1 :]
    start = 0 if window is None else max(0, len(tokens) - window)
    grams = (tokens[i : i + size] for i in range(start, len(tokens) - size + 1))
    return {gram[-1] for gram in grams if gram[:-1] == prefix} - whitelist


@given(
    tokens=st.lists(st.integers(0, 3), max_size=60),
    size=st.integers(1, 5),
    window=st.none() | st.integers(1, 20),
    whitelist=st.sets(st.integers(0, 3), max_size=2),
)
def test_the_rule_bans_what_a_scan_of_the_output_bans(
    tokens: list[int], size: int, window: int | None, whitelist: set[int]
) -> None:
    rule = NgramRule(size, window, frozenset(whitelist))
    for i, token in enumerate(tokens):
        assert rule.banned() == banned_by_scanning(tokens[:i], size, window, whitelist)
        rule.append(token)


def test_the_rule_keeps_no_more_than_its_window() -> None:
    rule = NgramRule(3, 10, frozenset())
    numbers = random.Random(0)
    for _ in range(1000):
        rule.append(numbers.randrange(50))
    assert len(rule._grams) <= 10
    assert sum(map(len, rule._starts.values())) <= 10


def ends_at(tokens: list[int], max_tokens: int = 100) -> int | None:
    """How many tokens it takes until a loop is noticed."""
    detector = LoopDetector(max_tokens)
    return next((i for i, token in enumerate(tokens, 1) if detector.append(token)), None)


@pytest.mark.parametrize("period", [1, 2, 7, 30, 80])
def test_a_loop_is_noticed_soon_after_its_second_turn(period: int) -> None:
    text = list(range(1000, 1050))
    end = ends_at(text + list(range(period)) * 500)
    assert end is not None
    assert 100 < end <= 50 + period + 5 + 100


def test_a_loop_that_changes_a_little_at_each_turn_is_noticed() -> None:
    turns = [token for turn in range(40) for token in [*range(60), 5000 + turn % 7]]
    assert ends_at(turns) is not None


def test_a_text_with_much_repetition_in_it_is_no_loop() -> None:
    cells = [token for number in range(300) for token in (1, 2, 3, 1000 + number, 4, 5, 6)]  # a table of new numbers
    assert ends_at(cells) is None
    quoted = list(range(85)) * 2 + list(range(1000, 1200)) + list(range(85))  # a passage that comes back
    assert ends_at(quoted) is None
