from fastapi import APIRouter, Request, Response

from adapter.messages.answer import MessageAnswer, TokenCount
from adapter.messages.errors import FAILURE_DOCS
from adapter.messages.schemas import MessagesPrompt, MessagesRequest
from adapter.messages.service import MessageService
from adapter.request_body import JsonRoute
from adapter.wire import answer_responses

_EVENTS = 'event: message_start\ndata: {"type": "message_start", ...}\n\n'


def messages_router(service: MessageService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["Generation"])

    @router.post(
        "/v1/messages",
        summary="Answer as Anthropic's Messages API does",
        response_model=None,
        responses=answer_responses(MessageAnswer, _EVENTS) | {"default": FAILURE_DOCS},
    )
    async def create_message(body: MessagesRequest, request: Request) -> Response:
        return await service.create(body, request)

    @router.post(
        "/v1/messages/count_tokens",
        summary="How many tokens a message's prompt has",
        responses={"default": FAILURE_DOCS},
    )
    async def count_tokens(body: MessagesPrompt, request: Request) -> TokenCount:
        return await service.count(body, request)

    return router
