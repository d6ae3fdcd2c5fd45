from fastapi import APIRouter, Request, Response

from adapter.chat.answer import ChatCompletion
from adapter.chat.schemas import ChatRequest
from adapter.chat.service import ChatService
from adapter.request_body import JsonRoute
from adapter.wire import answer_responses


def chat_router(service: ChatService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["Generation"])

    @router.post(
        "/v1/chat/completions",
        summary="Answer a chat",
        response_model=None,
        responses=answer_responses(ChatCompletion),
    )
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        return await service.create(body, request)

    return router
