"""What is kept of jobs and of their pages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapter.tensors import Usage

Status = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that is kept: the HTTP status it has as an answer, and `{"message", "type", ...}` as JSON."""

    status: int
    error: bytes


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it was asked for."""

    id: str
    model: str
    """As in the settings' `models`."""
    fields: bytes
    """The request's fields, JSON."""
    field: str
    """The one that brought the document."""
    declared_type: str | None
    file_name: str | None
    """What the client called the file: shown, never used as a path."""
    numbers: Sequence[int]
    """The chosen pages, ascending."""
    key_id: str | None = None
    """The API key's that pays for it and may know of it; None where keys were not asked for."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. `num_done` counts the failed pages too; times are seconds since 1970."""

    asked: NewJob
    status: Status
    num_done: int
    num_failed: int
    created_s: float
    started_s: float | None
    """When it was begun for the first time."""
    ended_s: float | None
    num_takeovers: int
    """How many of the processes that ran it have died, one after the other, without a page read."""
    failure: Failure | None

    @property
    def id(self) -> str:
        return self.asked.id


@dataclass(frozen=True, slots=True)
class PageProgress:
    """A page that is done, and how many are up to it."""

    number: int
    failed: bool
    num_done: int


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page that is done."""

    number: int
    result: bytes
    """JSON: the page's fields, without the texts below and without pictures; its error if it failed."""
    error_status: int | None = None
    """Of a page that failed: the HTTP status that its error has as an answer."""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=lambda: Usage(0, 0, 0))
    text: str = ""
    markdown: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the pages that are done. `finish_reasons` are those that occur, in the order of the pages."""

    usage: Usage
    finish_reasons: Sequence[str]
