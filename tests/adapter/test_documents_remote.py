"""Images by URL: fetched from public addresses only, and from nowhere else by any way round."""

import asyncio
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from adapter.documents.remote import Address, ImageFetcher, is_public
from adapter.errors import InvalidRequest, TooLarge
from adapter.settings import Settings

FIELD = "messages.0.content.0.image_url.url"
IMAGE = b"\x89PNG and so on"
LOCAL = ipaddress.ip_address("127.0.0.1")


class Web:
    """A server that answers each path as it was told to, and keeps what it was asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers: dict[str, bytes] = {}
        self.requests: list[str] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            answer = self.answers.get(request.split(" ")[1])
            if answer is None:
                await reader.read()  # nothing, until the client goes away
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def allows(self, address: Address, port: int) -> bool:
        return (address, port) == (LOCAL, self.port)


def answer(body: bytes, status: str = "200 OK", headers: str = "Content-Type: image/png\r\n") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return answer(b"elsewhere", f"{status} Found", f"Location: {location}\r\n")


@pytest_asyncio.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    await web.start()
    web.answers["/page.png"] = answer(IMAGE)
    yield web
    await web.stop()


class NamedFetcher(ImageFetcher):
    """Every host has the same addresses."""

    def __init__(
        self, web: Web, addresses: Sequence[str], allows: Callable[[Address, int], bool] | None = None, **settings: Any
    ) -> None:
        super().__init__(Settings(fetch_images=True, **settings), allows=allows or web.allows)
        self._addresses = addresses
        self.asked: list[tuple[str, int]] = []

    async def resolve(self, host: str, port: int) -> list[Address]:
        self.asked.append((host, port))
        return [ipaddress.ip_address(address) for address in self._addresses]


def fetcher(web: Web, **settings: Any) -> ImageFetcher:
    return ImageFetcher(Settings(fetch_images=True, **settings), allows=web.allows)


async def refused(fetcher: ImageFetcher, url: str, what: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await fetcher.fetch(url, FIELD)
    assert refusal.value.param == FIELD
    assert refusal.value.message.startswith(f"{FIELD}: ")
    assert what in refusal.value.message


async def test_off_unless_it_is_allowed(web: Web) -> None:
    off = ImageFetcher(Settings(), allows=web.allows)
    await refused(off, f"{web.url}/page.png", "ADAPTER_FETCH_IMAGES")
    await refused(off, f"{web.url}/page.png", "data:image/png;base64,")
    assert web.requests == []


async def test_an_image(web: Web) -> None:
    assert await fetcher(web).fetch(f"{web.url}/page.png", FIELD) == (IMAGE, "image/png")
    (request,) = web.requests
    assert request.startswith("GET /page.png HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{web.port}\r\n" in request.lower()
    assert "accept-encoding: identity\r\n" in request.lower()


async def test_an_image_without_a_declared_type(web: Web) -> None:
    web.answers["/page.png"] = answer(IMAGE, headers="")
    assert await fetcher(web).fetch(f"{web.url}/page.png", FIELD) == (IMAGE, None)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address), 80)
    assert is_public(ipaddress.ip_address(address), 443)


@pytest.mark.parametrize("port", [0, 22, 25, 6379, 8000, 8001, 8080, 65535])
def test_other_ports_are_not_public(port: int) -> None:
    assert not is_public(ipaddress.ip_address("93.184.216.34"), port)


PRIVATE = [
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "192.0.0.1", "198.18.0.1"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2001:0:7f00:1::", "192.88.99.1", "100::1", "3fff::1", "3fff:fff::1", "5f00::1"),
    *("168.63.129.16", "192.0.0.192", "192.0.0.9"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address), 80)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "0.0.0.0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1]"),
        *("169.254.169.254", "10.0.0.1", "192.168.0.1", "100.64.0.1", "127。0。0。1", "①27.0.0.1"),
    ],
)
async def test_private_hosts_are_refused_however_they_are_written(host: str) -> None:
    # The real rule and the real resolver.
    with pytest.raises(InvalidRequest, match=r"only public addresses|is not known|can't be fetched"):
        await ImageFetcher(Settings(fetch_images=True)).fetch(f"http://{host}/latest/meta-data", FIELD)


async def test_private_ports_are_refused() -> None:
    await refused(ImageFetcher(Settings(fetch_images=True)), "http://93.184.216.34:22/", "on ports 80 and 443")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ftp://example.com/page.png", "must be an http(s) URL"),
        ("file:///etc/passwd", "must be an http(s) URL"),
        ("gopher://127.0.0.1/", "must be an http(s) URL"),
        ("page.png", "must be an http(s) URL"),
        ("//example.com/page.png", "must be an http(s) URL"),
        ("http://", "must be an http(s) URL"),
        ("http:///page.png", "must be an http(s) URL"),
        ("http://me@example.com/", "must not hold a name"),
        ("http://me:secret@example.com/", "must not hold a name"),
        ("http://exa mple.com/", "is not known"),
        ("http://[::1/", "can't be fetched"),
        ("http://\0/", "can't be fetched"),
        ("http://" + "a" * 70_000, "can't be fetched"),
        ("http://" + "a" * 64 + ".test/", "is not known"),
        ("http://nowhere.invalid/", "is not known"),
    ],
)
async def test_what_is_no_url_of_the_web(url: str, what: str) -> None:
    await refused(ImageFetcher(Settings(fetch_images=True)), url, what)


async def test_one_private_address_condemns_a_host(web: Web) -> None:
    await refused(NamedFetcher(web, ["127.0.0.1", "127.0.0.2"]), f"http://a.test:{web.port}/page.png", "only public")
    await refused(NamedFetcher(web, []), f"http://a.test:{web.port}/page.png", "only public")
    assert web.requests == []


async def test_a_host_is_looked_up_once_and_then_named_only(web: Web) -> None:
    named = NamedFetcher(web, ["127.0.0.1"])
    assert (await named.fetch(f"http://Pictures.test:{web.port}/page.png", FIELD))[0] == IMAGE
    assert named.asked == [("pictures.test", web.port)]
    assert f"host: pictures.test:{web.port}\r\n" in web.requests[0].lower()


async def test_the_next_address_of_a_host_that_does_not_answer(web: Web) -> None:
    named = NamedFetcher(web, ["127.0.0.3", "127.0.0.1"], allows=lambda address, port: port == web.port)
    assert (await named.fetch(f"http://a.test:{web.port}/page.png", FIELD))[0] == IMAGE


async def test_the_next_address_of_a_host_that_answers_nothing(web: Web) -> None:
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.create_server(("127.0.0.3", web.port), backlog=0))
        for _ in range(3):  # no more connections are taken, nor refused
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        named = NamedFetcher(web, ["127.0.0.3", "127.0.0.1"], lambda *_: True, fetch_timeout_s=3)
        assert (await named.fetch(f"http://a.test:{web.port}/page.png", FIELD))[0] == IMAGE


async def test_proxies_of_the_environment_are_not_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await fetcher(web).fetch(f"{web.url}/page.png", FIELD))[0] == IMAGE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects(web: Web, status: int) -> None:
    web.answers |= {
        "/1": redirect(f"{web.url}/2", status),
        "/2": redirect("3", status),
        "/3": redirect("/page.png", status),
    }
    assert (await fetcher(web).fetch(f"{web.url}/1", FIELD))[0] == IMAGE
    web.answers["/0"] = redirect("/1", status)
    await refused(fetcher(web), f"{web.url}/0", "is redirected more than 3 times")
    web.answers["/round"] = redirect("/round", status)
    await refused(fetcher(web), f"{web.url}/round", "is redirected more than 3 times")


@pytest.mark.parametrize(
    ("location", "what"),
    [
        ("http://169.254.169.254/latest/meta-data", "only public addresses"),
        ("http://127.0.0.1:1/", "only public addresses"),
        ("//127.0.0.1/", "only public addresses"),
        ("file:///etc/passwd", "must be an http(s) URL"),
        ("data:image/png;base64,QUJD", "can't be fetched"),
        ("http://me:secret@127.0.0.1/", "must not hold a name"),
        ("http://[", "is not known"),
    ],
)
async def test_redirects_are_checked_anew(web: Web, location: str, what: str) -> None:
    web.answers["/page.png"] = redirect(location)
    await refused(fetcher(web), f"{web.url}/page.png", what)


async def test_redirects_carry_no_cookies(web: Web) -> None:
    web.answers["/1"] = answer(b"", "302 Found", "Location: /page.png\r\nSet-Cookie: a=b\r\n")
    await fetcher(web).fetch(f"{web.url}/1", FIELD)
    assert not [request for request in web.requests if "cookie" in request.lower()]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "404 Not Found", "500 Oops", "302 Found"])
async def test_other_statuses(web: Web, status: str) -> None:
    web.answers["/page.png"] = answer(b"", status)
    await refused(fetcher(web), f"{web.url}/page.png", f"answers with status {status[:3]} instead of 200")


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % bytes(1024) * 100


@pytest.mark.parametrize("whole", [answer(bytes(1001)), ENDLESS, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001)])
async def test_too_large(web: Web, whole: bytes) -> None:
    web.answers["/page.png"] = whole
    with pytest.raises(
        TooLarge, match=r"^messages\S+: is larger than the 1000 bytes that are fetched; send it"
    ) as refusal:
        await fetcher(web, max_document_body_bytes=1000).fetch(f"{web.url}/page.png", FIELD)
    assert refusal.value.param == FIELD


async def test_at_the_limit(web: Web) -> None:
    limits = {"max_document_body_bytes": 1000, "max_image_bytes": 10}  # it may be a PDF
    web.answers["/page.png"] = answer(bytes(1000))
    assert (await fetcher(web, **limits).fetch(f"{web.url}/page.png", FIELD))[0] == bytes(1000)


async def test_compressed_answers_are_refused(web: Web) -> None:
    web.answers["/page.png"] = answer(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n")
    await refused(fetcher(web), f"{web.url}/page.png", "compressed")


@pytest.mark.parametrize("path", ["/silent", "/stalled"])
async def test_the_whole_time_is_limited(web: Web, path: str) -> None:
    web.answers["/slow"] = redirect(path)
    web.answers["/stalled"] = redirect("/silent")
    await refused(fetcher(web, fetch_timeout_s=0.2), f"{web.url}/slow", "can't be fetched in 0.2 s")


@pytest.mark.parametrize("broken", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_broken_answers(web: Web, broken: bytes) -> None:
    web.answers["/page.png"] = broken
    await refused(fetcher(web), f"{web.url}/page.png", "can't be fetched")


async def test_nobody_there(web: Web) -> None:
    await web.stop()
    await refused(fetcher(web), f"{web.url}/page.png", "can't be fetched")


async def test_a_caller_that_is_cancelled_closes_the_connection(web: Web) -> None:
    fetching = asyncio.create_task(fetcher(web).fetch(f"{web.url}/silent", FIELD))
    while not web.requests:
        await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `images.test`, with its key."""
    path = tmp_path_factory.mktemp("tls") / "images.test.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.test"
    options = ["-addext", "subjectAltName=DNS:images.test", "-keyout", str(path), "-out", "-"]
    made = subprocess.run([*command.split(), *options], capture_output=True, check=True)
    path.write_bytes(path.read_bytes() + made.stdout)
    return path


async def test_tls_is_verified_against_the_name(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate)
    web = Web(server_tls)
    await web.start()
    web.answers["/page.png"] = answer(IMAGE)
    named = NamedFetcher(web, ["127.0.0.1"])
    await refused(named, f"https://images.test:{web.port}/page.png", "can't be fetched")
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: ssl.create_default_context(cafile=str(certificate)))
    trusting = NamedFetcher(web, ["127.0.0.1"])
    assert (await trusting.fetch(f"https://images.test:{web.port}/page.png", FIELD))[0] == IMAGE
    await refused(trusting, f"https://other.test:{web.port}/page.png", "can't be fetched")
    await web.stop()
