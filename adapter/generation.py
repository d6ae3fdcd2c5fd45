"""Runs a request's generations as one stream of responses, and gathers such a stream into whole choices."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from adapter.request_log import RequestRecord
from adapter.tensors import Generated, InferRequest, TokenLogprob, Usage
from adapter.triton_client import TritonClient
from adapter.wire import Chunks


@dataclass(slots=True)
class Choice:
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(slots=True)
class WholeAnswer:
    choices: list[Choice]
    usage: Usage


async def generate(triton: TritonClient, requests: Sequence[InferRequest]) -> AsyncGenerator[Generated, None]:
    """Run `requests` at the same time; the first that fails fails them all.

    Choice c of request r has the index `r * num_choices + c`; the usage, summed, comes last.
    """
    if len(requests) == 1:
        async with aclosing(triton.infer(requests[0])) as responses:
            async for generated in responses:
                yield generated
        return
    total = Usage()
    async with aclosing(_merge(triton, requests)) as responses:
        async for generated in responses:
            if generated.usage is not None:
                total += generated.usage
            if generated.deltas:
                yield Generated(generated.deltas)
    yield Generated([], total)


async def stream(
    responses: AsyncGenerator[Generated, None], chunks: Chunks, record: RequestRecord
) -> AsyncGenerator[bytes, None]:
    """The events of an answer; the first comes with the first response."""
    unsent = chunks.opening()
    usage = None
    async with aclosing(responses):
        async for generated in responses:
            if event := unsent + chunks.events(generated):
                yield event
                unsent = b""
            usage = generated.usage or usage
    assert usage is not None, "a generation that ends well has told its usage"
    record.usage = usage
    if event := chunks.closing(usage):
        yield event


async def collect(responses: AsyncGenerator[Generated, None], num_choices: int) -> WholeAnswer:
    choices = [Choice() for _ in range(num_choices)]
    usage = Usage()
    async with aclosing(responses):
        async for generated in responses:
            for delta in generated.deltas:
                choice = choices[delta.choice_index]
                choice.texts.append(delta.text)
                choice.finish_reason = delta.finish_reason
                if delta.logprobs is not None:
                    choice.logprobs = (choice.logprobs or []) + delta.logprobs
            usage = generated.usage or usage
    return WholeAnswer(choices, usage)


async def _merge(triton: TritonClient, requests: Sequence[InferRequest]) -> AsyncGenerator[Generated, None]:
    arrived: asyncio.Queue[Generated | asyncio.Task[None]] = asyncio.Queue()
    # A slow reader holds the streams up, not the responses in memory.
    slots = asyncio.Semaphore(len(requests))

    async def pump(request: InferRequest, first_index: int) -> None:
        async with aclosing(triton.infer(request)) as responses:
            async for generated in responses:
                for delta in generated.deltas:
                    delta.choice_index += first_index
                await slots.acquire()
                arrived.put_nowait(generated)

    tasks = [asyncio.create_task(pump(request, i * request.num_choices)) for i, request in enumerate(requests)]
    for task in tasks:
        task.add_done_callback(arrived.put_nowait)
    num_running = len(tasks)
    try:
        while num_running:
            item = await arrived.get()
            if isinstance(item, asyncio.Task):
                item.result()
                num_running -= 1
            else:
                slots.release()
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
