"""What Prometheus reads: requests, their seconds and tokens, and why some were refused."""

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter.errors import ClientDisconnected, as_api_error
from adapter.request_log import RequestRecord, record_of
from adapter.tensors import Usage

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The library's variable: where several worker processes keep their numbers, so that each can tell the sum."""

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_NO_ROUTE = "none"
"""Of what was refused before it reached an endpoint, or has none: paths are the clients' to choose, labels are not."""


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.running = Gauge(
            "adapter_requests_in_flight", "Requests now running.", registry=registry, multiprocess_mode="livesum"
        )
        self.requests = Counter(
            "adapter_requests", "Requests by endpoint and status.", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "adapter_request_seconds", "From request to end of answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.errors = Counter(
            "adapter_request_errors", "Requests refused or failed, by the error's code.", ["code"], registry=registry
        )
        self.prompt_tokens = Counter("adapter_prompt_tokens", "Of requests that have ended.", registry=registry)
        self.completion_tokens = Counter("adapter_completion_tokens", "Likewise.", registry=registry)

    def record(self, scope: Scope, status: int, record: RequestRecord, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(duration_s)
        if record.error_code is not None:
            self.errors.labels(record.error_code).inc()
        usage = record.usage or Usage()
        self.prompt_tokens.inc(usage.num_input_tokens)
        self.completion_tokens.inc(usage.num_output_tokens)

    def text(self) -> bytes:
        """In Prometheus's own format, of all worker processes."""
        folder = os.environ.get(SHARED_FOLDER)
        if folder is None:
            return generate_latest(self._registry)
        _forget_dead_workers(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)


class MetricsMiddleware:
    """ASGI middleware, around everything that knows the application's own paths."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = ClientDisconnected.status  # until there is an answer

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.running.track_inprogress():
            try:
                await self._app(scope, receive, send_noting_status)
            except BaseException as error:
                if status == ClientDisconnected.status:
                    status = as_api_error(error).status
                raise
            finally:
                self._metrics.record(scope, status, record_of(scope), time.perf_counter() - started_s)


def _forget_dead_workers(folder: Path) -> None:
    """What a worker that died had running does not run any more."""
    for file in folder.glob("gauge_livesum_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid, str(folder))
