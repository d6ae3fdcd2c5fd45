from fastapi import APIRouter, Request, Response

from adapter.embeddings.schemas import EmbeddingList, EmbeddingRequest
from adapter.embeddings.service import EmbeddingService
from adapter.errors import FAILURE_DOCS
from adapter.request_body import JsonRoute


def embeddings_router(service: EmbeddingService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["Embeddings and tokens"])

    @router.post(
        "/v1/embeddings",
        summary="Embed texts",
        response_model=None,
        responses={200: {"model": EmbeddingList}, "default": FAILURE_DOCS},
    )
    async def create_embeddings(body: EmbeddingRequest, request: Request) -> Response:
        return await service.create(body, request)

    return router
