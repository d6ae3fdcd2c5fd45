"""`system_fingerprint`: of what the model says it is, and never waited for."""

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import httpx
import openai
import pytest

from tests.adapter.fake_triton import DESCRIPTION, FakeTriton, Gate, Reply, Seen, answer, describe
from tests.adapter.sse_reading import stream

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
COMPLETIONS = ("/v1/completions", {"prompt": "hi"})


def described(**changes: Any) -> Reply:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        yield answer(json.dumps(DESCRIPTION | changes))

    return reply


def fingerprint(http: httpx.Client) -> str | None:
    answered = http.post(COMPLETIONS[0], json=COMPLETIONS[1])
    assert answered.status_code == 200, answered.text
    found: str | None = answered.json()["system_fingerprint"]
    return found


@pytest.mark.parametrize(("path", "body"), [CHAT, COMPLETIONS], ids=["chat", "completions"])
def test_every_answer_and_chunk_has_it(serve: Callable[..., httpx.Client], path: str, body: dict[str, Any]) -> None:
    http = serve()
    whole = http.post(path, json=body).json()["system_fingerprint"]
    assert re.fullmatch("fp_[0-9a-f]{10}", whole)
    *chunks, _ = stream(http, path, body | {"stream_options": {"include_usage": True}})
    assert {chunk["system_fingerprint"] for chunk in chunks} == {whole}


def test_the_sdk_reads_it(serve: Callable[..., httpx.Client]) -> None:
    chat: Any = CHAT[1]["messages"]
    with openai.OpenAI(base_url=f"{serve().base_url}/v1", api_key="none", max_retries=0) as sdk:
        answered = sdk.chat.completions.create(model="deepseek-coder", messages=chat, seed=1)
    assert (answered.system_fingerprint or "").startswith("fp_")


@pytest.mark.parametrize("part", ["version", "checkpoint", "architecture", "device", "dtype"])
def test_it_changes_with_the_model(serve: Callable[..., httpx.Client], triton: FakeTriton, part: str) -> None:
    before = fingerprint(serve())
    assert fingerprint(serve()) == before
    triton.describe = described(**{part: "another"})
    assert fingerprint(serve()) not in (None, before)


def test_it_stays_with_how_busy_the_model_is(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    before = fingerprint(serve())
    triton.describe = described(num_requests=7, max_sequences=1)
    assert fingerprint(serve()) == before


def test_a_model_that_does_not_say_what_it_is(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    """As vLLM's own backend: it is asked now and then, not for each answer."""

    async def unknown(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected inference input 'describe'")
        yield

    triton.describe = unknown
    http = serve()
    assert [fingerprint(http) for _ in range(5)] == [None] * 5
    assert triton.num_describes == 2, "both models, at the start"


def test_answers_do_not_wait_for_a_busy_model(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    gate = Gate(triton.loop)

    async def slow(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await gate.passed()
        async for response in describe(seen, context):
            yield response

    triton.describe = slow
    http = serve()
    assert fingerprint(http) is None
    gate.open()
    assert http.get("/health").json()["checkpoint"]
    assert fingerprint(http) is not None


def test_what_nobody_foresaw_fails_no_answer(
    serve: Callable[..., httpx.Client], triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("adapter.triton_client.parse_description", fail)
    assert fingerprint(serve()) is None
