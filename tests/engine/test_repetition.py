from __future__ import annotations

import itertools
import random
from collections.abc import Callable

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
def test_a_loop_is_noticed_soon(period: int) -> None:
    end = ends_at(list(range(1000, 1050)) + list(range(period)) * 500)
    assert end is not None
    assert 100 <= end <= 50 + 2 * period + 100


def broken(period: int, every: int) -> list[int]:
    """A loop in which now and then another token comes, as the n-gram rule has it."""
    numbers = random.Random(0)
    return [numbers.randrange(1000, 2000) if i % every == 0 else i % period for i in range(3000)]


@pytest.mark.parametrize(("period", "every"), [(5, 29), (60, 29), (61, 61), (20, 60)])
def test_small_changes_do_not_hide_a_loop(period: int, every: int) -> None:
    assert ends_at(broken(period, every), 512) is not None


@pytest.mark.parametrize(("size", "window"), [(30, 90), (20, 50)])
def test_a_model_that_goes_round_under_deepseeks_rule_is_noticed(size: int, window: int) -> None:
    rule, detector = NgramRule(size, window, frozenset()), LoopDetector(512)
    for _ in range(2000):
        banned = rule.banned()
        token = next(token for token in itertools.count() if token not in banned)
        rule.append(token)
        if detector.append(token):
            return
    pytest.fail("it went on")


def table(num_rows: int, num_columns: int, cell: Callable[[int, int], list[int]]) -> list[int]:
    """Tokens of an HTML table: 1 and 2 open and close a row, 3 and 4 a cell."""
    rows = ([[3, *cell(row, column), 4] for column in range(num_columns)] for row in range(num_rows))
    return [token for row in rows for token in (1, *itertools.chain(*row), 2)]


NUMBERS = random.Random(0)
TEXTS = {
    "bits": table(64, 8, lambda *_: [10 + NUMBERS.randrange(2)]),
    "digits": table(60, 12, lambda *_: [10 + NUMBERS.randrange(10)]),
    "0.xx": table(60, 10, lambda *_: [10, 11, 20 + NUMBERS.randrange(10), 20 + NUMBERS.randrange(10)]),
    "a year's calendar": [
        token for _ in range(12) for token in table(6, 7, lambda row, column: [100 + (row * 7 + column) % 31])
    ],
    "mostly empty": table(60, 8, lambda *_: [10] if NUMBERS.random() < 0.2 else []),
    "one value changes": table(60, 4, lambda row, column: [100 + row] if column == 0 else [10, 11]),
    "binary digits": [10 + NUMBERS.randrange(2) for _ in range(4000)],
    "a passage that comes back": [*range(170), *range(170), *range(1000, 1400), *range(170)],
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_few_tokens_is_no_loop(name: str) -> None:
    assert ends_at(TEXTS[name], 512) is None
