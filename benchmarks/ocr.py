"""Pages per minute of the OCR engine beside transformers' `generate`, and where a page's time goes.

Usage: python -m benchmarks.ocr [--checkpoint demo/ocr] [--rounds 3] [--quick]. Both are in one process and take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from benchmarks.engine_worker import Clock
from benchmarks.ocr_pages import draw_page, png
from benchmarks.report import Chart, Report
from engine.checkpoint import Checkpoint, load_checkpoint
from engine.config import EngineConfig
from engine.image_prompt import ImagePromptEncoder
from engine.images import EncodedImage, ImageViews, cut_views, lay_out
from engine.loop import Engine
from engine.models.deepseek_ocr_config import translate
from engine.request import Prompt, Request
from engine.sampling_params import SamplingParams

DEMO = Path(__file__).parents[1] / "demo" / "ocr"
PROMPT = "<image>\nFree OCR."
NUM_TOKENS = 200
"""Of every answer, whatever is on the page: both engines do the same work."""
BATCH = 16
STAGES = ("image", "vision", "prompt", "answer")


@dataclass(frozen=True)
class Page:
    """A page as it comes."""

    png: bytes

    def views(self, checkpoint: Checkpoint) -> ImageViews:
        assert checkpoint.vision is not None
        image = EncodedImage(self.png)
        layout = lay_out(image.size, checkpoint.vision.default_mode)
        assert layout.num_tiles == 0, "the plain path is written for pages in one view"
        return cut_views(image.decode(), layout)


class Plain:
    """transformers' own model and `generate`, page after page."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        assert checkpoint.image_token_id is not None
        config = translate(json.loads((folder / "config.json").read_text()), checkpoint.image_token_id)
        self._model: Any = AutoModelForImageTextToText.from_pretrained(folder, config=config, dtype=checkpoint.dtype)
        self._model.eval()

    @torch.inference_mode()
    def read(self, page: Page) -> dict[str, float]:
        """Seconds of each stage."""
        clock = Stages()
        pixels = page.views(self._checkpoint).view
        values = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        inputs = {
            "input_ids": torch.tensor([prompt(self._checkpoint, page).tokens]),
            "pixel_values": values.to(self._checkpoint.dtype),
            "num_local_patches": [0],
            "patches_grid": [[1, 1]],
        }
        clock.end("image")
        options = {"do_sample": False, "min_new_tokens": NUM_TOKENS, "max_new_tokens": NUM_TOKENS, "pad_token_id": 0}
        mask = torch.ones_like(inputs["input_ids"])
        watch = _Watch(clock)
        self._model.generate(**inputs, attention_mask=mask, stopping_criteria=[watch], **options)
        clock.end("answer")
        return clock.seconds


class _Watch:
    """Ends the stage before the answer when the first token is there."""

    def __init__(self, clock: Stages) -> None:
        self._clock: Stages | None = clock

    def __call__(self, input_ids: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        if self._clock:
            self._clock.end("vision")
            self._clock = None
        return torch.zeros(len(input_ids), dtype=torch.bool)


class Stages:
    """Seconds between the ends of stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last_s = time.perf_counter()

    def end(self, stage: str) -> None:
        now_s = time.perf_counter()
        self.seconds[stage] = now_s - self._last_s
        self._last_s = now_s


def prompt(checkpoint: Checkpoint, page: Page) -> Prompt:
    assert checkpoint.vision is not None
    encoder = ImagePromptEncoder(checkpoint, checkpoint.max_context)
    size = EncodedImage(page.png).size
    return encoder.encode_raw("text_input", PROMPT, [lay_out(size, checkpoint.vision.default_mode)])


class Ours:
    """This project's engine."""

    def __init__(self, checkpoint: Checkpoint, config: EngineConfig) -> None:
        self._checkpoint = checkpoint
        self._engine = Engine(checkpoint, config)
        self._engine.start()
        self._params = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)

    def read(self, pages: list[Page]) -> float:
        """Seconds until all of them, which come at once, are read."""
        started_s = time.perf_counter()
        clocks = []
        for page in pages:
            placed = prompt(self._checkpoint, page)
            placed.images[0].views = page.views(self._checkpoint)
            clocks.append(Clock())
            self._engine.submit(Request(placed, self._params, clocks[-1]))
        return max(clock.wait()[-1] for clock in clocks) - started_s

    @torch.inference_mode()
    def read_in_stages(self, page: Page) -> dict[str, float]:
        """Seconds of each stage, of one page alone."""
        vision = self._checkpoint.vision
        assert vision is not None
        clock = Stages()
        placed = prompt(self._checkpoint, page)
        views = page.views(self._checkpoint)
        clock.end("image")
        image = placed.images[0]
        image.embeddings = vision.arrange(image.layout, vision.encode(views.view[None])[0], None)
        clock.end("vision")
        tokens = Clock()
        started_s = time.perf_counter()
        self._engine.submit(Request(placed, self._params, tokens))
        times = tokens.wait()
        return clock.seconds | {"prompt": times[0] - started_s, "answer": times[-1] - times[0]}

    def stop(self) -> None:
        self._engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=DEMO)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    threads = max(1, (os.cpu_count() or 1) - 1)
    config = EngineConfig(checkpoint=str(arguments.checkpoint), num_threads=threads, cache_gib=1.0)
    checkpoint = load_checkpoint(config)
    plain, ours = Plain(arguments.checkpoint, checkpoint), Ours(checkpoint, config)
    torch.set_num_threads(threads)
    pages = [Page(png(draw_page(number))) for number in range(BATCH)]
    report = Report(
        "ocr-quick" if arguments.quick else "ocr",
        f"{threads} compute thread(s); medians of {rounds} interleaved rounds; {NUM_TOKENS} tokens an answer.",
    )
    speeds: dict[str, list[float]] = {"generate": [], "engine, 1 at once": [], f"engine, {BATCH} at once": []}
    stages: dict[str, list[dict[str, float]]] = {"generate": [], "engine": []}
    plain.read(pages[0])
    ours.read(pages[:2])
    for number in range(rounds):
        page = pages[number]
        stages["generate"].append(plain.read(page))
        speeds["generate"].append(60 / sum(stages["generate"][-1].values()))
        speeds["engine, 1 at once"].append(60 / ours.read([page]))
        speeds[f"engine, {BATCH} at once"].append(60 * BATCH / ours.read(pages))
        stages["engine"].append(ours.read_in_stages(page))
    ours.stop()
    show(report, speeds, stages)
    report.write()


def show(report: Report, speeds: dict[str, list[float]], stages: dict[str, list[dict[str, float]]]) -> None:
    plain = speeds["generate"]
    rows = []
    for name, values in speeds.items():
        ratio = median(a / b for a, b in zip(values, plain, strict=True))
        rows.append([name, f"{median(values):.0f}", f"{ratio:.1f}"])
    report.table("Pages per minute", ["", "pages/min", "of generate's"], rows)
    report.chart(Chart("Pages per minute", "pages/min", list(speeds), {"median": [median(v) for v in speeds.values()]}))
    rows = [
        [name, *(f"{1e3 * median(s[stage] for s in samples):.0f}" if stage in samples[0] else "–" for stage in STAGES)]
        for name, samples in stages.items()
    ]
    report.table("One page alone, ms", ["", *STAGES], rows)
    report.say(
        "*image* decodes and scales it, *vision* encodes it, *prompt* computes its tokens up to the first of the "
        "answer; with `generate` that is part of *vision*."
    )


if __name__ == "__main__":
    main()
