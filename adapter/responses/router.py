from fastapi import APIRouter, Request, Response

from adapter.request_body import JsonRoute
from adapter.responses.answer import ResponseAnswer
from adapter.responses.schemas import ResponsesRequest
from adapter.responses.service import ResponseService
from adapter.wire import answer_responses

_EVENTS = 'event: response.created\ndata: {"type": "response.created", ...}\n\n'


def responses_router(service: ResponseService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["Generation"])

    @router.post(
        "/v1/responses",
        summary="Answer as OpenAI's Responses API does",
        response_model=None,
        responses=answer_responses(ResponseAnswer, _EVENTS),
    )
    async def create_response(body: ResponsesRequest, request: Request) -> Response:
        return await service.create(body, request)

    return router
