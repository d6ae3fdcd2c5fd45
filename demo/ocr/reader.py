"""A checkpoint that reads many pages at once, for its figures."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from demo.ocr.tokenizer import EOS
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.image_prompt import ImagePromptEncoder
from engine.images import cut_views, lay_out
from engine.loop import Engine
from engine.request import Output, Request
from engine.sampling_params import SamplingParams

MAX_TOKENS = 1700


class _Reply:
    """Gathers one reply."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._is_done = threading.Event()
        self._error: EngineError | None = None

    def on_output(self, output: Output) -> None:
        self._pieces.append(output.text)
        if output.finish_reason:
            self._is_done.set()

    def on_error(self, error: EngineError) -> None:
        self._error = error
        self._is_done.set()

    def wait(self) -> str:
        self._is_done.wait()
        if self._error:
            raise self._error
        return "".join(self._pieces)


class Reader:
    """The engine with one checkpoint, without Triton around it. Greedy, in the checkpoint's own mode."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        config = EngineConfig(
            checkpoint=str(folder), device="cpu", num_threads=num_threads, cache_gib=0.5, max_repetition_tokens=512
        )
        checkpoint = load_checkpoint(config)
        assert checkpoint.vision is not None
        self._vision = checkpoint.vision
        self._engine = Engine(checkpoint, config)
        self._encoder = ImagePromptEncoder(checkpoint, self._engine.max_context)

    @contextmanager
    def running(self) -> Iterator[Reader]:
        self._engine.start()
        try:
            yield self
        finally:
            self._engine.stop()

    def read(self, asked: Sequence[tuple[Image.Image, str]]) -> list[str]:
        """The raw reply to each image and its prompt."""
        params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, skip_special_tokens=False)
        replies = []
        for image, prompt in asked:
            layout = lay_out(image.size, self._vision.default_mode)
            encoded = self._encoder.encode_raw("prompt", prompt, [layout])
            encoded.images[0].views = cut_views(image.convert("RGB"), layout)
            reply = _Reply()
            self._engine.submit(Request(encoded, params, reply))
            replies.append(reply)
        return [reply.wait().removesuffix(EOS).strip() for reply in tqdm(replies, unit="page", leave=False)]
