"""Reads one page: an encoded image and a prompt to the model, its own text back."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from adapter.documents.image_threads import ImageThreads
from adapter.documents.page import Page
from adapter.errors import InvalidRequest, Overloaded, Unavailable
from adapter.generation import collect
from adapter.ngrams import NgramRule
from adapter.ocr.tally import Tally
from adapter.settings import Settings
from adapter.tensors import Generated, InferRequest, Usage
from adapter.triton_client import TritonClient

QUEUE_WAITS_S = (0.25, 0.5, 1.0)
"""Pauses before a page is sent again that found the queue full: it may be full of the same document's pages."""
_LONGEST_WAIT_S = 8.0

_RETRY_WARMER = 0.2
_NUM_DRAWING_THREADS = 4


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
    image_parameters: Mapping[str, Any] = field(default_factory=dict)
    stop_on_repetition: bool = True
    retry: bool = True
    """Whether a page that ended in a repetition is read once more, warmer."""
    patient: bool = False
    """Whether a page that finds the queue full is sent again for as long as a generation may take."""
    is_background: bool = False
    """Whether pages that somebody waits for may go first."""
    tally: Tally = field(default_factory=Tally, compare=False)
    """Counts what is generated with these options."""

    @property
    def sampling_parameters(self) -> bytes:
        given = {"max_tokens": self.max_tokens, "top_p": self.top_p, "seed": self.seed}
        parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        parameters |= {"temperature": self.temperature, "skip_special_tokens": False}
        parameters |= self.ngrams.parameters
        if not self.stop_on_repetition:
            parameters["max_repetition_tokens"] = 0
        return orjson.dumps(parameters)

    def warmer(self) -> "ReadOptions":
        """With a seed: what is read twice gives the same text each time."""
        temperature = max(self.temperature, min(1.0, round(self.temperature + _RETRY_WARMER, 6)))
        return replace(self, temperature=temperature, seed=self.seed or 0)


@dataclass(frozen=True, slots=True)
class PageReading:
    """`text` is the model's own, with its grounding tags."""

    text: str
    finish_reason: str
    usage: Usage

    def is_due_again(self, options: ReadOptions) -> bool:
        return self.finish_reason == "repetition" and options.retry


class PageReader:
    """Raises `ApiError` only."""

    def __init__(self, triton: TritonClient, settings: Settings) -> None:
        self._triton = triton
        self._max_wait_s = settings.request_timeout_s
        self.max_parallel_pages = settings.max_parallel_pages
        self.drawing = ImageThreads(_NUM_DRAWING_THREADS)
        """Where figures are cut out of pages, and boxes drawn on them."""

    def stop(self) -> None:
        self.drawing.stop()

    def stream(self, page: Page, options: ReadOptions, request_id: str) -> AsyncGenerator[Generated, None]:
        """The model's text as it comes."""
        return self._infer(page, options, request_id, stream=True)

    async def read(self, page: Page, options: ReadOptions, request_id: str) -> PageReading:
        """The page's whole text, once it has been read again where that is due."""
        reading = await self._read_once(page, options, request_id)
        return await self.read_again(reading, page, options, request_id) if reading.is_due_again(options) else reading

    async def read_again(self, first: PageReading, page: Page, options: ReadOptions, request_id: str) -> PageReading:
        """The page once more, warmer; the first is kept if that is a repetition too, or can't be had now.

        The usage is that of both.
        """
        try:
            second = await self._read_once(page, options.warmer(), request_id)
        except (Overloaded, Unavailable):
            return first
        kept = first if second.finish_reason == "repetition" else second
        return replace(kept, usage=first.usage + second.usage)

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
            orjson.dumps(options.image_parameters) if options.image_parameters else None,
            options.is_background,
            continuous_usage=True,  # a page that is left in the middle is charged too
        )
        waits_s = self._queue_waits_s(options.patient)
        note_usage = options.tally.begin()
        has_begun = False
        while True:
            try:
                async with aclosing(self._triton.infer(request)) as responses:
                    async for generated in responses:
                        has_begun = True
                        if generated.usage is not None:
                            note_usage(generated.usage)
                        yield generated
                return
            except Overloaded:
                wait_s = next(waits_s, None)
                if has_begun or wait_s is None:
                    raise
            except InvalidRequest as error:
                raise named_as_sent(error, options) from error
            await asyncio.sleep(wait_s)

    def _queue_waits_s(self, patient: bool) -> Iterator[float]:
        deadline_s = time.monotonic() + self._max_wait_s
        yield from QUEUE_WAITS_S
        wait_s = QUEUE_WAITS_S[-1]
        while patient and time.monotonic() < deadline_s:
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            yield wait_s


def named_as_sent(error: InvalidRequest, options: ReadOptions) -> InvalidRequest:
    """To the model every image is `image`, whatever field of the request brought it; the same for how to read it."""
    if error.param == "image":
        name = options.image_field
    elif error.param == "image_parameters":
        name = next(iter(options.image_parameters), "mode")
    else:
        return error
    return type(error)(name + error.message.removeprefix(error.param), param=name, cause=error.cause)
