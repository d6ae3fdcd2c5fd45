"""Requests and tokens per minute, requests at once: counted by key, told in headers, refused with 429."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakeredis
import httpx
import pytest

from adapter.access.keys import KeyLimits
from adapter.access.rates import Window
from tests.adapter.access_keys import BODY, CHAT, bearer, charged, make_key
from tests.adapter.conftest import WAIT_S
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.sse_reading import stream
from tests.clock import StillClock

Serve = Callable[..., httpx.Client]
NUM_TOKENS = 8
"""Of each of the fake's answers."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StillClock:
    """What the limits think the time is."""
    clock = StillClock()
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=clock))
    monkeypatch.setattr("adapter.access.rates.time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


def left(response: httpx.Response, kind: str) -> tuple[str, str, str]:
    return tuple(response.headers[f"x-ratelimit-{name}-{kind}"] for name in ("limit", "remaining", "reset"))  # type: ignore[return-value]


def refused(response: httpx.Response, sentence: str) -> None:
    assert response.status_code == 429, response.text
    error = response.json()["error"]
    assert error["type"] == "rate_limit_error"
    assert error.get("code", "rate_limit_exceeded") == "rate_limit_exceeded"
    assert sentence in error["message"]


def test_requests_per_minute(serve: Serve, clock: StillClock) -> None:
    http = serve(requests_per_minute=2)
    assert left(http.post(CHAT, json=BODY), "requests") == ("2", "1", "1m0s")
    clock.now_s += 18.5
    assert left(http.post(CHAT, json=BODY), "requests") == ("2", "0", "42s")
    response = http.post("/v1/completions", json={"prompt": "a"})
    refused(response, "The limit of 2 requests per minute is reached; try again in 42 s.")
    assert response.headers["retry-after"] == "42"
    assert left(response, "requests") == ("2", "0", "42s")
    clock.now_s += 42
    assert http.post(CHAT, json=BODY).status_code == 200


def test_tokens_per_minute(serve: Serve, clock: StillClock) -> None:
    http = serve(tokens_per_minute=10)
    assert left(http.post(CHAT, json=BODY), "tokens") == ("10", "10", "0s")
    assert left(http.post(CHAT, json=BODY), "tokens") == ("10", "2", "1m0s"), "let in while there are some left"
    response = http.post(CHAT, json=BODY)
    refused(response, "The limit of 10 tokens per minute is reached; try again in 60 s.")
    assert response.headers["retry-after"] == "60"
    assert left(response, "tokens") == ("10", "0", "1m0s")
    clock.now_s += 60
    assert http.post(CHAT, json=BODY).status_code == 200


def test_a_stream_s_tokens_count_too(serve: Serve, clock: StillClock) -> None:
    http = serve(tokens_per_minute=NUM_TOKENS)
    stream(http, CHAT, BODY)
    refused(http.post(CHAT, json=BODY), "tokens per minute")


def test_both_are_told(serve: Serve, clock: StillClock) -> None:
    response = serve(tokens_per_minute=100, requests_per_minute=100).post(CHAT, json=BODY)
    assert left(response, "tokens") == ("100", "100", "0s"), "of equal limits each has its own count"
    assert left(response, "requests") == ("100", "99", "1m0s")


def test_refused_requests_count_and_say_what_is_left(serve: Serve, clock: StillClock) -> None:
    http = serve(requests_per_minute=5)
    for body, remaining in (({"messages": []}, "4"), (BODY, "3")):
        assert left(http.post(CHAT, json=body), "requests")[:2] == ("5", remaining)


@pytest.mark.parametrize("base", ["", "/beta"])
def test_every_base_url_is_limited(serve: Serve, clock: StillClock, base: str) -> None:
    http = serve(requests_per_minute=1)
    assert http.post(f"{base}/chat/completions", json=BODY).status_code == 200
    refused(http.post(CHAT, json=BODY), "requests per minute")


def test_what_generates_nothing_is_not_limited(serve: Serve, clock: StillClock) -> None:
    http = serve(requests_per_minute=1, tokens_per_minute=1, max_concurrent_requests=1)
    for _ in range(3):
        response = http.get("/v1/models")
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("x-ratelimit")]


TURNS = {"messages": BODY["messages"]}
COUNTING = [("/tokenize", {"prompt": "a"}), ("/detokenize", {"tokens": [97]}), ("/v1/messages/count_tokens", TURNS)]


@pytest.mark.parametrize(("url", "body"), COUNTING)
def test_what_counts_tokens_is_limited_by_its_requests(
    serve: Serve, clock: StillClock, path: Path, url: str, body: Any
) -> None:
    limits = KeyLimits(requests_per_minute=3, tokens_per_minute=NUM_TOKENS, budget_tokens=NUM_TOKENS)
    key = make_key(path, limits=limits)
    http = serve(keys_db=str(path))
    http.headers.update(bearer(key))
    assert http.post(CHAT, json=BODY).status_code == 200
    assert http.post(CHAT, json=BODY).status_code == 402
    for remaining in ("1", "0"):
        response = http.post(url, json=body)
        assert (response.status_code, left(response, "requests")[1]) == (200, remaining)
    refused(http.post(url, json=body), "The limit of 3 requests per minute is reached")
    assert charged(path, key) == (5, 3)


