"""Endpoints that are away, silent, new or gone: calls go to those that are there."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from grpc import StatusCode
from tritonclient.grpc import service_pb2 as messages

from adapter.channel import Channel
from adapter.http2 import CallFailed
from tests.adapter.fake_triton import FakeTriton

PATH = "/inference.GRPCInferenceService/ServerLive"


class Counted(FakeTriton):
    """Knows how many calls it got."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.num_calls = 0

    async def ServerLive(self, request: Any, context: Any) -> Any:
        self.num_calls += 1
        return await super().ServerLive(request, context)


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    servers: list[Counted] = []

    async def start(host: str = "127.0.0.1", port: int = 0) -> Counted:
        server = Counted()
        server.host, server.port = host, port
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


async def ask(channel: Channel) -> None:
    call = await channel.call(PATH, b"", timeout_s=10)
    data = await call.read()
    assert data is not None
    assert messages.ServerLiveResponse.FromString(data).live
    assert await call.read() is None


async def failure(channel: Channel) -> CallFailed:
    with pytest.raises(CallFailed) as raised:
        await ask(channel)
    assert raised.value.code == StatusCode.UNAVAILABLE
    return raised.value


async def test_calls_take_turns(start: Start) -> None:
    first, second = await start(), await start()
    channel = Channel(f"127.0.0.1:{first.port}, localhost:{second.port}")
    await ask(channel)
    while not (first.num_calls and second.num_calls):  # the other one is connected to in the background
        await ask(channel)
    before = first.num_calls
    for _ in range(6):
        await ask(channel)
    assert first.num_calls - before == 3
    channel.close()


async def test_an_endpoint_that_comes_back(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("adapter.channel._RETRY_S", 0.0)
    first, second = await start(), await start()
    channel = Channel(f"127.0.0.1:{first.port},127.0.0.1:{second.port}")
    while not (first.num_calls and second.num_calls):
        await ask(channel)
    await first.stop()
    for _ in range(20):
        await ask(channel)
    again = await start(port=first.port)
    while not again.num_calls:
        await ask(channel)
    channel.close()
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said[0].startswith(f"Triton at 127.0.0.1:{first.port} cannot be reached: ")
    assert said[1:] == [f"Triton at 127.0.0.1:{first.port} is back"]


async def test_nobody_is_there() -> None:
    channel = Channel("127.0.0.1:1")
    assert "127.0.0.1:1: " in (await failure(channel)).details
    channel.close()
    nowhere = Channel("dns:///no-such-host.invalid:1")
    assert (await failure(nowhere)).details == "no-such-host.invalid:1 has no address"
    nowhere.close()


async def test_a_peer_that_never_speaks(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.channel._CONNECT_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        alone = Channel(f"127.0.0.1:{port}")
        assert "no answer within" in (await failure(alone)).details
        alone.close()
        other = await start()
        channel = Channel(f"127.0.0.1:{port},127.0.0.1:{other.port}")
        for _ in range(3):
            await ask(channel)
        channel.close()


async def test_calls_that_come_at_once_share_a_connection(start: Start) -> None:
    server = await start()
    channel = Channel(f"127.0.0.1:{server.port}")
    calls = await asyncio.gather(*(channel.call(PATH, b"", timeout_s=10) for _ in range(5)))
    assert sorted(call.stream_id for call in calls) == [1, 3, 5, 7, 9]
    channel.close()


async def test_more_calls_than_a_connection_takes(start: Start) -> None:
    server = await start()
    channel = Channel(f"127.0.0.1:{server.port}")
    await ask(channel)
    connection = next(iter(channel._endpoints.values()))._connection
    assert connection is not None
    connection._max_calls = 0
    await ask(channel)
    assert next(iter(channel._endpoints.values()))._connection is not connection
    channel.close()


async def test_a_name_whose_addresses_change(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.channel._LOOKUP_S", 0.0)
    first = await start()
    second = await start("127.0.0.2", first.port)
    addresses = ["127.0.0.1"]

    async def look_up(*_: Any, **__: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror("gone")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr("adapter.channel._addresses", look_up)
    channel = Channel(f"dns:///triton:{first.port}")
    for _ in range(4):
        await ask(channel)
    assert (first.num_calls, second.num_calls) == (4, 0)
    addresses.append("127.0.0.2")
    while not second.num_calls:
        await ask(channel)
    addresses.remove("127.0.0.1")
    await ask(channel)
    while len(channel._endpoints) > 1:
        await asyncio.sleep(0)
    before = first.num_calls
    addresses.clear()  # what is known stays so while the name cannot be looked up
    for _ in range(4):
        await ask(channel)
    assert first.num_calls == before
    channel.close()
