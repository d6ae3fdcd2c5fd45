"""The events of `POST /ocr/stream?format=pages`, as far as this client uses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import Base64Bytes, BaseModel, Field, ValidationError

from adapter.cli.errors import FileFailed, Interrupted

DONE = b"[DONE]"
INVALID_REQUEST = "invalid_request_error"
NOT_UNDERSTOOD = "the server's answer is not understood"


class Start(BaseModel):
    pages: int
    """How many will come."""


class Figure(BaseModel):
    # It becomes a file's name.
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.png$")]
    image_base64: Base64Bytes


class PageResult(BaseModel):
    """A page that was read; of the parts, those that were asked for are there."""

    page: int
    width: int
    height: int
    finish_reason: str
    text: str | None = None
    markdown: str | None = None
    blocks: list[dict[str, Any]] | None = None
    figures: list[Figure] | None = None
    annotated: Base64Bytes | None = None


class ErrorDetail(BaseModel):
    message: str
    type: str | None = None


class PageFailed(BaseModel):
    page: int
    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class RestFailed:
    """No event of the server's: its answers broke off for good."""

    last_page: int
    """The last one that came."""
    message: str


Page = PageResult | PageFailed | RestFailed
Event = Start | PageResult | PageFailed


def parse_event(data: bytes) -> Event | None:
    """None for an event that this client has no use for.

    Raises:
        Interrupted: it says that the document failed, and not for what was sent.
        FileFailed: it says that the document failed, or can't be understood.
    """
    try:
        event = orjson.loads(data)
        match event:
            case {"error": error}:
                detail = ErrorDetail.model_validate(error)
                failed = FileFailed if detail.type == INVALID_REQUEST else Interrupted
                raise failed(detail.message)
            case {"type": "start"}:
                return Start.model_validate(event)
            case {"type": "page", "result": {"error": _} as result}:
                return PageFailed.model_validate(result)
            case {"type": "page", "result": result}:
                return PageResult.model_validate(result)
            case {"type": str()}:
                return None
    except orjson.JSONDecodeError as error:
        raise FileFailed(f"{NOT_UNDERSTOOD}: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise FileFailed(f"{NOT_UNDERSTOOD}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    raise FileFailed(f"{NOT_UNDERSTOOD}: an event without a type")


def error_message(body: bytes) -> str | None:
    """What a response with an error status says, if it is one of our server's."""
    try:
        return ErrorDetail.model_validate(orjson.loads(body)["error"]).message
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError):
        return None
