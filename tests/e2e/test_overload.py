"""More than fits, and clients that go away: each request ends once, and its place is free again."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.stack import Stack
from tests.e2e.test_parity import nothing_left

LONG: Any = {"model": "narrow", "prompt": "def f", "max_tokens": 250, "temperature": 0, "ignore_eos": True}


async def test_a_full_queue_is_429_and_the_others_are_served(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url, timeout=120) as client:
        responses = await asyncio.gather(*(client.post("/v1/completions", json=LONG) for _ in range(40)))
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429}
    refused = next(response for response in responses if response.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    texts = {response.json()["choices"][0]["text"] for response in responses if response.status_code == 200}
    assert len(texts) == 1
    await nothing_left(stack, "narrow")


async def test_the_sdk_retries_a_429_until_it_is_served(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=20, timeout=120) as client:
        options = {**LONG, "max_tokens": 20}
        extra = {"ignore_eos": options.pop("ignore_eos")}
        answers = await asyncio.gather(*(client.completions.create(**options, extra_body=extra) for _ in range(24)))
    assert all(answer.usage and answer.usage.completion_tokens == 20 for answer in answers)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_its_place(stack: Stack, stream: bool) -> None:
    """Behind a request for thousands of tokens, another would wait for minutes if its place were not freed."""
    body = {"model": "deepseek-coder", "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "n": 16, "stream": stream}
    async with httpx.AsyncClient(base_url=stack.url, timeout=120) as client:
        if stream:
            async with client.stream("POST", "/v1/completions", json=body) as response:
                assert response.status_code == 200
                await anext(response.aiter_bytes())
        else:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/completions", json=body, timeout=0.5)
        await nothing_left(stack, "coder")
