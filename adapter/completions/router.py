from fastapi import APIRouter, Request, Response

from adapter.completions.schemas import Completion, CompletionRequest
from adapter.completions.service import CompletionService
from adapter.request_body import JsonRoute
from adapter.wire import answer_responses


def completions_router(service: CompletionService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["Generation"])

    @router.post(
        "/v1/completions",
        summary="Complete prompts",
        response_model=None,
        responses=answer_responses(Completion),
    )
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        return await service.create(body, request)

    return router
