from fastapi import APIRouter

from adapter.errors import FAILURE_DOCS
from adapter.gpus.service import GpuList, GpuService


def gpus_router(service: GpuService) -> APIRouter:
    router = APIRouter(tags=["Models"], responses={"default": FAILURE_DOCS})

    @router.get("/v1/gpu/info", summary="The GPUs that the models run on")
    async def list_gpus() -> GpuList:
        return await service.list()

    return router
