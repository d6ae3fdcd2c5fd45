"""Reads one page: an encoded image and a prompt to the model, its own text back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import orjson

from adapter.documents.page import Page
from adapter.errors import InvalidRequest, Overloaded
from adapter.generation import collect
from adapter.settings import Settings
from adapter.tensors import Generated, InferRequest, Usage
from adapter.triton_client import TritonClient

QUEUE_WAITS_S = (0.25, 0.5, 1.0)
"""Pauses before a page is sent again that found the queue full: it may be full of the same document's pages."""

_RETRY_WARMER = 0.2
_MAX_DRAWING = 4
"""Pages decoded at once for their figures or to be drawn on, for their memory: 4 bytes for each pixel."""


@dataclass(frozen=True, slots=True)
class NgramRule:
    """No `size` tokens in a row twice within `window` tokens, except with `whitelist`'s; size 0 turns it off."""

    size: int
    window: int
    whitelist: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read the pages of one document; None leaves a parameter to the model."""

    triton_model: str
    prompt: str
    image_field: str
    """The request's field that brought the image, which the client is told when the model refuses it."""
    ngrams: NgramRule
    temperature: float = 0.0
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None
    image_parameters: bytes | None = None
    stop_on_repetition: bool = True
    retry: bool = True
    """Whether a page that ended in a repetition is read once more, warmer."""

    @property
    def sampling_parameters(self) -> bytes:
        given = {"max_tokens": self.max_tokens, "top_p": self.top_p, "seed": self.seed}
        parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        parameters |= {"temperature": self.temperature, "skip_special_tokens": False}
        parameters["no_repeat_ngram_size"] = self.ngrams.size
        if self.ngrams.size:
            parameters["no_repeat_ngram_window"] = self.ngrams.window
            parameters["no_repeat_ngram_whitelist"] = self.ngrams.whitelist
        if not self.stop_on_repetition:
            parameters["max_repetition_tokens"] = 0
        return orjson.dumps(parameters)

    def warmer(self) -> "ReadOptions":
        return replace(self, temperature=max(self.temperature, min(1.0, round(self.temperature + _RETRY_WARMER, 6))))


@dataclass(frozen=True, slots=True)
class PageReading:
    """`text` is the model's own, with its grounding tags."""

    text: str
    finish_reason: str
    usage: Usage


class PageReader:
    """Raises `ApiError` only."""

    def __init__(self, triton: TritonClient, settings: Settings) -> None:
        self._triton = triton
        self.max_parallel_pages = settings.max_parallel_pages
        self.drawing = asyncio.Semaphore(_MAX_DRAWING)

    async def stream(self, page: Page, options: ReadOptions, request_id: str) -> AsyncGenerator[Generated, None]:
        """The model's text as it comes: read once, since what is out cannot be taken back."""
        async with aclosing(self._infer(page, options, request_id, stream=True)) as responses:
            async for generated in responses:
                yield generated

    async def read(self, page: Page, options: ReadOptions, request_id: str) -> PageReading:
        """The page's whole text; of a second try's repetition the first is kept. The usage is that of both."""
        first = await self._read_once(page, options, request_id)
        if first.finish_reason != "repetition" or not options.retry:
            return first
        second = await self._read_once(page, options.warmer(), request_id)
        kept = first if second.finish_reason == "repetition" else second
        return replace(kept, usage=total_usage(first.usage, second.usage))

    async def _read_once(self, page: Page, options: ReadOptions, request_id: str) -> PageReading:
        answer = await collect(self._infer(page, options, request_id, stream=False), 1)
        (choice,) = answer.choices
        assert choice.finish_reason is not None, "a generation that ends well has told its finish"
        return PageReading(choice.text, choice.finish_reason, answer.usage)

    async def _infer(
        self, page: Page, options: ReadOptions, request_id: str, *, stream: bool
    ) -> AsyncGenerator[Generated, None]:
        request = InferRequest(
            request_id,
            options.triton_model,
            options.prompt,
            options.sampling_parameters,
            1,
            stream,
            (page.image,),
            options.image_parameters,
        )
        has_begun = False
        for wait_s in (*QUEUE_WAITS_S, None):
            try:
                async with aclosing(self._triton.infer(request)) as responses:
                    async for generated in responses:
                        has_begun = True
                        yield generated
                return
            except Overloaded:
                if has_begun or wait_s is None:
                    raise
            except InvalidRequest as error:
                raise named_as_sent(error, options.image_field) from error
            await asyncio.sleep(wait_s)


def total_usage(*usages: Usage) -> Usage:
    return Usage(
        sum(usage.num_input_tokens for usage in usages),
        sum(usage.num_output_tokens for usage in usages),
        sum(usage.num_cached_tokens for usage in usages),
    )


def named_as_sent(error: InvalidRequest, image_field: str) -> InvalidRequest:
    """To the model every image is `image`, whatever field of the request brought it."""
    if error.param != "image":
        return error
    return type(error)(image_field + error.message.removeprefix("image"), param=image_field, cause=error.cause)
