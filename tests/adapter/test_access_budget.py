"""What a key has used is charged to the token, and nothing more is begun once its budget is spent."""

import asyncio
import json
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest

from adapter.access.keys import KeyLimits
from adapter.access.store import Charge, KeyStore
from adapter.tensors import Usage
from tests.adapter.access_keys import BODY, CHAT, Runs, bearer, charged, make_key, refused_as_spent
from tests.adapter.conftest import WAIT_S, Loop
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.jobs_app import until
from tests.adapter.ocr_pages import base64_of, by_page, png, tiff
from tests.adapter.sse_reading import read_events

NUM_TOKENS = 8
"""Of each of the fake's answers, 5 of the prompt and 3 of the answer."""
FREE = {"is_available": True, "balance_infos": []}

Serve = Callable[..., httpx.Client]


@pytest.fixture
def run(loop: Loop, triton: FakeTriton, tmp_path: Path) -> Runs:
    return Runs(loop, triton, tmp_path)


@pytest.fixture
def path(run: Runs) -> Path:
    return run.path


def balance(http: httpx.Client) -> Any:
    response = http.get("/user/balance")
    assert response.status_code == 200, response.text
    return response.json()


def balance_of(num_tokens: int) -> Any:
    info = {"currency": "TOKENS", "total_balance": str(num_tokens), "granted_balance": str(num_tokens)}
    return {"is_available": num_tokens > 0, "balance_infos": [info | {"topped_up_balance": "0"}]}


def says_two_tokens_and_waits(triton: FakeTriton) -> None:
    gate = triton.hangs()

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        assert seen.inputs["stream"] is seen.inputs["continuous_usage"] is True
        yield answer("Hello", usage=(5, 1, 0))
        yield answer(" world", usage=(5, 2, 0))
        await gate.passed()

    triton.reply = reply


def test_a_budget_is_spent(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=NUM_TOKENS + 1))
    with run(key) as http:
        assert balance(http) == balance_of(NUM_TOKENS + 1)
        assert http.post(CHAT, json=BODY).status_code == 200
        assert balance(http) == balance_of(1)
        assert http.post(CHAT, json=BODY).status_code == 200, "what is begun is finished"
        assert balance(http) == balance_of(0)
        for url in (CHAT, "/chat/completions", "/beta/completions", "/ocr", "/ocr/jobs", "/v1/ocr"):
            refused_as_spent(http.post(url, json=BODY))
        assert http.get("/v1/models").status_code == 200
    assert len(triton.seen) == 2
    assert charged(path, key) == (10, 6)
    with run(key) as http:
        refused_as_spent(http.post(CHAT, json=BODY))
        assert balance(http) == balance_of(0)


def test_the_sdk_says_so(run: Runs, path: Path) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=1))
    with run(key) as http:
        http.post(CHAT, json=BODY)
        url = f"{str(http.base_url).rstrip('/')}/v1"
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as sdk:
            with pytest.raises(openai.APIStatusError) as caught:
                sdk.completions.create(model="deepseek-coder", prompt="a")
            assert caught.value.status_code == 402


def test_a_key_without_a_budget(run: Runs, path: Path) -> None:
    key = make_key(path)
    with run(key) as http:
        http.post(CHAT, json=BODY)
        assert balance(http) == FREE
    assert charged(path, key) == (5, 3)


def test_a_server_without_keys(serve: Serve) -> None:
    assert serve().get("/user/balance").json() == FREE


def test_the_setting_is_every_key_s(run: Runs, path: Path) -> None:
    key = make_key(path, "bob", KeyLimits(budget_tokens=100))
    configured = "a-configured-key"
    with run(configured, api_key=[configured], budget_tokens=NUM_TOKENS) as http:
        assert http.post(CHAT, json=BODY).status_code == 200
        refused_as_spent(http.post(CHAT, json=BODY))
        assert http.post(CHAT, json=BODY, headers=bearer(key)).status_code == 200
    with run(configured, api_key=["another-key", configured], budget_tokens=NUM_TOKENS) as http:
        refused_as_spent(http.post(CHAT, json=BODY))
    assert charged(path, configured) == charged(path, key) == (5, 3)


def test_other_processes_charges_count(run: Runs, path: Path) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=100))
    with run(key) as http, run(key) as other:
        for client in (http, other, http):
            assert client.post(CHAT, json=BODY).status_code == 200
        assert balance(http) == balance(other) == balance_of(100 - 3 * NUM_TOKENS)


def test_what_fails_before_it_generates_is_free(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path)
    with run(key) as http:
        http.post(CHAT, json={"messages": []})
        triton.fails(grpc.StatusCode.UNAVAILABLE, "away")
        assert http.post(CHAT, json=BODY).status_code == 503
    assert charged(path, key) == (0, 0)


def test_a_budget_that_is_spent_in_mid_stream(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=NUM_TOKENS))
    gate = triton.hangs("Hello")
    asked = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    with run(key) as http:
        with http.stream("POST", CHAT, json=asked) as response:
            assert gate.reached.wait(WAIT_S)
            triton.says("x")
            assert http.post(CHAT, json=BODY).status_code == 200
            refused_as_spent(http.post(CHAT, json=BODY))
            gate.open()
            *_, last, done = read_events(response)
        assert done == "[DONE]"
        assert last["usage"]["total_tokens"] == NUM_TOKENS
        refused_as_spent(http.post(CHAT, json=BODY))
    assert charged(path, key) == (10, 6)


