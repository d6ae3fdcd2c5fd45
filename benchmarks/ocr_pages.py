"""Pages per minute one at a time and 16 at once, and what a long PDF costs; needs `make up`.

Usage: python -m benchmarks.ocr_pages [--url http://localhost:8000] [--rounds 3] [--mode base]
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

from benchmarks.machine import machine

NUM_PAGES = 16
NUM_LINES = 14
PDF_SIZES = (10, 50, 200)


def draw_page(number: int) -> Image.Image:
    """An A4 page of large print at 110 dpi, some 500 characters."""
    image = Image.new("RGB", (909, 1286), "white")
    draw = ImageDraw.Draw(image)
    for line in range(NUM_LINES):
        draw.text((80, 80 + 80 * line), f"Page {number}, line {line}: the quick brown fox.", fill="black", font_size=40)
    return image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def read_pages(client: httpx.Client, pages: list[bytes], fields: dict[str, str], at_once: int) -> float:
    """Pages per minute."""

    def read(page: bytes) -> None:
        client.post("/ocr/file", data=fields, files={"file": ("page.png", page)}).raise_for_status()

    started_s = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(read, pages))
    return 60 * len(pages) / (time.perf_counter() - started_s)


class Memory:
    """The most memory, in MiB, that the adapter and its render processes had at once; sampled every 20 ms."""

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak_mib = max(self.peak_mib, sum(map(_resident_mib, _adapter_processes())))


def _adapter_processes() -> list[Path]:
    """The adapter and its children, by what started them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:3] == [b"-m", b"adapter"] or b"spawn_main" in b" ".join(words):
            found.append(process)
    return found


def _resident_mib(process: Path) -> float:
    try:
        return int((process / "statm").read_text().split()[1]) * 4096 / 2**20
    except OSError:
        return 0


def stream_pdf(client: httpx.Client, num_pages: int, fields: dict[str, str]) -> tuple[float, float, float]:
    """Seconds to the first text, seconds in all, and the peak of the adapter's memory in MiB."""
    pages = [draw_page(number) for number in range(num_pages)]
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=110)
    started_s = time.perf_counter()
    first_s = None
    files = {"file": ("document.pdf", file.getvalue())}
    with (
        Memory() as memory,
        client.stream("POST", "/ocr/stream?format=json", data=fields, files=files) as response,
    ):
        response.raise_for_status()
        for line in response.iter_lines():
            if first_s is None and line.startswith("data: {") and json.loads(line[6:])["type"] == "text":
                first_s = time.perf_counter() - started_s
    assert first_s is not None
    return first_s, time.perf_counter() - started_s, memory.peak_mib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mode", help="the checkpoint's own where there is none")
    arguments = parser.parse_args()
    print(machine())
    fields = {"mode": arguments.mode} if arguments.mode else {}
    pages = [png(draw_page(number)) for number in range(NUM_PAGES)]
    with httpx.Client(base_url=arguments.url, timeout=600) as client:
        read_pages(client, pages[:2], fields, 1)
        alone, together = [], []
        for _ in range(arguments.rounds):
            alone.append(read_pages(client, pages[:4], fields, 1))
            together.append(read_pages(client, pages, fields, NUM_PAGES))
        ratios = [many / one for many, one in zip(together, alone, strict=True)]
        print(f"\nmode {arguments.mode or 'of the checkpoint'}, median of {arguments.rounds} rounds")
        print("| pages at once | pages/min | ratio |\n|---|---|---|")
        print(f"| 1 | {statistics.median(alone):.0f} | 1 |")
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        print(f"| {NUM_PAGES} | {statistics.median(together):.0f} | {statistics.median(ratios):.1f} ({spread}) |")
        print("\n| PDF pages, streamed | first text, s | in all, s | adapter's peak memory, MiB |\n|---|---|---|---|")
        brief = fields | {"max_tokens": "40"}
        for num_pages in PDF_SIZES:
            first_s, all_s, peak_mib = stream_pdf(client, num_pages, brief)
            print(f"| {num_pages} | {first_s:.2f} | {all_s:.1f} | {peak_mib:.0f} |")


if __name__ == "__main__":
    main()
