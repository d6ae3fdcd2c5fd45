"""32 mixed requests at once through the whole service, with cancels among them: the tokens of `generate`, no leaks."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.checkpoints import VOCAB_SIZE, generate
from tests.e2e.conftest import ARCHITECTURES
from tests.e2e.stack import Stack
from tests.e2e.triton_grpc import describe


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_32_mixed_requests(architecture: str, stack: Stack, checkpoints: dict[str, Path]) -> None:
    numbers = random.Random(architecture)
    prompts = [[numbers.randrange(2, VOCAB_SIZE) for _ in range(numbers.choice([1, 5, 40, 130]))] for _ in range(32)]
    lengths = [numbers.choice([1, 9, 40, 100]) for _ in range(32)]
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=120) as client:

        async def stream(i: int) -> str:
            """The text of request i; every fourth is left after its first chunk, without waiting for the rest."""
            options: Any = {"prompt": prompts[i], "max_tokens": lengths[i], "temperature": 0}
            if i % 4 == 1:
                answer = await client.completions.create(model=architecture, **options)
                return answer.choices[0].text
            chunks = await client.completions.create(model=architecture, stream=True, **options)
            text = ""
            async for chunk in chunks:
                text += chunk.choices[0].text
                if i % 4 == 3:
                    await chunks.close()
                    break
            return text

        texts = await asyncio.gather(*(stream(i) for i in range(32)))
    model = AutoModelForCausalLM.from_pretrained(checkpoints[architecture], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoints[architecture])
    for i, text in enumerate(texts):
        expected = generate(model, tokenizer, prompts[i], lengths[i])
        assert expected.startswith(text) if i % 4 == 3 else text == expected, i
    await nothing_left(stack, architecture)


async def nothing_left(stack: Stack, model: str) -> None:
    """Wait until the model holds no request, no sequence and no block; pytest's time limit is the deadline."""
    for _ in range(200):
        state = await asyncio.to_thread(describe, stack, model)
        if state["num_requests"] == state["num_sequences"] == 0:
            assert state["num_free_cache_blocks"] == state["num_cache_blocks"]
            return
    raise AssertionError(f"still busy: {state}")


async def test_shared_memory_does_not_grow_with_requests(stack: Stack) -> None:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:

        async def burst() -> None:
            options: Any = {"prompt": "def f", "max_tokens": 30, "temperature": 0}
            await asyncio.gather(*(client.completions.create(model="llama", **options) for _ in range(48)))
            await nothing_left(stack, "llama")

        await burst()
        before = stack.shared_memory
        await burst()
        await burst()
    assert before
    assert stack.shared_memory == before
