"""Page ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.documents.page_ranges import choose_pages, parse_pages
from adapter.errors import InvalidRequest, TooLarge

NUM_PAGES = 9


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", [1]),
        ("9", [9]),
        ("1-3,7", [1, 2, 3, 7]),
        (" 1 - 3 , 7 ", [1, 2, 3, 7]),
        ("7,1-3", [1, 2, 3, 7]),
        ("8-", [8, 9]),
        ("-2", [1, 2]),
        ("4-4", [4]),
        ("1-5,2-3,5-6,6", [1, 2, 3, 4, 5, 6]),
        ("003", [3]),
        ("0" * 10_000 + "3", [3]),
    ],
)
def test_ranges(text: str, numbers: list[int]) -> None:
    assert parse_pages(text, "pages", NUM_PAGES) == numbers


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        (",", "'' is not a page"),
        ("1,", "'' is not a page"),
        ("-", "'-' is not a page"),
        ("1-2-3", "'1-2-3' is not a page"),
        ("one", "'one' is not a page"),
        ("1 2", "'1 2' is not a page"),
        ("1.5", "'1.5' is not a page"),
        ("+1", "'+1' is not a page"),
        ("٣", "'٣' is not a page"),
        ("²", "'²' is not a page"),
        ("0", "'0' is out of range"),
        ("0-3", "'0-3' is out of range"),
        ("10", "'10' is out of range"),
        ("1-10", "'1-10' is out of range"),
        ("10-", "'10-' is out of range"),
        ("-10", "'-10' is out of range"),
        ("1-999999999999", "'1-999999999999' is out of range"),
        ("1" * 100_000, "is out of range"),
        ("3-2", "'3-2' runs backwards"),
        (" " * 100_000 + "x", "'x' is not a page"),
        ("1" * 100_000 + "x", "is not a page"),
    ],
)
def test_bad_ranges_are_refused_with_the_number_of_pages(text: str, what: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_pages(text, "pages", NUM_PAGES)
    assert refusal.value.param == "pages"
    assert what in refusal.value.message
    assert refusal.value.message.startswith("pages: ")
    assert "there are 9 pages" in refusal.value.message
    assert len(refusal.value.message) < 200


def test_absurdly_many_ranges_cost_no_more_than_the_pages() -> None:
    assert parse_pages(",".join(["1-"] * 20_000), "pages", 100_000) == list(range(1, 100_001))


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(60, 1000))
def test_round_trip(numbers: set[int], num_pages: int) -> None:
    assert parse_pages(_written(sorted(numbers)), "pages", num_pages) == sorted(numbers)


def _written(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


@given(st.text(alphabet="0123456789,- ", max_size=30), st.integers(1, 50))
def test_any_text_gives_pages_of_the_document_or_is_refused(text: str, num_pages: int) -> None:
    try:
        numbers = parse_pages(text, "pages", num_pages)
    except InvalidRequest:
        return
    assert numbers
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 1
    assert numbers[-1] <= num_pages


def test_all_pages_and_numbers() -> None:
    assert list(choose_pages(None, "pages", 3, 3)) == [1, 2, 3]
    assert choose_pages([3, 1, 3], "pages", 3, 3) == [1, 3]
    assert choose_pages("2-", "pages", 3, 3) == [2, 3]


@pytest.mark.parametrize("numbers", [[], [0], [4], [-1, 2]])
def test_numbers_out_of_range_are_refused(numbers: list[int]) -> None:
    with pytest.raises(InvalidRequest, match=r"^pages: .*there are 3 pages"):
        choose_pages(numbers, "pages", 3, 3)


@pytest.mark.parametrize("pages", [None, "1-3", [1, 2, 3]])
def test_too_many_pages_are_refused(pages: str | list[int] | None) -> None:
    with pytest.raises(TooLarge, match=r"^pages: 3 pages are more than the 2 .*1-2") as refusal:
        choose_pages(pages, "pages", 3, 2)
    assert refusal.value.param == "pages"
