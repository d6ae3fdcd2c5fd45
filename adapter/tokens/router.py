from fastapi import APIRouter, Request

from adapter.errors import FAILURE_DOCS
from adapter.request_body import JsonRoute
from adapter.tokens.schemas import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from adapter.tokens.service import TokenService


def tokens_router(service: TokenService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["Embeddings and tokens"], responses={"default": FAILURE_DOCS})

    @router.post("/tokenize", summary="The tokens of a text or a chat")
    async def tokenize(body: TokenizeRequest, request: Request) -> Tokenized:
        return await service.tokenize(body, request)

    @router.post("/detokenize", summary="The text of tokens")
    async def detokenize(body: DetokenizeRequest, request: Request) -> Detokenized:
        return await service.detokenize(body, request)

    return router