async def usage_of(http: httpx.AsyncClient, number: int) -> tuple[int, int]:
    """What one of five kinds of requests is told that it used."""
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    image, pages = {"image_base64": base64_of(png())}, {"image_base64": base64_of(tiff(3)), "frames": "all"}
    path, body = (
        (CHAT, BODY),
        ("/beta/completions", {"prompt": ["a", "b"]} | streamed),
        ("/ocr", pages),
        ("/ocr/batch", {"requests": [image, {"x": 1}, image]}),
        ("/ocr/stream?format=json", image),
    )[number % 5]
    response = await http.post(path, json=body)
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    text = response.text.split("\n\n")[-3].removeprefix("data: ") if is_stream else response.text
    usage = json.loads(text)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def test_the_ledger_is_what_was_reported(run: Runs, path: Path, triton: FakeTriton) -> None:
    """Fifty requests at once, of every kind, over three runs of the adapter."""
    key = make_key(path, limits=KeyLimits(budget_tokens=1_000_000))
    chance = random.Random(6)
    reported: list[tuple[int, int]] = []

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        yield answer("Hello")
        await asyncio.sleep(0)
        yield answer(" world", finish="stop", usage=(chance.randint(1, 900), chance.randint(1, 900), 0))

    async def ask_all(url: str) -> list[tuple[int, int]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, headers=bearer(key), timeout=WAIT_S, limits=limits) as http:
            return await asyncio.gather(*(usage_of(http, number) for number in range(50)))

    triton.reply = reply
    for num_runs in range(1, 4):
        with run(key) as http:
            reported += asyncio.run(ask_all(str(http.base_url)))
            total = tuple(map(sum, zip(*reported, strict=True)))
            assert charged(path, key) == total, "charged before the answer's last byte"
            assert balance(http) == balance_of(1_000_000 - sum(total))
        assert len(reported) == 50 * num_runs


def test_pages_that_were_read_for_a_client_that_went_away(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path)
    gate = triton.hangs()
    triton.reply = by_page(gates={3: gate})
    with run(key) as http:
        body = {"image_base64": base64_of(tiff(3)), "frames": "all"}
        with http.stream("POST", "/ocr/stream?format=json", json=body) as response:
            lines = response.iter_lines()
            while '"page":2' not in next(lines):
                pass
            assert gate.reached.wait(WAIT_S)
        until(lambda: charged(path, key) != (0, 0))
        assert charged(path, key) == (2 * USAGE[0], 2 * USAGE[1])


IMAGE = {"image_base64": base64_of(png())}


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/ocr", IMAGE),
        ("/ocr/batch", {"requests": [IMAGE]}),
        ("/v1/ocr", {"document": {"type": "image_url", "image_url": f"data:image/png;base64,{base64_of(png())}"}}),
    ],
)
def test_a_whole_answer_of_a_page_that_nobody_waited_for(
    run: Runs, path: Path, triton: FakeTriton, url: str, body: dict[str, Any]
) -> None:
    key = make_key(path)
    says_two_tokens_and_waits(triton)
    with run(key) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.post(url, json=body, timeout=0.5)
        until(lambda: charged(path, key) != (0, 0))
    assert charged(path, key) == (5, 2)


def test_a_page_that_nobody_waited_for(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path)
    says_two_tokens_and_waits(triton)
    with run(key) as http:
        with http.stream("POST", "/ocr/stream", json={"image_base64": base64_of(png())}) as response:
            lines = response.iter_lines()
            while "world" not in next(lines):
                pass
        until(lambda: charged(path, key) != (0, 0))
    assert charged(path, key) == (5, 2)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_nobody_waited_for(run: Runs, path: Path, triton: FakeTriton, streamed: bool) -> None:
    """Also of a whole answer what was generated so far is known: the model is asked to tell it as it goes."""
    key = make_key(path, limits=KeyLimits(budget_tokens=1000))
    says_two_tokens_and_waits(triton)
    with run(key) as http:
        with pytest.raises(httpx.ReadTimeout):
            for _ in http.post(CHAT, json=BODY | {"stream": streamed}, timeout=0.5).iter_lines():
                pass
        until(lambda: charged(path, key) != (0, 0))
    assert charged(path, key) == (5, 2)


def test_a_ledger_that_can_not_be_read_lets_nobody_in(run: Runs, path: Path, triton: FakeTriton) -> None:
    key = make_key(path, limits=KeyLimits(budget_tokens=1))
    with run(key) as http:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ALTER TABLE charges RENAME TO gone")
        assert http.post(CHAT, json=BODY).status_code == 503
    assert triton.seen == []


def test_a_charge_that_can_not_be_written_is_logged(
    run: Runs, path: Path, caplog: pytest.LogCaptureFixture, triton: FakeTriton
) -> None:
    key = make_key(path)
    with run(key) as http:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ALTER TABLE charges RENAME TO gone")
        assert http.post(CHAT, json=BODY, headers={"x-request-id": "mine"}).status_code == 200
    assert "not charged: " in caplog.text
    assert "request_id='mine'" in caplog.text and "num_input_tokens=5" in caplog.text


def test_a_page_is_charged_once_and_a_client_s_id_as_often_as_it_is_sent(path: Path) -> None:
    with closing(KeyStore(path)) as store:
        page = Charge("k", "job-1", Usage(5, 3, 2), page=1)
        store.charge([page])
        store.charge([page, Charge("k", "job-1", Usage(1, 0, 0), page=2)])
        assert store.spent("k") == 9
        for _ in range(2):
            store.charge([Charge("k", "mine", Usage(5, 3, 2))])
        assert store.spent("k") == 25
        assert store.spent("nobody") == 0


def test_charges_of_many_threads_and_connections_add_up(path: Path) -> None:
    def charge_many(number: int) -> None:
        with closing(KeyStore(path)) as store:
            for _ in range(20):
                store.charge([Charge("k", f"r{number}", Usage(1, 1, 0))])
                store.spent("k")
            seen.append(store.spent("k"))

    seen: list[int] = []
    threads = [threading.Thread(target=charge_many, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) == 200
