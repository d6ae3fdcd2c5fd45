"""What is said of jobs, and what may be asked of them in the query."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from adapter.errors import ErrorDetail
from adapter.jobs.records import Status
from adapter.ocr.schemas import PageFields


class JobStatus(BaseModel):
    """How far a job is; times are seconds since 1970."""

    id: str
    object: Literal["ocr.job"] = "ocr.job"
    status: Status
    model: str
    file_name: str | None = Field(description="As the client called it.")
    pages: int
    pages_done: int = Field(description="The failed ones are among them.")
    pages_failed: int
    created: int
    expires: int | None = Field(description="When it is deleted; null while it has not ended.")
    error: ErrorDetail | None = Field(description="Why a failed job failed.")
    url: str


@dataclass(frozen=True, slots=True)
class JobList:
    object: Literal["list"] = field(default="list", init=False)
    data: list[JobStatus]
    has_more: bool


@dataclass(frozen=True, slots=True)
class JobDeleted:
    id: str
    object: Literal["ocr.job"] = field(default="ocr.job", init=False)
    deleted: Literal[True] = field(default=True, init=False)


class JobPages(BaseModel):
    """Pages that are done, in their order."""

    id: str
    status: Status
    pages: list[PageFields]
    next: int | None = Field(description="The `from` that goes on after these pages; null when there are no more.")


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListQuery(_Query):
    limit: int = Field(20, ge=1, le=100, description="Most jobs in the answer.")
    after: str | None = Field(None, description="The id of a job: those older than it.")


class PagesQuery(_Query):
    first: int = Field(1, alias="from", ge=1, le=2**31, description="The least page number.")
    limit: int = Field(100, ge=1, le=1000, description="Most pages in the answer.")


class ResultQuery(_Query):
    format: Literal["json", "text", "markdown"] = Field("json", description="As of `/ocr`, or the text alone.")


class EventsQuery(_Query):
    first: int = Field(1, alias="from", ge=1, le=2**31, description="The least page number to tell of.")
