"""Reads an image or a PDF from its URL: a data URL, or one that is fetched, from public addresses only."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import httpx

from adapter.documents.media import decode_base64
from adapter.errors import ApiError, InvalidRequest, TooLarge
from adapter.settings import Settings

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_MAX_ADDRESSES = 4
_HEADERS = {"Accept": "image/*, application/pdf", "Accept-Encoding": "identity", "User-Agent": "deepseek-on-triton"}

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED = [
    ipaddress.ip_network(network)
    for network in (
        # They hold an IPv4 address that is reached through a gateway: 6to4, Teredo, NAT64.
        *("2002::/16", "192.88.99.0/24", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48"),
        # Where Azure and Oracle's cloud serve the machines in them.
        *("168.63.129.16/32", "192.0.0.0/24"),
        # Not public either, which older Pythons don't know: documentation and segment routing.
        *("3fff::/20", "5f00::/16"),
    )
]


def is_public(address: Address, port: int) -> bool:
    """Whether an image may be fetched from there: a global unicast address, and a port of the web."""
    if port not in _PORTS.values() or not address.is_global:
        return False
    if address.is_multicast or address.is_reserved or address.is_link_local or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.is_site_local):
        return False
    return not any(address in network for network in _REFUSED)


@dataclass(frozen=True, slots=True)
class _Answer:
    """Either `redirect` or `data` counts."""

    data: bytes
    media_type: str | None
    redirect: httpx.URL | None = None


class ImageFetcher:
    """One connection per request, to exactly the address that was checked; no cookies, no proxies."""

    def __init__(self, settings: Settings, *, allows: Callable[[Address, int], bool] = is_public) -> None:
        """`allows` says which addresses and ports may be connected to."""
        self._settings = settings
        self._allows = allows
        self._tls: ssl.SSLContext | None = None

    async def fetch(self, url: str, field: str) -> tuple[bytes, str | None]:
        """What an http(s) URL answers, and the media type that it declares.

        Raises:
            InvalidRequest: fetching is off, the URL isn't one that is fetched, or it doesn't answer with 200 in time.
            TooLarge: it answers with more than `max_document_body_bytes`, as much as a data URL may hold.
        """
        if not self._settings.fetch_images:
            sentence = "is not fetched: this server takes data URLs only (its setting ADAPTER_FETCH_IMAGES is off)"
            raise InvalidRequest(f"{field}: {sentence}; send data:image/png;base64,…", param=field)
        fetching = asyncio.create_task(self._follow(url, field))
        try:
            await asyncio.wait((fetching,), timeout=self._settings.fetch_timeout_s)
            if not fetching.done():
                raise _refuse(field, f"can't be fetched in {self._settings.fetch_timeout_s:g} s")
            return fetching.result()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise _refuse(field, "can't be fetched", cause=repr(error)) from error
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Raises `OSError`; `UnicodeError` and `ValueError` for what can't be a host."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(ipaddress.ip_address(address[0]) for *_, address in found))

    async def _follow(self, url: str, field: str) -> tuple[bytes, str | None]:
        target = httpx.URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._get(target, await self._checked_addresses(target, field), field)
            if answer.redirect is None:
                return answer.data, answer.media_type
            target = answer.redirect
        raise _refuse(field, f"is redirected more than {_MAX_REDIRECTS} times")

    async def _checked_addresses(self, url: httpx.URL, field: str) -> list[Address]:
        if url.scheme not in _PORTS or not url.host:
            raise _refuse(field, "must be an http(s) URL or a data URL, and redirect to no other")
        if url.userinfo:
            raise _refuse(field, "must not hold a name or a password")
        host = url.raw_host.decode("ascii")
        port = url.port or _PORTS[url.scheme]
        try:
            addresses = await self.resolve(host, port)
        except (OSError, ValueError) as error:
            raise _refuse(field, f"the host {host[:255]} is not known", cause=repr(error)) from error
        # One bad address condemns the host: which of them would be used is up to it.
        if not addresses or not all(self._allows(address, port) for address in addresses):
            raise _refuse(field, "only public addresses are fetched from, on ports 80 and 443")
        return addresses[:_MAX_ADDRESSES]

    async def _get(self, url: httpx.URL, addresses: list[Address], field: str) -> _Answer:
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        timeout_s = self._settings.fetch_timeout_s
        timeout = httpx.Timeout(timeout_s, connect=timeout_s / (len(addresses) + 1))  # time is left after the last
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=timeout) as client:
            response = await _send(client, url, addresses)
            try:
                return await self._read(url, response, field)
            finally:
                await response.aclose()

    async def _read(self, url: httpx.URL, response: httpx.Response, field: str) -> _Answer:
        location = response.headers.get("location")
        if response.status_code in _REDIRECTS and location:
            return _Answer(b"", None, url.join(location))
        if response.status_code != 200:
            raise _refuse(field, f"answers with status {response.status_code} instead of 200")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _refuse(field, "answers in a compressed encoding that wasn't asked for")
        max_bytes = self._settings.max_document_body_bytes
        data = bytearray()
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > max_bytes:
                sentence = f"is larger than the {max_bytes} bytes that are fetched"
                raise TooLarge(f"{field}: {sentence}; send it smaller", param=field)
        return _Answer(bytes(data), response.headers.get("content-type"))


async def read_url(url: str, field: str, fetcher: ImageFetcher) -> tuple[bytes, str | None]:
    """What is at a data URL or, where the server allows it, an http(s) URL; and the media type that it declares."""
    scheme = url[:8].lower()
    if scheme.startswith("data:"):
        return await asyncio.to_thread(decode_base64, url, field)
    if scheme.startswith(("http://", "https://")):
        return await fetcher.fetch(url, field)
    raise _refuse(field, "must be a data URL, such as data:image/png;base64,iVBORw0…, or an http(s) URL")


async def _send(client: httpx.AsyncClient, url: httpx.URL, addresses: list[Address]) -> httpx.Response:
    for address in addresses:
        # The address instead of the name, so that nobody looks it up again; TLS still asks for the name.
        request = client.build_request(
            "GET",
            url.copy_with(host=str(address)),
            headers={"Host": url.netloc.decode("ascii"), **_HEADERS},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            return await client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure


def _refuse(field: str, sentence: str, cause: str | None = None) -> ApiError:
    return InvalidRequest(f"{field}: {sentence}", param=field, cause=cause)
