"""A real adapter behind a real HTTP server, and a fake Triton behind it, in one thread beside the tests."""

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
import pytest_asyncio
import uvicorn
import uvloop

from adapter.app import create_app
from adapter.settings import Settings
from tests.adapter.cli_server import OcrServerFake, serving
from tests.adapter.fake_triton import FakeTriton

WAIT_S = 30


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)


class Adapter:
    """`create_app` on a free port."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self._loop = loop
        # Adapters with one folder for their jobs would run each other's, and let in each other's keys.
        self._folder = tempfile.TemporaryDirectory(prefix="adapter-")
        own = {"jobs_dir": f"{self._folder.name}/jobs", "keys_db": f"{self._folder.name}/keys.db"}
        missing = {name: path for name, path in own.items() if name not in settings.model_fields_set}
        settings = settings.model_copy(update=missing)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.app = create_app(settings)
        config = uvicorn.Config(
            self.app,
            http="httptools",
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self._serving = asyncio.run_coroutine_threadsafe(self.server.serve(sockets=[listener]), loop.loop)

    def stop(self) -> None:
        self.server.should_exit = True
        self._serving.result(WAIT_S)
        self._folder.cleanup()


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(scope="session")
def session_triton(loop: Loop) -> Iterator[FakeTriton]:
    triton = FakeTriton(loop.loop)
    loop.do(triton.start())
    yield triton
    loop.do(triton.stop())


@pytest.fixture(scope="session")
def session_adapter(loop: Loop, session_triton: FakeTriton) -> Iterator[Adapter]:
    adapter = Adapter(loop, Settings(triton_url=f"127.0.0.1:{session_triton.port}"))
    yield adapter
    adapter.stop()


@pytest.fixture
def triton(session_triton: FakeTriton) -> FakeTriton:
    session_triton.reset()
    return session_triton


@pytest.fixture
def http(session_adapter: Adapter, triton: FakeTriton) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=session_adapter.url, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def sdk(session_adapter: Adapter, triton: FakeTriton) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{session_adapter.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def claude(session_adapter: Adapter, triton: FakeTriton) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=session_adapter.url, api_key="none", max_retries=0, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def serve(loop: Loop, triton: FakeTriton) -> Iterator[Callable[..., httpx.Client]]:
    """Starts one more adapter with settings of its own; gives a client of it."""
    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> httpx.Client:
            adapter = Adapter(loop, Settings(**{"triton_url": f"127.0.0.1:{triton.port}"} | settings))
            stack.callback(adapter.stop)
            return stack.enter_context(httpx.Client(base_url=adapter.url, timeout=WAIT_S))

        yield start


@pytest_asyncio.fixture
async def async_sdk(session_adapter: Adapter, triton: FakeTriton) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{session_adapter.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=WAIT_S) as client:
        yield client


@pytest.fixture
def server() -> Iterator[OcrServerFake]:
    """What the command-line client talks to."""
    with serving() as fake:
        yield fake
