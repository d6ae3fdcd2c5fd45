from fastapi import APIRouter

from adapter.errors import FAILURE_DOCS
from adapter.models.service import Model, ModelCatalog, ModelList


def models_router(catalog: ModelCatalog) -> APIRouter:
    router = APIRouter(prefix="/v1/models", tags=["Models"], responses={"default": FAILURE_DOCS})

    @router.get("", summary="Models that are loaded")
    async def list_models() -> ModelList:
        return await catalog.list()

    router.add_api_route("/", list_models, include_in_schema=False)

    @router.get("/{model_id:path}", summary="One model")
    async def get_model(model_id: str) -> Model:
        return await catalog.get(model_id)

    return router
