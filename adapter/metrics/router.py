from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from adapter.metrics.recorder import Metrics


def metrics_router(metrics: Metrics) -> APIRouter:
    router = APIRouter(tags=["Health"])

    # Not async: several workers' numbers are files.
    @router.get("/metrics", summary="For Prometheus", response_class=Response)
    def read() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
