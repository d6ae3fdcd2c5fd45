"""What a failed call to Triton means: the one table from gRPC's and Triton's errors to ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from grpc import StatusCode

from adapter.errors import (
    ApiError,
    Cancelled,
    ContextLengthExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    TimedOut,
    Unavailable,
)

_REFUSAL = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*): (.+)", re.DOTALL)

# The tensors that carry a request's field under another name.
_FIELDS = {"text_input": "prompt", "input_ids": "prompt", "chat": "messages"}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call. `code` is None where the server only sent a text."""

    code: StatusCode | None
    text: str
    timeout_s: float
    retry_after_s: int

    @property
    def cause(self) -> str:
        return f"Triton: {self.code.name if self.code else 'error'}: {self.text}"


def translate(failure: Failure) -> ApiError:
    for pattern, meaning in BY_TEXT.items():
        if pattern.search(failure.text):
            return meaning(failure)
    return BY_STATUS[failure.code](failure)


def _refused(failure: Failure) -> ApiError:
    """The models refuse with `field: sentence`; any other refusal is of something that the adapter wrote."""
    match = _REFUSAL.fullmatch(failure.text)
    if match is None:
        return InternalError(failure.cause)
    param = _FIELDS.get(match[1], match[1])
    refusal = ContextLengthExceeded if "the context of" in match[2] else InvalidRequest
    return refusal(f"{param}: {match[2]}", param=param)


def _queue_full(failure: Failure) -> ApiError:
    return Overloaded("The model's queue is full; try again later.", failure.retry_after_s)


def _queued_too_long(failure: Failure) -> ApiError:
    return Overloaded("The request waited in the model's queue for too long; try again later.", failure.retry_after_s)


def _triton_away(failure: Failure) -> ApiError:
    return Unavailable("Triton is not reachable.", cause=failure.cause)


def _model_away(failure: Failure) -> ApiError:
    return Unavailable("The model is not loaded, or is restarting.", cause=failure.cause)


def _timed_out(failure: Failure) -> ApiError:
    return TimedOut(f"There was no answer within {failure.timeout_s:g} seconds.", cause=failure.cause)


def _cancelled(failure: Failure) -> ApiError:
    return Cancelled("The request was cancelled on the server's side.", cause=failure.cause)


def _reads_no_images(failure: Failure) -> ApiError:
    text = "model: this model does not read images; use one that does"
    return InvalidRequest(text, param="model", cause=failure.cause)


def _fills_no_gaps(failure: Failure) -> ApiError:
    return InvalidRequest("suffix: this model fills no gaps; leave it out", param="suffix", cause=failure.cause)


def _has_no_tasks(failure: Failure) -> ApiError:
    text = "model: this model makes no embeddings, and does not show its tokens; use another"
    return InvalidRequest(text, param="model", cause=failure.cause)


def _unknown(failure: Failure) -> ApiError:
    return InternalError(failure.cause)


Meaning = Callable[[Failure], ApiError]

# Triton's texts say more than its status codes: a full queue and a dead server are both UNAVAILABLE.
BY_TEXT: Mapping[re.Pattern[str], Meaning] = {
    re.compile(r"unexpected inference input 'image(_parameters)?'"): _reads_no_images,
    re.compile(r"unexpected inference input 'suffix'"): _fills_no_gaps,
    re.compile(r"unexpected inference input 'task'"): _has_no_tasks,
    re.compile(r"Exceeds maximum queue size"): _queue_full,
    re.compile(r"Request timeout expired"): _queued_too_long,
    re.compile(r"Request for unknown model"): _model_away,
    re.compile(r"has no available versions"): _model_away,
    re.compile(r"is being unloaded"): _model_away,
    re.compile(r"is not ready"): _model_away,
    re.compile(r"Stub process '.*' is not healthy", re.DOTALL): _model_away,
    re.compile(r"[Ff]ailed to.*restart", re.DOTALL): _model_away,
}

BY_STATUS: Mapping[StatusCode | None, Meaning] = {
    None: _refused,
    StatusCode.OK: _unknown,
    StatusCode.CANCELLED: _cancelled,
    StatusCode.UNKNOWN: _unknown,
    StatusCode.INVALID_ARGUMENT: _refused,
    StatusCode.DEADLINE_EXCEEDED: _timed_out,
    StatusCode.NOT_FOUND: _unknown,
    StatusCode.ALREADY_EXISTS: _unknown,
    StatusCode.PERMISSION_DENIED: _unknown,
    StatusCode.RESOURCE_EXHAUSTED: _unknown,
    StatusCode.FAILED_PRECONDITION: _unknown,
    StatusCode.ABORTED: _unknown,
    StatusCode.OUT_OF_RANGE: _unknown,
    StatusCode.UNIMPLEMENTED: _unknown,
    StatusCode.INTERNAL: _unknown,
    StatusCode.UNAVAILABLE: _triton_away,
    StatusCode.DATA_LOSS: _unknown,
    StatusCode.UNAUTHENTICATED: _unknown,
}
