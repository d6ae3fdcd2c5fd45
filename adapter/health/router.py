from typing import Any, TypeVar

from fastapi import APIRouter, Response

from adapter.health.service import HealthService, Healthy, Live, Ready, Unhealthy

T = TypeVar("T")


def health_router(service: HealthService) -> APIRouter:
    router = APIRouter(prefix="/health", tags=["Health"])
    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": Unhealthy}}

    @router.get("", summary="Whether the default model answers, and what is loaded", responses=unhealthy)
    async def health(response: Response) -> Healthy | Unhealthy:
        return _with_status(await service.check(), response)

    @router.get("/live", summary="Whether the adapter runs")
    async def live() -> Live:
        return Live()

    @router.get("/ready", summary="Whether Triton has the default model ready", responses=unhealthy)
    async def ready(response: Response) -> Ready | Unhealthy:
        return _with_status(await service.check_ready(), response)

    return router


def _with_status(health: T, response: Response) -> T:
    if isinstance(health, Unhealthy):
        response.status_code = 503
    return health