def test_what_counts_tokens_is_one_of_those_that_run_at_once(serve: Serve, triton: FakeTriton) -> None:
    http = serve(max_concurrent_requests=1)
    gate = triton.hangs()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(http.post, CHAT, json=BODY)
        assert gate.reached.wait(WAIT_S)
        for url, body in COUNTING:
            refused(http.post(url, json=body), "at most 1 at once")
        gate.open()
        assert running.result().status_code == 200


def test_each_key_has_its_own_count_and_may_have_its_own_limit(serve: Serve, clock: StillClock, path: Path) -> None:
    ann = make_key(path)
    bob = make_key(path, "bob", KeyLimits(requests_per_minute=3))
    http = serve(keys_db=str(path), requests_per_minute=1)
    assert left(http.post(CHAT, json=BODY, headers=bearer(ann)), "requests")[:2] == ("1", "0")
    assert left(http.post(CHAT, json=BODY, headers=bearer(bob)), "requests")[:2] == ("3", "2")
    refused(http.post(CHAT, json=BODY, headers=bearer(ann)), "1 requests per minute")
    assert http.post(CHAT, json=BODY, headers=bearer(bob)).status_code == 200


def test_requests_at_once(serve: Serve, triton: FakeTriton, path: Path) -> None:
    ann, bob = make_key(path, limits=KeyLimits(max_concurrent_requests=2)), make_key(path, "bob")
    http = serve(keys_db=str(path), max_concurrent_requests=1, retry_after_s=7)
    gate = triton.hangs("Hello")
    with ThreadPoolExecutor() as threads:
        running = [threads.submit(http.post, CHAT, json=BODY, headers=bearer(key)) for key in (ann, ann, bob)]
        for _ in running:
            assert triton.arrived.acquire(timeout=WAIT_S)
        for key, limit in ((ann, 2), (bob, 1)):
            response = http.post(CHAT, json=BODY, headers=bearer(key))
            refused(response, f"at most {limit} at once")
            assert response.headers["retry-after"] == "7"
        gate.open()
        assert [request.result(WAIT_S).status_code for request in running] == [200] * 3
    triton.says("x")
    for key in (ann, bob):
        assert http.post(CHAT, json=BODY, headers=bearer(key)).status_code == 200


def test_who_goes_away_makes_room(serve: Serve, triton: FakeTriton) -> None:
    http = serve(max_concurrent_requests=1)
    triton.hangs("Hello")
    with http.stream("POST", CHAT, json=BODY | {"stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        refused(http.post(CHAT, json=BODY), "at most 1 at once")
    assert triton.seen[0].cancelled.wait(WAIT_S)
    triton.says("x")
    answered = threading.Event()
    for _ in range(WAIT_S * 100):
        if http.post(CHAT, json=BODY).status_code == 200:
            return
        answered.wait(0.01)
    raise AssertionError("the room of the request that went away was not made")


@pytest.fixture
def redis() -> Iterator[fakeredis.TcpFakeServer]:
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_servers_share_a_redis(serve: Serve, redis: fakeredis.TcpFakeServer) -> None:
    url = f"redis://127.0.0.1:{redis.server_address[1]}"
    limits: dict[str, Any] = {"rate_limit_storage": url, "requests_per_minute": 2, "tokens_per_minute": 1000}
    first, second = serve(**limits), serve(**limits)
    assert left(first.post(CHAT, json=BODY), "requests")[:2] == ("2", "1")
    response = second.post(CHAT, json=BODY)
    assert left(response, "requests")[:2] == ("2", "0")
    assert left(response, "tokens")[:2] == ("1000", str(1000 - NUM_TOKENS))
    refused(first.post(CHAT, json=BODY), "2 requests per minute")


def test_a_redis_that_is_away(serve: Serve, triton: FakeTriton) -> None:
    http = serve(rate_limit_storage="redis://127.0.0.1:1", requests_per_minute=2)
    response = http.post(CHAT, json=BODY)
    assert response.status_code == 503
    assert response.json()["error"]["message"] == "The rate limits can't be checked now; the server's log says why."
    assert triton.seen == []
    assert http.get("/v1/models").status_code == 200


@pytest.mark.parametrize(("reset_s", "text"), [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (360, "6m0s")])
def test_the_time_of_a_reset_is_written_as_openai_does(reset_s: int, text: str) -> None:
    headers = dict(Window("requests", 10, 3, reset_s).headers)
    assert headers == {
        b"x-ratelimit-limit-requests": b"10",
        b"x-ratelimit-remaining-requests": b"3",
        b"x-ratelimit-reset-requests": text.encode(),
    }
