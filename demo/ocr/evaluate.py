"""Measures an OCR checkpoint on pages that no training saw, read by the engine: `python -m demo.ocr.evaluate [folder]`.

Texts, seeds and one font are held out. Greedy, in the checkpoint's own mode.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from rapidfuzz.distance import Levenshtein
from tqdm import tqdm

from adapter.ocr.layout import Box
from adapter.ocr.markdown import read_page
from adapter.ocr.templates import build_prompt
from demo.ocr.fonts import HELD_OUT_FONT, check_fonts
from demo.ocr.pages import Page, PageMaker, text_of
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.image_prompt import ImagePromptEncoder
from engine.images import cut_views, lay_out
from engine.loop import Engine
from engine.request import Output, Request
from engine.sampling_params import SamplingParams

FOLDER = Path(__file__).parent
NUM_PAGES, NUM_TABLES, NUM_GROUNDED = 200, 100, 100
MAX_TOKENS = 1700
_CELL = re.compile(r"<td>(.*?)</td>")


class _Waiter:
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
    """The engine with one checkpoint, without Triton around it."""

    def __init__(self, folder: Path, threads: int) -> None:
        config = EngineConfig(
            checkpoint=str(folder), device="cpu", num_threads=threads, cache_gib=0.5, max_repetition_tokens=512
        )
        checkpoint = load_checkpoint(config)
        assert checkpoint.vision is not None
        self._vision = checkpoint.vision
        self.num_parameters = checkpoint.num_parameters
        self._engine = Engine(checkpoint, config)
        self._encoder = ImagePromptEncoder(checkpoint, self._engine.max_context)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._engine.start()
        try:
            yield
        finally:
            self._engine.stop()

    def read(self, images: Sequence[Image.Image], prompt: str) -> list[str]:
        """The raw reply to each image."""
        params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS, skip_special_tokens=False)
        waiters = []
        for image in images:
            layout = lay_out(image.size, self._vision.default_mode)
            encoded = self._encoder.encode_raw("prompt", prompt, [layout])
            encoded.images[0].views = cut_views(image.convert("RGB"), layout)
            waiter = _Waiter()
            self._engine.submit(Request(encoded, params, waiter))
            waiters.append(waiter)
        return [waiter.wait().removesuffix("<｜end▁of▁sentence｜>") for waiter in tqdm(waiters, leave=False)]


@dataclass(frozen=True)
class Figure:
    """A line of the model card; `wanted` is the bar it was made for."""

    title: str
    value: str
    wanted: str = ""


def make_pages(maker: PageMaker, count: int, seed: str) -> list[Page]:
    return [maker.page(random.Random(f"held out/{seed}/{index}")) for index in range(count)]


def character_error_rate(truths: Sequence[str], replies: Sequence[str]) -> float:
    """Edits over characters of the truth, all pages together."""
    edits = sum(Levenshtein.distance(truth, reply.strip()) for truth, reply in zip(truths, replies, strict=True))
    return edits / sum(map(len, truths))


def text_figures(reader: Reader) -> Iterator[Figure]:
    maker = PageMaker(held_out_texts=True)
    unseen = replace(maker, fonts=(HELD_OUT_FONT,), code_fonts=(HELD_OUT_FONT,))
    for title, some_maker, wanted in (
        ("fonts it was trained on", maker, "≤ 3 %"),
        (f"a font it never saw ({HELD_OUT_FONT})", unseen, "≤ 10 %"),
    ):
        pages = make_pages(some_maker, NUM_PAGES, title)
        truths = [text_of(page.text()) for page in pages]
        started_s = time.perf_counter()
        replies = reader.read([page.image for page in pages], build_prompt("free", None))
        seconds = time.perf_counter() - started_s
        rate = character_error_rate(truths, replies)
        whole = sum(truth == reply.strip() for truth, reply in zip(truths, replies, strict=True))
        yield Figure(f"characters wrong, {title}", f"{rate:.1%}".replace("%", " %"), wanted)
        yield Figure("pages without any error", f"{whole} of {NUM_PAGES}")
        yield Figure("pages a minute, many at once", f"{60 * NUM_PAGES / seconds:.0f}")
        worst = sorted(zip(truths, replies, strict=True), key=lambda pair: -Levenshtein.distance(*pair))[:3]
        for truth, reply in worst:
            print(f"--- should be\n{truth}\n--- read\n{reply}")


def table_figures(reader: Reader) -> Iterator[Figure]:
    maker = PageMaker(held_out_texts=True, kinds=("table",), min_lines=2, max_lines=5, ems=(20, 44))
    pages = [page for page in make_pages(maker, 2 * NUM_TABLES, "tables") if page.blocks[0].type == "table"]
    pages = [replace(page, blocks=page.blocks[:1]) for page in pages if len(page.blocks) == 1][:NUM_TABLES]
    truths = [[cell.text for cell in page.blocks[0].lines] for page in pages]
    replies = reader.read([page.image for page in pages], build_prompt("markdown", None))
    read = [_CELL.findall(reply) for reply in replies]
    whole = [truth == cells for truth, cells in zip(truths, read, strict=True)]
    right = sum(
        sum(a == b for a, b in zip(truth, cells, strict=False)) for truth, cells in zip(truths, read, strict=True)
    )
    yield Figure(f"tables with every cell right, of {len(pages)}", _share(sum(whole), len(pages)), "≥ 80 %")
    yield Figure("cells of these tables that are right", _share(right, sum(map(len, truths))))


def grounding_figures(reader: Reader) -> Iterator[Figure]:
    pages = make_pages(PageMaker(held_out_texts=True), NUM_GROUNDED, "boxes")
    replies = reader.read([page.image for page in pages], build_prompt("grounding", None))
    overlaps = []
    for page, reply in zip(pages, replies, strict=True):
        width, height = page.image.size
        found = [box for block in read_page(reply, 1, width, height).blocks for box in block.boxes]
        lines = [line for block in page.blocks for line in block.lines]
        found += [(0, 0, 0, 0)] * (len(lines) - len(found))
        overlaps += [overlap(line.box, box) for line, box in zip(lines, found, strict=False)]
    yield Figure("boxes of lines, mean overlap (IoU)", f"{statistics.mean(overlaps):.2f}", "≥ 0.7")


def overlap(one: tuple[float, float, float, float], other: Box | tuple[int, ...]) -> float:
    """Intersection over union; a missing box has none."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared) if shared else 0.0


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})".replace("%", " %")


def evaluate(folder: Path, threads: int) -> list[Figure]:
    check_fonts()
    reader = Reader(folder, threads)
    with reader.running():
        return [*text_figures(reader), *table_figures(reader), *grounding_figures(reader)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for figure in evaluate(arguments.folder, arguments.threads):
        print(f"{figure.title:<60} {figure.value:<20} {figure.wanted}")


if __name__ == "__main__":
    main()
