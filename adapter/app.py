"""Puts the adapter together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from adapter.access.middleware import AccessControl
from adapter.access.rates import RATE_HEADERS
from adapter.access.router import balance_router
from adapter.access.rules import Rules
from adapter.access.service import AccessService
from adapter.base_urls import BaseUrls
from adapter.chat.router import chat_router
from adapter.chat.service import ChatService
from adapter.completions.router import completions_router
from adapter.completions.service import CompletionService
from adapter.documents.reader import DocumentReader
from adapter.documents.remote import ImageFetcher
from adapter.embeddings.router import embeddings_router
from adapter.embeddings.service import EmbeddingService
from adapter.error_handlers import install_handlers
from adapter.gpus.router import gpus_router
from adapter.gpus.service import GpuService
from adapter.health.router import health_router
from adapter.health.service import HealthService
from adapter.jobs.router import jobs_router
from adapter.jobs.service import JobService
from adapter.limits import BodyLimit
from adapter.messages.router import messages_router
from adapter.messages.service import MessageService
from adapter.metrics.recorder import Metrics, MetricsMiddleware
from adapter.metrics.router import metrics_router
from adapter.mistral_ocr.router import mistral_ocr_router
from adapter.mistral_ocr.service import MistralOcrService
from adapter.models.router import models_router
from adapter.models.service import ModelCatalog
from adapter.ocr.reader import PageReader
from adapter.ocr.router import ocr_router
from adapter.ocr.service import OcrService
from adapter.request_log import RequestLog, RunningRequests
from adapter.responses.router import responses_router
from adapter.responses.service import ResponseService
from adapter.settings import Settings, load_settings
from adapter.sse import StraightEvents
from adapter.tokens.router import tokens_router
from adapter.tokens.service import TokenService
from adapter.triton_client import TritonClient


def create_app(settings: Settings | None = None) -> FastAPI:
    """Without `settings` they come from the environment, as in a worker process of its own."""
    settings = load_settings() if settings is None else settings
    access = AccessService(settings)
    metrics = Metrics()
    triton = TritonClient(settings)
    catalog = ModelCatalog(triton, settings)
    documents = DocumentReader(settings)
    fetcher = ImageFetcher(settings)
    reader = PageReader(triton, settings)
    jobs = JobService(triton, catalog, reader, documents, access.accounts, settings)
    chats = ChatService(triton, catalog, settings, documents, fetcher)
    tokens = TokenService(triton, catalog)
    running = RunningRequests()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await access.start()
        catalog.start()
        await jobs.start()
        yield
        await running.wait(timeout_s=1)
        await jobs.stop()
        await documents.stop()
        reader.stop()
        await catalog.stop()
        triton.stop()
        await access.stop()

    routers = (
        chat_router(chats),
        responses_router(ResponseService(chats, settings)),
        messages_router(MessageService(chats, tokens, settings)),
        completions_router(CompletionService(triton, catalog, settings)),
        embeddings_router(EmbeddingService(triton, catalog, settings)),
        tokens_router(tokens),
        ocr_router(OcrService(reader, documents, catalog, settings)),
        jobs_router(jobs),
        mistral_ocr_router(MistralOcrService(catalog, settings, documents, fetcher, reader)),
        models_router(catalog),
        gpus_router(GpuService(catalog)),
        health_router(HealthService(triton, catalog)),
        balance_router(access.ledger),
        metrics_router(metrics),
    )
    # FastAPI, but /docs and /redoc load their scripts from here and not from the internet.
    app = FastAPIOffline(
        title="DeepSeek on Triton",
        description="The OpenAI API for DeepSeek's models on Triton Inference Server, and OCR.",
        lifespan=lifespan,
        # Not with `include_router`: so they are looked through before the docs' own, and each once.
        routes=[route for router in routers for route in router.routes],
    )
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    install_handlers(app)
    _add_middleware(app, settings, access, metrics, running)
    return app


def _add_middleware(
    app: FastAPI, settings: Settings, access: AccessService, metrics: Metrics, running: RunningRequests
) -> None:
    """The last is the outermost: pages of other origins may ask without a key, and whatever is refused is logged."""
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, max_document_bytes=settings.max_document_body_bytes
    )
    app.add_middleware(AccessControl, keyring=access.keyring, meter=access.meter, rules=Rules(settings))
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(BaseUrls)
    app.add_middleware(RequestLog, running=running)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["Location", "Retry-After", "x-request-id", *RATE_HEADERS],
    )
    app.add_middleware(StraightEvents)
