"""Which pages of a document are asked for."""

from collections.abc import Sequence

from adapter.errors import InvalidRequest, TooLarge

MAX_PAGES_CHARACTERS = 10_000
"""Longest text of page ranges in a request."""

_MAX_DIGITS = 9
_MAX_SHOWN = 40


def choose_pages(pages: str | Sequence[int] | None, field: str, num_pages: int, max_pages: int) -> Sequence[int]:
    """All of `num_pages`, or those that `pages` names; ascending, without duplicates.

    Raises:
        InvalidRequest: `pages` is malformed, empty or out of range.
        TooLarge: more than `max_pages` are chosen.
    """
    numbers: Sequence[int] = range(1, num_pages + 1)
    if isinstance(pages, str):
        numbers = parse_pages(pages, field, num_pages)
    elif pages is not None:
        numbers = sorted(set(pages))
        if not numbers:
            raise _refuse(field, "is empty", num_pages)
        for number in (numbers[0], numbers[-1]):
            if not 1 <= number <= num_pages:
                raise _refuse(field, f"{number} is out of range", num_pages)
    if len(numbers) > max_pages:
        sentence = f"{len(numbers)} pages are more than the {max_pages} that are read at once"
        raise TooLarge(f"{field}: {sentence}; choose fewer, such as 1-{max_pages}", param=field)
    return numbers


def parse_pages(text: str, field: str, num_pages: int) -> list[int]:
    """`1-3,7`, `5-` (to the end), `-2` (the first two) and the like, in pages from 1; ascending, without duplicates.

    Raises:
        InvalidRequest: it is malformed or empty, or names a page that the document hasn't got.
    """
    if not text.strip():
        raise _refuse(field, "is empty", num_pages)
    # Ranges are merged before pages are listed: a thousand times `1-` costs as much as once.
    ranges = sorted({_parse_range(part, field, num_pages) for part in text.split(",")})
    numbers: list[int] = []
    for first, last in ranges:
        numbers.extend(range(max(first, numbers[-1] + 1) if numbers else first, last + 1))
    return numbers


def _parse_range(text: str, field: str, num_pages: int) -> tuple[int, int]:
    start, dash, end = (part.strip() for part in text.partition("-"))
    if not (start or end) or not all(part.isascii() and part.isdigit() for part in (start, end) if part):
        raise _refuse(field, f"{_shown(text)!r} is not a page or a range of pages", num_pages)
    first = _page(start or "1", text, field, num_pages)
    last = _page(end, text, field, num_pages) if end else num_pages if dash else first
    if first > last:
        raise _refuse(field, f"{_shown(text)!r} runs backwards", num_pages)
    return first, last


def _page(digits: str, text: str, field: str, num_pages: int) -> int:
    digits = digits.lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS or not 1 <= int(digits) <= num_pages:
        raise _refuse(field, f"{_shown(text)!r} is out of range", num_pages)
    return int(digits)


def _refuse(field: str, what: str, num_pages: int) -> InvalidRequest:
    has = "is 1 page" if num_pages == 1 else f"are {num_pages} pages"
    return InvalidRequest(f"{field}: {what}; there {has}, chosen as in 1-3,7", param=field)


def _shown(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
