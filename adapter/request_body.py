"""Reads a request's JSON, and says what is wrong with it in one sentence that names the field."""

import asyncio
import inspect
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from adapter.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

JSON = "application/json"
MAX_MARKS = 4_000_000
"""Most brackets and commas of a JSON body: one of many small lists takes a hundred times as long as one long text."""

MAX_DEPTH = 200

_SLICE_BYTES = 1024 * 1024
_SHOULD = re.compile(r"^(Input|String|List|Dictionary|Value|Keys) should ")
_MAX_SHOWN = 80

Location: TypeAlias = tuple[int | str, ...]
M = TypeVar("M", bound=BaseModel)


def _not_too_deep(value: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inside = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for children in inside for child in children if isinstance(child, (dict, list))]
        if not level:
            return value
    raise ValueError(f"must not be nested more than {MAX_DEPTH} deep")


JsonObject = Annotated[dict[str, Any], AfterValidator(_not_too_deep)]
"""What a client may put anything into; it is written as JSON again, which has an end."""


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """Of a model's fields, as clients write them."""
    return frozenset(field.alias or name for name, field in model.model_fields.items())


class RequestModel(BaseModel):
    """Strict, without unknown fields; an explicit null is the same as an absent field."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        given = {name: value for name, value in fields.items() if value is not None}
        names = _field_names(cls)
        if names.issuperset(given):
            return given
        # One unknown field is enough to say: pydantic would go on and describe each of a million.
        unknown = next(name for name in given if name not in names)
        return {unknown: given[unknown], **{name: value for name, value in given.items() if name in names}}


def text_or_list(value: object) -> str:
    """The tag of a field that is a string or a list, in a union whose members are `<text>` and `<list>`."""
    return "<list>" if isinstance(value, list) else "<text>"


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_body(request: Request) -> bytes:
    """The body, not parsed yet.

    Raises:
        UnsupportedMediaType: it isn't sent as JSON.
        BodyTooLarge: it would take seconds to parse, while nothing else runs.
    """
    if media_type(request) != JSON:
        raise UnsupportedMediaType(f"The body must be JSON, sent as {JSON}.")
    body = await request.body()
    large = len(body) > _SLICE_BYTES
    if (await asyncio.to_thread(_num_marks, body) if large else _num_marks(body)) > MAX_MARKS:
        raise BodyTooLarge(f"The request body has more than {MAX_MARKS} brackets and commas; send it in parts.")
    return body


def _num_marks(body: bytes) -> int:
    """In slices: nothing else runs while one is counted."""
    starts = range(0, len(body), _SLICE_BYTES)
    return sum(body.count(mark, start, start + _SLICE_BYTES) for start in starts for mark in (b"[", b"{", b","))


class _JsonRequest(Request):
    def __init__(self, request: Request, loads: Callable[[bytes], Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._loads = loads

    async def json(self) -> Any:
        return self._loads(await self.body())


class JsonRoute(APIRoute):
    """Where it has a body, that must be JSON.

    An endpoint that takes a model and the request alone, and gives a response, is called without FastAPI's search for
    whatever else it could take, which is made anew for each request. What is only given to the app or with
    `include_router`, such as dependencies, it would not get.
    """

    def loads(self, body: bytes) -> Any:
        """No NaN, no lone surrogates, no bottomless nesting: orjson refuses what the standard library takes."""
        return orjson.loads(body)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        if self._is_plain:
            return self._handle_plain

        async def handle_json(request: Request) -> Response:
            given = _JsonRequest(request, self.loads)
            await json_body(given)
            return await handle(given)

        return handle_json

    @property
    def _is_plain(self) -> bool:
        given = inspect.signature(self.endpoint).parameters
        return list(given) == ["body", "request"] and not self.dependencies and self.response_model is None

    async def _handle_plain(self, request: Request) -> Response:
        body = await json_body(request)
        try:
            fields = self.loads(body) if body else None
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"The body is not valid JSON: {error.msg}.") from None
        assert self.body_field is not None
        model: Any = self.body_field.field_info.annotation
        response: Response = await self.endpoint(validated(model, fields), request)
        return response


def validated(model: type[M], fields: object) -> M:
    """Raises `InvalidRequest` that names the first field at fault."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problem: dict[str, Any] = dict(error.errors(include_url=False)[0])
        raise from_validation_error(RequestValidationError([problem | {"loc": ("body", *problem["loc"])}])) from None


def from_validation_error(error: RequestValidationError) -> InvalidRequest:
    """The first problem; a body's other problems show when it is mended."""
    problem = error.errors()[0]
    location: Location = problem["loc"][1:]
    if problem["type"] == "json_invalid":
        return InvalidRequest(f"The body is not valid JSON: {problem['ctx']['error']}.")
    if not location:
        return InvalidRequest("The body must be a JSON object.")
    param = field_path(location)
    return InvalidRequest(f"{param}: {_sentence(problem)}", param=param)


def field_path(location: Location) -> str:
    """`messages.0.content`; pydantic's names for the members of a union, which we write in `<>`, are left out."""
    return ".".join(str(part) for part in location if not str(part).startswith(("<", "[key]")))


def _sentence(problem: Mapping[str, Any]) -> str:
    match problem["type"]:
        case "too_long" if problem["ctx"]["max_length"] == 0:
            return "is not supported by this server; leave it out"
        case "none_required":
            return "is not supported by this server; leave it out"
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not supported by this server; leave it out"
        case "literal_error":
            shown = _shown(problem["input"])
            expected = problem["ctx"]["expected"].replace("'", '"').replace("False", "false")
            return f"{shown} is not supported; use {expected}"
        case "model_type" | "model_attributes_type":
            return "must be an object"
        case _:
            sentence = str(problem["msg"]).removeprefix("Value error, ").partition(" after validation")[0]
            return _SHOULD.sub("must ", sentence)


def _shown(value: object) -> str:
    """What is nested may be too deep to be written again."""
    if isinstance(value, (dict, list)):
        return "this value"
    shown = orjson.dumps(value).decode()
    return shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "…"
