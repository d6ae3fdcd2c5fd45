"""Turns every exception that leaves a route into an OpenAI-shaped response."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapter.errors import (
    ApiError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    error_response,
)
from adapter.request_body import from_validation_error
from adapter.request_log import record_of

_INVALID_PARAMETERS = 422
"""By DeepSeek's base URLs, where 400 is for bodies that are not well-formed."""


def install_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _respond)
    app.add_exception_handler(RequestValidationError, _respond)
    app.add_exception_handler(HTTPException, _respond)


async def _respond(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        error = from_validation_error(error)
    elif isinstance(error, HTTPException):
        error = _from_http_exception(error, request)
    public = record_of(request.scope).fail(error)
    if record_of(request.scope).is_deepseeks and isinstance(public, InvalidRequest) and public.param is not None:
        return Response(public.body(), _INVALID_PARAMETERS, public.headers, "application/json")
    return error_response(public)


def _from_http_exception(error: HTTPException, request: Request) -> ApiError:
    """The framework's own refusals."""
    if error.status_code == 404:
        return NotFound(f"There is nothing at {request.method} {request.url.path}.")
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{request.method} is not allowed at {request.url.path}; use {allow}.", allow)
    if error.status_code < 500:
        return InvalidRequest(str(error.detail))
    return InternalError(str(error.detail))
