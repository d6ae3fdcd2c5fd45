"""What holding answers to a form costs: tokens per second beside free answers of the same lengths, and one mask's time.

Usage: python -m benchmarks.guidance [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from benchmarks.engine_worker import Clock, Ours
from benchmarks.engines import MAX_CONTEXT, PROJECT, VOCAB_SIZE, models, save_model
from benchmarks.report import Report
from engine.guidance import Guidance
from engine.request import Prompt, Request
from engine.sampler import unpacked
from engine.sampling_params import SamplingParams

FORMS: dict[str, dict[str, Any]] = {
    "a schema": {
        "guided_json": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "sizes": {"type": "array", "items": {"type": "number"}}},
                "required": ["name", "sizes"],
                "additionalProperties": False,
            },
        }
    },
    "an expression": {"guided_regex": "[a-z ]+(, [a-z ]+)*"},
    "a grammar": {"guided_grammar": 'start: term (/[-+*]/ term)*\nterm: /[0-9]+/ | "(" start ")"\n'},
}
NUM_REQUESTS, NUM_TOKENS, NUM_MASKS = 16, 128, 200


def serve(engine: Ours, prompts: list[list[int]], params: list[SamplingParams]) -> tuple[list[int], float]:
    """How many tokens each answer has, and tokens per second of all."""
    clocks = [Clock() for _ in prompts]
    requests = [Request(Prompt(p), given, clock) for p, given, clock in zip(prompts, params, clocks, strict=True)]
    for request in requests:
        engine._engine.check(request)
    started_s = time.perf_counter()
    for request in requests:
        engine._engine.submit(request)
    lengths = [len(clock.wait()) for clock in clocks]
    return lengths, sum(lengths) / (time.perf_counter() - started_s)


def ratios(engine: Ours, form: dict[str, Any], rounds: int) -> list[tuple[float, float]]:
    """Tokens per second held to the form and free, by round; the first one, which warms up, is left out."""
    rng = random.Random(0)
    found = []
    for number in range(rounds + 1):
        prompts = [[rng.randrange(2, VOCAB_SIZE) for _ in range(NUM_TOKENS)] for _ in range(NUM_REQUESTS)]
        held = [SamplingParams(**form, temperature=1.0, max_tokens=NUM_TOKENS, seed=i) for i in range(NUM_REQUESTS)]
        lengths, held_s = serve(engine, prompts, held)
        free = [SamplingParams(temperature=1.0, max_tokens=length, ignore_eos=True, seed=0) for length in lengths]
        _, free_s = serve(engine, prompts, free)
        if number:
            found.append((held_s, free_s))
    return found


def mask_us(form: dict[str, Any]) -> float:
    """Median time of one mask over the demo coder's vocabulary, along a random answer."""
    tokenizer = AutoTokenizer.from_pretrained(PROJECT / "demo" / "coder")
    guidance = Guidance(tokenizer, len(tokenizer), frozenset({tokenizer.eos_token_id}))
    guide = guidance.guide(SamplingParams(**form))
    assert guide is not None
    rng, times = random.Random(0), []
    for _ in range(NUM_MASKS):
        started_s = time.perf_counter()
        future = guidance.begin_masks([guide])
        assert future is not None
        mask = unpacked(future.result(), len(tokenizer))[0]
        times.append(time.perf_counter() - started_s)
        guide.choose(rng.choice(mask.nonzero().flatten().tolist()), 1 << 20)
        if guide.is_done:
            break
    guidance.stop()
    return 1e6 * median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the smallest model, one round")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    threads = max(1, (os.cpu_count() or 1) - 1)
    how = f"{threads} compute thread(s), {NUM_REQUESTS} at once, up to {NUM_TOKENS} tokens, medians of {rounds} rounds"
    report = Report("guidance-quick" if arguments.quick else "guidance", f"{how}; free answers have the same lengths.")
    rows = [[name, f"{mask_us(form):.0f}"] for name, form in FORMS.items()]
    report.table("One mask of 4,096 tokens, its thread included", ["held to", "µs"], rows)
    for title, config in list(models().items())[: 1 if arguments.quick else 2]:
        with tempfile.TemporaryDirectory() as folder:
            save_model(config, Path(folder))
            engine = Ours(folder, MAX_CONTEXT, threads)
            rows = []
            for name, form in FORMS.items():
                found = ratios(engine, form, rounds)
                held, free, ratio = (median(row) for row in zip(*((a, b, a / b) for a, b in found), strict=True))
                rows.append([name, f"{held:.0f}", f"{free:.0f}", f"{ratio:.2f}"])
            engine.stop()
        report.table(title, ["held to", "tokens/s", "free", "ratio"], rows)
    report.write()


if __name__ == "__main__":
    main()
