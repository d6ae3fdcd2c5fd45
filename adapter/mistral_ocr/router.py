from fastapi import APIRouter, Request, Response

from adapter.errors import FAILURE_DOCS
from adapter.mistral_ocr.schemas import MistralOcrAnswer, MistralOcrRequest
from adapter.mistral_ocr.service import MistralOcrService
from adapter.request_body import JsonRoute


def mistral_ocr_router(service: MistralOcrService) -> APIRouter:
    router = APIRouter(route_class=JsonRoute, tags=["OCR"], responses={"default": FAILURE_DOCS})

    @router.post(
        "/v1/ocr",
        summary="Read a document, in Mistral's shape",
        response_model=None,
        responses={200: {"model": MistralOcrAnswer}},
    )
    async def read(body: MistralOcrRequest, request: Request) -> Response:
        return await service.read(body, request)

    return router
