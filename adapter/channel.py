"""Where Triton is: its endpoints, and the connections to them."""

import asyncio
import logging
import socket
import time
from typing import Any

from grpc import StatusCode

from adapter.http2 import Call, CallFailed, Connection, call_headers

logger = logging.getLogger(__name__)

_DNS = "dns:///"
_CONNECT_TIMEOUT_S = 2.0
_RETRY_S = 1.0
"""How long an endpoint that is away is left alone while there are others."""
_LOOKUP_S = 30.0
"""How often a name's addresses are looked up anew."""


class Endpoint:
    """One address of Triton."""

    def __init__(self, host: str, port: str) -> None:
        self._host, self._port = host, port
        self.authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._tried_s = -_RETRY_S
        self._is_reachable = True

    @property
    def connection(self) -> Connection | None:
        """One that takes calls."""
        connection = self._connection
        return connection if connection is not None and connection.takes_calls else None

    async def connect(self) -> Connection:
        """Raises `CallFailed`. Those that ask at the same time share one attempt."""
        return await asyncio.shield(self._connecting or self._begin())

    def connect_soon(self) -> None:
        """Try in the background, if the last attempt is a while ago."""
        if self._connecting is None and time.monotonic() - self._tried_s >= _RETRY_S:
            self._begin()

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    def leave(self) -> None:
        """Take no more calls; those that run go on."""
        if self._connection is not None:
            self._connection.leave()

    def _begin(self) -> "asyncio.Task[Connection]":
        self._connecting = asyncio.create_task(self._connect())
        self._connecting.add_done_callback(self._connected)
        return self._connecting

    async def _connect(self) -> Connection:
        self._tried_s = time.monotonic()
        try:
            connection = await asyncio.wait_for(self._opened(), _CONNECT_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            reason = f"no answer within {_CONNECT_TIMEOUT_S:g} s" if isinstance(error, asyncio.TimeoutError) else error
            self._note(False, f"Triton at {self.authority} cannot be reached: {reason}")
            raise CallFailed(StatusCode.UNAVAILABLE, f"{self.authority}: {reason}") from error
        self._note(True, f"Triton at {self.authority} is back")
        self.leave()
        self._connection = connection
        return connection

    async def _opened(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, int(self._port))
        try:
            await connection.ready
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self, task: "asyncio.Task[Connection]") -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # seen: whoever waits for it has it too

    def _note(self, is_reachable: bool, text: str) -> None:
        if is_reachable != self._is_reachable:
            logger.warning(text)
        self._is_reachable = is_reachable


class Channel:
    """Spreads calls over endpoints: each goes to the next one that is there."""

    def __init__(self, triton_url: str) -> None:
        """`host:port`, several of them separated by commas, or `dns:///name:port` for all addresses of a name."""
        self._name = triton_url.removeprefix(_DNS) if triton_url.startswith(_DNS) else None
        urls = [] if self._name else [url.strip() for url in triton_url.split(",")]
        self._endpoints = {url: Endpoint(*_host_and_port(url)) for url in urls}
        self._turn = 0
        self._looked_up_s = -_LOOKUP_S
        self._lookup: asyncio.Task[None] | None = None

    async def call(self, path: str, message: bytes, timeout_s: float) -> Call:
        """Raises `CallFailed` where no endpoint is there."""
        endpoint, connection = await self.next()
        return connection.call(call_headers(endpoint.authority, path, timeout_s), message, timeout_s)

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()
        for endpoint in self._endpoints.values():
            endpoint.close()

    async def next(self) -> tuple[Endpoint, Connection]:
        """Whose turn it is. Raises as `call` does."""
        await self._look_up()
        self._turn += 1
        endpoints = list(self._endpoints.values())
        first = self._turn % len(endpoints) if endpoints else 0
        endpoints = endpoints[first:] + endpoints[:first]
        chosen = next(((endpoint, found) for endpoint in endpoints if (found := endpoint.connection)), None)
        if chosen:
            for endpoint in endpoints:
                if endpoint.connection is None:
                    endpoint.connect_soon()
            return chosen
        failure = CallFailed(StatusCode.UNAVAILABLE, f"{self._name} has no address")
        for endpoint in endpoints:
            try:
                return endpoint, await endpoint.connect()
            except CallFailed as error:
                failure = error
        raise failure

    async def _look_up(self) -> None:
        """Find the name's addresses again; only a channel without any waits for it."""
        if self._name is None or (self._endpoints and time.monotonic() - self._looked_up_s < _LOOKUP_S):
            return
        if self._lookup is None or self._lookup.done():
            self._looked_up_s = time.monotonic()
            self._lookup = asyncio.create_task(self._find(self._name))
        if not self._endpoints:
            await asyncio.shield(self._lookup)

    async def _find(self, name: str) -> None:
        host, port = _host_and_port(name)
        try:
            found = await _addresses(host, port)
        except OSError as error:
            logger.warning("%s cannot be looked up: %s", host, error)
            return
        addresses = {str(sockaddr[0]): None for *_, sockaddr in found}
        for gone in self._endpoints.keys() - addresses.keys():
            self._endpoints.pop(gone).leave()
        for address in addresses.keys() - self._endpoints.keys():
            self._endpoints[address] = Endpoint(address, port)


async def _addresses(host: str, port: str) -> list[Any]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _host_and_port(url: str) -> tuple[str, str]:
    host, _, port = url.rpartition(":")
    return host.strip("[]"), port
