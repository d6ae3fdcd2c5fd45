"""What one user of the bundled checkpoints waits for: tokens per second of one stream, seconds a page; needs `make up`.

Usage: python -m benchmarks.demo_models [--url http://localhost:8000] [--rounds 20]
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import time

import httpx
import openai

from benchmarks.machine import machine
from demo.ocr.fonts import PILLOWS_OWN
from demo.ocr.maker import PageMaker

NUM_LINES = 10
QUESTION = "Write a Python function to implement quicksort"
MAKER = PageMaker(fonts=(PILLOWS_OWN,), code_fonts=(PILLOWS_OWN,), kinds=("text",), min_proportion=0.9, ems=(34, 40))


def tokens_per_second(client: openai.OpenAI) -> float:
    """Of one streamed chat, from its first token to its last."""
    stream = client.chat.completions.create(
        model="deepseek-coder",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    first_s, num_tokens = None, 0
    for chunk in stream:
        if first_s is None and chunk.choices and chunk.choices[0].delta.content:
            first_s = time.perf_counter()
        if chunk.usage:
            num_tokens = chunk.usage.completion_tokens
    assert first_s is not None
    return (num_tokens - 1) / (time.perf_counter() - first_s)


def draw_pages(count: int) -> list[bytes]:
    """PNGs of pages with exactly `NUM_LINES` printed lines."""
    pages: list[bytes] = []
    for seed in range(10_000):
        page = MAKER.page(random.Random(seed))
        if sum(len(block.lines) for block in page.blocks) == NUM_LINES:
            file = io.BytesIO()
            page.image.save(file, "PNG")
            pages.append(file.getvalue())
        if len(pages) == count:
            return pages
    raise AssertionError(f"only {len(pages)} pages have {NUM_LINES} lines")


def seconds_of_page(client: httpx.Client, page: bytes) -> float:
    started_s = time.perf_counter()
    client.post("/ocr/file", files={"file": ("page.png", page)}).raise_for_status()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    pages = draw_pages(arguments.rounds + 1)
    coder = openai.OpenAI(base_url=f"{arguments.url}/v1", api_key="none")
    speeds, waits = [], []
    with httpx.Client(base_url=arguments.url, timeout=120) as http:
        tokens_per_second(coder)
        seconds_of_page(http, pages[0])
        for page in pages[1:]:
            speeds.append(tokens_per_second(coder))
            waits.append(seconds_of_page(http, page))
    print(f"{machine()}; {arguments.rounds} rounds\n")
    print("| | median | worst |\n|---|---|---|")
    print(f"| coder, one stream, tokens/s | {statistics.median(speeds):.0f} | {min(speeds):.0f} |")
    print(f"| a page of {NUM_LINES} lines read, s | {statistics.median(waits):.2f} | {max(waits):.2f} |")


if __name__ == "__main__":
    main()
