"""Takes a document and its fields out of a request's body: JSON with base64 in it, or a form with an upload."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import IO, Any

import orjson
from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from adapter.documents.media import decode_base64
from adapter.errors import InvalidRequest, UnsupportedMediaType
from adapter.ocr.schemas import OcrForm, OcrRequest, OcrRequestFields
from adapter.request_body import JSON, JsonRoute, json_body, media_type, validated

FILE = "file"
IMAGE_BASE64 = "image_base64"
MULTIPART = "multipart/form-data"

_MAX_FORM_FIELDS = 128
_MAX_FORM_FILES = 16
# Given once per token, and once per part or all parts in one.
_TOKENS = "no_repeat_ngram_whitelist"
_PARTS = "output"


@dataclass(frozen=True, slots=True)
class OcrInput:
    source: IO[bytes]
    """The document; whoever takes the input closes it, and with it goes what it takes of the memory or the disk."""
    declared_type: str | None
    """The document's media type, as the client has it."""
    field: str
    """Where the document was."""
    file_name: str | None
    fields: OcrRequestFields


async def read_input(request: Request) -> OcrInput:
    """A form or JSON, by the body's content type."""
    if media_type(request) == MULTIPART:
        return await read_upload(request)
    if media_type(request) != JSON:
        raise UnsupportedMediaType(f"The body must be a form with a file ({MULTIPART}) or JSON ({JSON}).")
    try:
        fields = parse_json(await json_body(request))
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error.msg}.") from None
    return await from_json(validated(OcrRequest, fields))


def parse_json(body: bytes) -> Any:
    """Strict, but for line breaks in strings: a shell's "$(base64 page.png)" has them. Raises `JSONDecodeError`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # In JSON that is right, a bare line break means nothing.
        try:
            return orjson.loads(body.replace(b"\n", b"").replace(b"\r", b""))
        except orjson.JSONDecodeError:
            raise error from None


class ShellJsonRoute(JsonRoute):
    """A route whose JSON is read by `parse_json`."""

    def loads(self, body: bytes) -> Any:
        return parse_json(body)


def only_query(*names: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency: what is in the query but not among `names` would be ignored.

    Raises:
        InvalidRequest: naming it.
    """

    async def check(request: Request) -> None:
        for name in request.query_params:
            if name not in names:
                raise InvalidRequest(f"{name}: is not read from the query; send it in the body", param=name)

    return check


async def from_json(body: OcrRequest) -> OcrInput:
    data, declared_type = await asyncio.to_thread(decode_base64, body.image_base64, IMAGE_BASE64)
    # Without the base64 text, which would live as long as the pages are read.
    names = OcrRequestFields.model_fields
    given = body.model_fields_set & names.keys()
    fields = OcrRequestFields.model_construct(given, **{name: getattr(body, name) for name in names})
    return OcrInput(io.BytesIO(data), declared_type, IMAGE_BASE64, None, fields)


async def read_upload(request: Request) -> OcrInput:
    if media_type(request) != MULTIPART:
        raise UnsupportedMediaType(f"The body must be a form with a file ({MULTIPART}).")
    form = await request.form(max_files=_MAX_FORM_FILES, max_fields=_MAX_FORM_FIELDS)
    try:
        fields = validated(OcrForm, _fields(form))
        file = _file(form)
    except InvalidRequest:
        await form.close()
        raise
    return OcrInput(file.file, file.content_type, FILE, file.filename, fields)


def form_body_docs() -> dict[str, Any]:
    """The form, for the OpenAPI document."""
    schema = OcrForm.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "An image or a PDF."}
    schema["properties"] = {FILE: file} | schema["properties"]
    schema["required"] = [FILE]
    return {MULTIPART: {"schema": schema}}


def _file(form: FormData) -> UploadFile:
    files = form.getlist(FILE)
    if not files:
        raise InvalidRequest("file: is required: the image or PDF to read, as curl's -F file=@page.png", param=FILE)
    if len(files) > 1:
        raise InvalidRequest("file: is given more than once; send one file per request", param=FILE)
    (file,) = files
    if not isinstance(file, UploadFile):
        raise InvalidRequest("file: must be an upload, as curl's -F file=@page.png", param=FILE)
    return file


def _fields(form: FormData) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(form.keys()):
        if name == FILE:
            continue
        values = form.getlist(name)
        if any(isinstance(value, UploadFile) for value in values):
            raise InvalidRequest(f"{name}: is an upload; the document is sent as {FILE}", param=name)
        if name == _TOKENS:
            fields[name] = values
        elif name == _PARTS:
            fields[name] = ",".join(map(str, values))
        elif len(values) > 1:
            raise InvalidRequest(f"{name}: is given more than once", param=name)
        else:
            (fields[name],) = values
    return fields
