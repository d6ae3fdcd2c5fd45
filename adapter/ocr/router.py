from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from adapter.errors import FAILURE_DOCS, InvalidRequest
from adapter.ocr.events import Format
from adapter.ocr.form import (
    OcrInput,
    ShellJsonRoute,
    form_body_docs,
    from_json,
    only_query,
    read_input,
    read_upload,
)
from adapter.ocr.schemas import BatchAnswer, BatchRequest, OcrAnswer, OcrRequest
from adapter.ocr.service import OcrService
from adapter.request_body import JSON
from adapter.sse import events_docs

StreamFormat = Annotated[
    Format | None,
    Query(alias="format", description="Of a stream: its text, or JSON events of text, blocks and pages, or of pages."),
]

_STREAM = events_docs("data: Some text\n\ndata: [DONE]\n\n")


async def _uploaded(request: Request) -> AsyncIterator[OcrInput]:
    given = await read_upload(request)
    with given.source:
        yield given


async def _given(request: Request) -> AsyncIterator[OcrInput]:
    given = await read_input(request)
    with given.source:
        yield given


def ocr_router(service: OcrService) -> APIRouter:
    router = APIRouter(
        prefix="/ocr",
        route_class=ShellJsonRoute,
        tags=["OCR"],
        responses={"default": FAILURE_DOCS},
    )
    whole = _answer(OcrAnswer, "The whole answer; with `stream`, the text as server-sent events.", _STREAM)
    query = [Depends(only_query("format"))]

    @router.post("", summary="Read a document sent as base64", responses=whole, dependencies=query)
    async def read(body: OcrRequest, request: Request, stream_format: StreamFormat = None) -> Response:
        return await service.read(await from_json(body), request, stream_format)

    @router.post(
        "/file",
        summary="Read an uploaded document",
        responses=whole,
        dependencies=query,
        openapi_extra=_body(form_body_docs()),
    )
    async def read_file(
        given: Annotated[OcrInput, Depends(_uploaded)], request: Request, stream_format: StreamFormat = None
    ) -> Response:
        return await service.read(given, request, stream_format)

    either = form_body_docs() | {JSON: {"schema": {"$ref": "#/components/schemas/OcrRequest"}}}
    streamed: dict[int | str, dict[str, Any]] = {200: {"description": "Server-sent events.", "content": _STREAM}}

    @router.post(
        "/stream",
        summary="Read a document as it streams",
        responses=streamed,
        dependencies=query,
        openapi_extra=_body(either),
    )
    async def stream(
        given: Annotated[OcrInput, Depends(_given)], request: Request, stream_format: StreamFormat = None
    ) -> Response:
        if "stream" in given.fields.model_fields_set and not given.fields.stream:
            raise InvalidRequest("stream: this endpoint always streams; leave it out", param="stream")
        return service.stream(given, request, stream_format)

    @router.post(
        "/batch",
        summary="Read many documents",
        responses=_answer(BatchAnswer, "Every item's answer or error, in order.", {}),
        dependencies=[Depends(only_query())],
    )
    async def read_batch(body: BatchRequest, request: Request) -> Response:
        return await service.read_batch(body, request)

    return router


def _answer(model: type, description: str, content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "description": description, "content": content}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}
