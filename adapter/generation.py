"""Runs a request's generations as one stream of responses, and gathers such a stream into whole choices."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from adapter.request_log import RequestRecord
from adapter.tensors import Delta, Generated, InferRequest, PromptToken, TokenLogprob, Usage
from adapter.triton_client import TritonClient


@dataclass(slots=True)
class Call:
    """A function that a choice calls, with the JSON of its arguments."""

    name: str
    pieces: list[str]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class Choice:
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    finish_reason: str | None = None
    stop_string: str | None = None
    prompt_tokens: list[PromptToken] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)

    def add(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        self.thoughts.append(delta.reasoning)
        for piece in delta.calls:
            if piece.name is not None:
                self.calls.append(Call(piece.name, []))
            self.calls[piece.index].pieces.append(piece.arguments)
        self.finish_reason = delta.finish_reason
        self.stop_string = delta.stop_string
        if delta.logprobs is not None:
            self.logprobs = (self.logprobs or []) + delta.logprobs
        if delta.prompt_tokens is not None:
            self.prompt_tokens += delta.prompt_tokens


@dataclass(slots=True)
class WholeAnswer:
    choices: list[Choice]
    usage: Usage


class AnswerEvents(Protocol):
    """Writes an answer's responses as server-sent events."""

    def opening(self) -> bytes:
        """The events before the first response's."""

    def events(self, generated: Generated) -> bytes: ...

    def closing(self, usage: Usage) -> bytes:
        """The events after the last response's."""


async def generate(
    triton: TritonClient, requests: Sequence[InferRequest], record: RequestRecord
) -> AsyncGenerator[Generated, None]:
    """Run `requests` at the same time; the first that fails fails them all.

    Choice c of request r has the index `r * num_choices + c`; the usage, summed, comes last and on the record.
    """
    if record.is_charged:  # what is generated is known then as it is, also if nobody waits for its end
        requests = [replace(request, continuous_usage=True) for request in requests]
    responses = triton.infer(requests[0]) if len(requests) == 1 else _merge(triton, requests)
    async with aclosing(responses):
        async for generated in responses:
            if generated.usage is not None:
                record.usage = generated.usage
            yield generated


async def stream(responses: AsyncGenerator[Generated, None], chunks: AnswerEvents) -> AsyncGenerator[bytes, None]:
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
    if event := chunks.closing(usage):
        yield event


async def collect(responses: AsyncGenerator[Generated, None], num_choices: int) -> WholeAnswer:
    choices = [Choice() for _ in range(num_choices)]
    usage = Usage()
    async with aclosing(responses):
        async for generated in responses:
            for delta in generated.deltas:
                choices[delta.choice_index].add(delta)
            usage = generated.usage or usage
    return WholeAnswer(choices, usage)


async def _merge(triton: TritonClient, requests: Sequence[InferRequest]) -> AsyncGenerator[Generated, None]:
    arrived: asyncio.Queue[Generated | asyncio.Task[None]] = asyncio.Queue()
    # One response of each waits here; the others wait in their calls.
    slots = asyncio.Semaphore(len(requests))
    total = Usage()

    async def pump(request: InferRequest, first_index: int) -> None:
        nonlocal total
        known = Usage()
        async with aclosing(triton.infer(request)) as responses:
            async for generated in responses:
                for delta in generated.deltas:
                    delta.choice_index += first_index
                await slots.acquire()
                if generated.usage is not None:
                    total += generated.usage - known
                    known = generated.usage
                    generated.usage = total
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
