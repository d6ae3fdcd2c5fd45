"""An adapter of the OCR endpoints alone, whose jobs have a clock and a pace that a test chooses."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import sseclient
import uvicorn
from fastapi import FastAPI

from adapter.access.accounts import Accounts
from adapter.access.async_store import AsyncKeyStore
from adapter.access.keyring import Keyring
from adapter.access.keys import KeyLimits
from adapter.access.ledger import Ledger
from adapter.documents.reader import DocumentReader
from adapter.error_handlers import install_handlers
from adapter.jobs.reading import Pauses
from adapter.jobs.router import jobs_router
from adapter.jobs.runner import Pace
from adapter.jobs.service import JobService
from adapter.limits import BodyLimit
from adapter.models.service import ModelCatalog
from adapter.ocr.reader import PageReader
from adapter.ocr.router import ocr_router
from adapter.ocr.service import OcrService
from adapter.request_log import RequestLog, RunningRequests
from adapter.settings import Settings
from adapter.triton_client import TritonClient
from tests.adapter.conftest import WAIT_S, Loop
from tests.adapter.fake_triton import FakeTriton, Gate
from tests.adapter.ocr_pages import by_page, tiff

QUICK = Pace(lease_s=600, poll_s=0.01, clean_s=0.01)
QUICK_PAUSES = Pauses(first_s=0.01, longest_s=0.02)


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds


def jobs_app(
    settings: Settings, clock: Callable[[], float] = time.time, pace: Pace = QUICK, pauses: Pauses = QUICK_PAUSES
) -> FastAPI:
    triton = TritonClient(settings)
    catalog = ModelCatalog(triton, settings)
    documents = DocumentReader(settings)
    reader = PageReader(triton, settings)
    keys = AsyncKeyStore(Path(settings.jobs_dir) / "keys.db")
    accounts = Accounts(Keyring(keys, ()), Ledger(keys, KeyLimits()))
    jobs = JobService(triton, catalog, reader, documents, accounts, settings, clock=clock, pace=pace, pauses=pauses)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await jobs.start()
        yield
        await jobs.stop()
        await documents.stop()
        triton.stop()

    app = FastAPI(lifespan=lifespan)
    app.include_router(ocr_router(OcrService(reader, documents, catalog, settings)))
    app.include_router(jobs_router(jobs))
    install_handlers(app)
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, max_document_bytes=settings.max_document_body_bytes
    )
    app.add_middleware(RequestLog, running=RunningRequests())
    return app


class JobsAdapter:
    """`jobs_app` on a free port."""

    def __init__(self, loop: Loop, app: FastAPI) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=WAIT_S)
        config = uvicorn.Config(app, ws="none", access_log=False, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.run_coroutine_threadsafe(self._server.serve(sockets=[listener]), loop.loop)
        self._stopped = False

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.http.close()
            self._server.should_exit = True
            self._serving.result(WAIT_S)


class Servers:
    """Starts adapters on one folder of jobs, behind one Triton."""

    def __init__(self, loop: Loop, triton: FakeTriton, folder: Path) -> None:
        self._loop = loop
        self._settings = {"triton_url": f"127.0.0.1:{triton.port}", "jobs_dir": str(folder)}
        self._started: list[JobsAdapter] = []

    def start(self, clock: Clock | None = None, pace: Pace = QUICK, **settings: Any) -> JobsAdapter:
        app = jobs_app(Settings(**self._settings | settings), clock or time.time, pace)
        self._started.append(JobsAdapter(self._loop, app))
        return self._started[-1]

    def stop(self) -> None:
        for adapter in self._started:
            adapter.stop()


def wait_at_page(triton: FakeTriton, first: int, last: int) -> Gate:
    """The pages from `first` to `last` are not read before the gate is open."""
    gate = Gate(triton.loop)
    triton.reply = by_page(gates={number: gate for number in range(first, last + 1)})
    return gate


def create(http: httpx.Client, num_pages: int, name: str = "scan.tiff", **fields: Any) -> Any:
    """The new job."""
    form = {"frames": "all"} | fields
    response = http.post("/ocr/jobs", files={"file": (name, tiff(num_pages))}, data=form)
    assert response.status_code == 202, response.text
    return response.json()


def events(http: httpx.Client, job: Any, **options: Any) -> Iterable[tuple[str | None, Any]]:
    """Ids and data, up to `[DONE]` or an error."""
    with http.stream("GET", f"{job['url']}/events", **options) as response:
        assert response.status_code == 200, response.read()
        for event in sseclient.SSEClient(response.iter_bytes()).events():
            if event.data == "[DONE]":
                return
            yield event.id, json.loads(event.data)


def wait_for_page(http: httpx.Client, job: Any, number: int) -> None:
    next(event for _, event in events(http, job) if event["type"] == "page" and event["page"] == number)


def wait_for_end(http: httpx.Client, job: Any) -> Any:
    """The job as it ended."""
    *_, (_, last) = events(http, job)
    assert last["type"] == "status"
    return last["job"]


def page_texts(http: httpx.Client, job: Any) -> list[tuple[int, str]]:
    pages = http.get(f"{job['url']}/pages").json()["pages"]
    return [(page["page"], page["text"]) for page in pages]


def expected_texts(num_pages: int) -> list[tuple[int, str]]:
    return [(number, f"page {number}") for number in range(1, num_pages + 1)]


def until(condition: Callable[[], bool]) -> None:
    """What nothing announces is looked at until it is so."""
    pause = threading.Event()
    for _ in range(WAIT_S * 100):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to be")
