"""Every way a request can fail, and how each looks to the client."""

import asyncio
from typing import ClassVar

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_ANTHROPIC_PATH = "/v1/messages"
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class ApiError(Exception):
    """`message` is what the client reads; `cause`, if any, is only logged."""

    status: ClassVar[int]
    type: ClassVar[str]
    code: ClassVar[str]

    def __init__(self, message: str, *, param: str | None = None, cause: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.cause = cause

    @property
    def headers(self) -> dict[str, str]:
        return {}

    def body(self) -> bytes:
        """`{"error": {...}}`, as a response's body or an event's data."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})

    def anthropic_body(self, request_id: str) -> bytes:
        """The same in the shape of Anthropic's API, which has no field for `param`."""
        fault = "api_error" if self.status >= 500 else "invalid_request_error"
        error = {"type": _ANTHROPIC_TYPES.get(self.status, fault), "message": self.message}
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


class InvalidRequest(ApiError):
    status, type, code = 400, "invalid_request_error", "invalid_value"

    def of(self, param: str) -> "InvalidRequest":
        """The same of a field that the client knows by another name."""
        return type(self)(f"{param}: {self.message.partition(': ')[2]}", param=param, cause=self.cause)


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or it and the answer asked for, are longer than the model's context."""

    code = "context_length_exceeded"


class NotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(ApiError):
    status, type, code = 404, "invalid_request_error", "model_not_found"


class MethodNotAllowed(ApiError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self._allow = allow

    @property
    def headers(self) -> dict[str, str]:
        return {"Allow": self._allow}


class BodyTooLarge(ApiError):
    status, type, code = 413, "invalid_request_error", "body_too_large"


class TooLarge(ApiError):
    """An image or a document beyond a limit."""

    status, type, code = 413, "invalid_request_error", "too_large"


class UnsupportedMediaType(ApiError):
    """Neither an image nor a PDF, or a body of the wrong content type."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class RetryLater(ApiError):
    """Of a kind that passes by itself; says when."""

    status, type = 429, "rate_limit_error"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self._retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self._retry_after_s)}


class Overloaded(RetryLater):
    """The model's queue is full, or the request waited in it for too long."""

    code = "overloaded"


class ClientDisconnected(ApiError):
    """Nobody is left to read it; the status is for the log."""

    status, type, code = 499, "invalid_request_error", "client_disconnected"

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class InternalError(ApiError):
    status, type, code = 500, "server_error", "internal_error"

    def __init__(self, cause: str | None = None) -> None:
        super().__init__("The server failed to handle this request; its log says why.", cause=cause)


class BrokenAnswer(ApiError):
    """The model's answer ended before it was whole, or broke the tensor contract."""

    status, type, code = 500, "server_error", "broken_answer"

    def __init__(self, cause: str) -> None:
        super().__init__("The model's answer broke off.", cause=cause)


class Unavailable(ApiError):
    """Triton or the model is away for now."""

    status, type, code = 503, "service_unavailable_error", "unavailable"


class TimedOut(Unavailable):
    code = "timeout"


class Cancelled(Unavailable):
    """The server gave the request up, not the client."""

    code = "cancelled"


class ErrorDetail(BaseModel):
    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The request's field at fault, such as `messages.0.content`.")
    code: str = Field(examples=["invalid_value"])


class ErrorResponse(BaseModel):
    """The body of every response with an error status, and the data of the event that ends a failed stream."""

    error: ErrorDetail


FAILURE_DOCS = {"model": ErrorResponse, "description": "Refused or failed; the status and `code` say how."}
"""Of every endpoint, for the OpenAPI document."""


def as_api_error(error: BaseException) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled("The server is shutting down.")
    return InternalError()


def error_response(error: ApiError) -> Response:
    return _ErrorAnswer(error)


class _ErrorAnswer(Response):
    """In the shape of the API that the request's path is of."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.body(), error.status, error.headers, "application/json")
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if f"{scope['path']}/".startswith(f"{_ANTHROPIC_PATH}/"):
            request_id = scope["state"]["record"].id
            self.body = self._error.anthropic_body(request_id)
            self.init_headers(self._error.headers | {"request-id": request_id})
        await super().__call__(scope, receive, send)
