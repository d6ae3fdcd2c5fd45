from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from adapter.errors import ErrorResponse, InvalidRequest, UnsupportedMediaType
from adapter.ocr.events import Format
from adapter.ocr.form import JSON, JsonRoute, form_body_docs, from_json, media_type, read_input, read_upload
from adapter.ocr.schemas import BatchAnswer, BatchRequest, OcrAnswer, OcrRequest
from adapter.ocr.service import OcrService

StreamFormat = Annotated[Format | None, Query(alias="format", description="Of a stream: its text, or JSON events.")]

_FAILURE = {"model": ErrorResponse, "description": "Refused or failed; the status and `code` say how."}
_STREAM = {"text/event-stream": {"schema": {"type": "string"}, "example": "data: Some text\n\ndata: [DONE]\n\n"}}


def ocr_router(service: OcrService) -> APIRouter:
    router = APIRouter(prefix="/ocr", route_class=JsonRoute, tags=["OCR"], responses={"default": _FAILURE})
    whole = _answer(OcrAnswer, "The whole answer; with `stream`, the text as server-sent events.", _STREAM)

    @router.post("", summary="Read a document sent as base64", responses=whole, dependencies=[Depends(_json_only)])
    async def read(body: OcrRequest, request: Request, stream_format: StreamFormat = None) -> Response:
        return await service.read(await from_json(body), request, stream_format)

    @router.post("/file", summary="Read an uploaded document", responses=whole, openapi_extra=_body(form_body_docs()))
    async def read_file(request: Request, stream_format: StreamFormat = None) -> Response:
        return await service.read(await read_upload(request), request, stream_format)

    either = form_body_docs() | {JSON: {"schema": {"$ref": "#/components/schemas/OcrRequest"}}}
    streamed: dict[int | str, dict[str, Any]] = {200: {"description": "Server-sent events.", "content": _STREAM}}

    @router.post("/stream", summary="Read a document as it streams", responses=streamed, openapi_extra=_body(either))
    async def stream(request: Request, stream_format: StreamFormat = None) -> Response:
        given = await read_input(request)
        if "stream" in given.fields.model_fields_set and not given.fields.stream:
            raise InvalidRequest("stream: this endpoint always streams; leave it out", param="stream")
        return service.stream(given, request, stream_format)

    @router.post(
        "/batch",
        summary="Read many documents",
        responses=_answer(BatchAnswer, "Every item's answer or error, in order.", {}),
        dependencies=[Depends(_json_only)],
    )
    async def read_batch(body: BatchRequest, request: Request) -> Response:
        return await service.read_batch(body, request)

    return router


def _json_only(request: Request) -> None:
    if media_type(request) != JSON:
        raise UnsupportedMediaType(f"The body must be JSON ({JSON}); a form with a file goes to /ocr/file.")


def _answer(model: type, description: str, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": description, "content": content}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}
