"""How cost grows: the time of a decode step by batch and context, and the memory of the process over many requests.

Usage: python -m benchmarks.growth [--requests 10000] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine_worker import Ours
from benchmarks.engines import MAX_CONTEXT, VOCAB_SIZE, models, save_model
from benchmarks.report import Chart, Report
from engine.runner import Runner

BATCHES = (1, 2, 4, 8, 16)
CONTEXTS = (128, 512, 1024, 2048, 3584)
NUM_STEPS = 40
PROMPT_TOKENS = 240
"""Of prompts, of which a step computes more while any is left."""
NUM_SAMPLES = 10
"""Of the memory, over all requests."""


@dataclass(frozen=True)
class Step:
    """Median times of decode steps."""

    whole_s: float
    """Between two tokens of a request."""
    model_s: float
    """In which the model computes; the rest of a step is around it."""


class Decoding:
    """Times decode steps of an engine."""

    def __init__(self, engine: Ours) -> None:
        self._engine = engine
        self._runs: list[tuple[float, float]] = []
        """When each run of the model began, and how long it took."""
        self._time_runs(engine._engine._runner)

    def step(self, num_rows: int, context: int) -> Step:
        """The first of `num_rows` requests together, whose prompts have `context` tokens each: they are looked at from
        when the last of them has begun to answer."""
        prompts = [[2 + (row + i) % (VOCAB_SIZE - 2) for i in range(context)] for row in range(num_rows)]
        num_prefill_steps = num_rows * -(-context // PROMPT_TOKENS)
        self._runs.clear()
        times = self._engine.serve(prompts, num_prefill_steps + NUM_STEPS)
        start_s, end_s = max(row[0] for row in times), min(row[-1] for row in times)
        runs = [(began_s, took_s) for began_s, took_s in self._runs if start_s <= began_s < end_s][:NUM_STEPS]
        assert len(runs) >= NUM_STEPS // 2, f"{num_rows} requests of {context} tokens were hardly ever decoded together"
        last_s = runs[-1][0]
        whole_s = median(b - a for row in times for a, b in pairwise(row) if start_s <= a < last_s)
        return Step(whole_s, median(took_s for _, took_s in runs))

    def _time_runs(self, runner: Runner) -> None:
        run = runner.run

        def timed(*arguments: Any) -> Any:
            began_s = time.perf_counter()
            logits = run(*arguments)
            self._runs.append((began_s, time.perf_counter() - began_s))
            return logits

        runner.run = timed  # type: ignore[method-assign]


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(engine: Ours, num_requests: int) -> list[tuple[int, float]]:
    """Requests so far, and MiB in use: prompts and answers of all lengths, 64 at a time."""
    rng = random.Random(0)
    samples, served = [], 0
    while served < num_requests:
        prompts = [[rng.randrange(2, VOCAB_SIZE) for _ in range(rng.randint(1, 200))] for _ in range(64)]
        engine.serve(prompts, rng.randint(1, 16))
        served += len(prompts)
        if served * NUM_SAMPLES // num_requests > len(samples):
            gc.collect()
            samples.append((served, resident_mib()))
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="the smallest model, few requests")
    arguments = parser.parse_args()
    num_requests = 640 if arguments.quick else arguments.requests
    threads = max(1, (os.cpu_count() or 1) - 1)
    name = "growth-quick" if arguments.quick else "growth"
    how = f"{threads} compute thread(s); medians of {NUM_STEPS} steps. Around the model: to schedule, sample and say."
    report = Report(name, how)
    for title, config in list(models().items())[: 1 if arguments.quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            save_model(config, Path(folder))
            show_steps(report, title, folder, threads)
            if title == next(iter(models())):
                show_memory(report, title, folder, threads, num_requests)
    report.write()


def show_steps(report: Report, title: str, folder: str, threads: int) -> None:
    engine = Ours(folder, MAX_CONTEXT, threads, prefix_cache=False)
    decoding = Decoding(engine)
    times: dict[int, list[float]] = {}
    around_ms: list[float] = []
    for context in CONTEXTS:
        for num_rows in BATCHES:
            step = decoding.step(num_rows, context)
            times.setdefault(context, []).append(1e3 * step.whole_s)
            if context == CONTEXTS[0]:
                around_ms.append(1e3 * (step.whole_s - step.model_s))
    engine.stop()
    rows = [[str(context), *(f"{ms:.2f}" for ms in row)] for context, row in times.items()]
    rows.append([f"{CONTEXTS[0]}, around the model", *(f"{ms:.2f}" for ms in around_ms)])
    report.table(f"{title}: ms a step", ["context", *(f"{n} at once" for n in BATCHES)], rows)
    series = {f"context {context}": row for context, row in times.items()}
    report.chart(Chart(f"{title}: a step", "ms", [f"{n} at once" for n in BATCHES], series))


def show_memory(report: Report, title: str, folder: str, threads: int, num_requests: int) -> None:
    engine = Ours(folder, MAX_CONTEXT, threads)
    started_s = time.perf_counter()
    used = memory(engine, num_requests)
    took_s = time.perf_counter() - started_s
    engine.stop()
    rows = [[str(served), f"{mib:.0f}"] for served, mib in used]
    report.table(f"{title}: {used[-1][0]} requests in {took_s:.0f} s", ["requests", "MiB in use"], rows)


if __name__ == "__main__":
    main()
