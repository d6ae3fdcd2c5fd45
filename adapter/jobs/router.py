import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from adapter.errors import FAILURE_DOCS, InvalidRequest
from adapter.jobs.schemas import (
    EventsQuery,
    JobDeleted,
    JobList,
    JobPages,
    JobStatus,
    ListQuery,
    PagesQuery,
    ResultQuery,
)
from adapter.jobs.service import URL, JobService
from adapter.ocr.form import form_body_docs, only_query
from adapter.ocr.schemas import OcrAnswer
from adapter.request_body import JSON
from adapter.sse import events_docs

_BODY = form_body_docs() | {JSON: {"schema": {"$ref": "#/components/schemas/OcrRequest"}}}
_EVENTS = events_docs('id: 1\ndata: {"type": "page", "page": 1, "status": "done"}\n\n')
_PAGE_NUMBER = re.compile(r"[0-9]{1,9}")


def jobs_router(service: JobService) -> APIRouter:
    router = APIRouter(prefix=URL, tags=["OCR jobs"], responses={"default": FAILURE_DOCS})

    @router.post(
        "",
        summary="Begin to read a large document",
        status_code=202,
        dependencies=[Depends(only_query())],
        openapi_extra={"requestBody": {"required": True, "content": _BODY}},
    )
    async def create(request: Request, response: Response) -> JobStatus:
        job = await service.create(request)
        response.headers["location"] = job.url
        return job

    @router.get("", summary="List jobs, newest first")
    async def list_jobs(query: Annotated[ListQuery, Query()], request: Request) -> JobList:
        return await service.list(query.limit, query.after, request)

    async def check_owner(job_id: str, request: Request) -> None:
        await service.check_owner(job_id, request)

    own = [Depends(check_owner)]

    @router.get("/{job_id}", summary="How far a job is", dependencies=own)
    async def get(job_id: str) -> JobStatus:
        return await service.get(job_id)

    @router.delete("/{job_id}", summary="Cancel a job that has not ended, delete one that has", dependencies=own)
    async def end(job_id: str) -> JobStatus | JobDeleted:
        return await service.end(job_id)

    @router.get(
        "/{job_id}/pages",
        summary="Pages that are done",
        dependencies=own,
        response_model=None,
        responses=_answer(JobPages),
    )
    async def pages(job_id: str, query: Annotated[PagesQuery, Query()]) -> Response:
        return await service.pages(job_id, query.first, query.limit)

    @router.get(
        "/{job_id}/result",
        summary="The whole result",
        dependencies=own,
        response_model=None,
        responses=_answer(OcrAnswer),
    )
    async def result(job_id: str, query: Annotated[ResultQuery, Query()], request: Request) -> Response:
        return await service.result(job_id, query.format, request)

    @router.get(
        "/{job_id}/events",
        summary="A job's progress as it goes on",
        dependencies=own,
        response_model=None,
        responses={200: {"description": "Server-sent events.", "content": _EVENTS}},
    )
    async def events(
        job_id: str, query: Annotated[EventsQuery, Query()], last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        return await service.events(job_id, query.first if last_event_id is None else _after(last_event_id))

    return router


def _after(last_event_id: str) -> int:
    if _PAGE_NUMBER.fullmatch(last_event_id) is None:
        raise InvalidRequest("Last-Event-ID: must be the id of a job's event, a page number", param="Last-Event-ID")
    return int(last_event_id) + 1


def _answer(model: type) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model}}
