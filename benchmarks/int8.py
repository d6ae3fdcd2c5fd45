"""What 8-bit weights change: how the demo model sees programs it was not trained on, and the time of a step.

Usage: python -m benchmarks.int8 [--programs 50] [--rounds 3] [--quick]. Steps are of the random 134M Llama, on CPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.engines import PROJECT, models, save_model
from benchmarks.report import Report
from demo.coder.snippets import SNIPPETS
from engine.attention import KVCache, Segment, StepAttention
from engine.checkpoint import Checkpoint, load_checkpoint
from engine.config import EngineConfig, Quantization

KINDS: dict[str, tuple[str, Quantization | None]] = {
    "float32": ("float32", None), "bfloat16": ("bfloat16", None), "int8": ("bfloat16", "int8")
}  # fmt: skip
MODEL = "Llama, larger"
NUM_CACHED, NUM_STEPS = 256, 20
SEGMENTS = {
    f"{num} with {NUM_CACHED} tokens": [Segment(1, row * NUM_CACHED, NUM_CACHED) for row in range(num)]
    for num in (1, 4, 16)
} | {"a prompt of 512": [Segment(512, 0, 512)]}
"""What a step computes."""
MAX_TOKENS = 16 * NUM_CACHED


def load(folder: Path, kind: str, threads: int) -> Checkpoint:
    dtype, quantization = KINDS[kind]
    config = EngineConfig(
        checkpoint=str(folder), dtype=dtype, device="cpu", num_threads=threads, quantization=quantization
    )
    return load_checkpoint(config)


def logprobs(checkpoint: Checkpoint, tokens: Sequence[int]) -> Tensor:
    """Of every token at each place but the last, `[num_tokens - 1, vocab_size]`."""
    decoder, places = checkpoint.decoder, torch.arange(len(tokens))
    cache = KVCache(decoder.cache_shape, len(tokens), checkpoint.dtype, checkpoint.device)
    attention = StepAttention(cache, places, [Segment(len(tokens), 0, len(tokens))])
    hidden = decoder.forward(decoder.embed(torch.tensor(tokens)), places, attention)
    return decoder.logits(hidden[:-1]).double().log_softmax(-1)


def accuracy(num_programs: int, threads: int) -> list[list[str]]:
    """A row for each kind: perplexity, and against float32 the choices that agree and the divergence."""
    loaded = {kind: load(PROJECT / "demo" / "coder", kind, threads) for kind in KINDS}
    encode = loaded["float32"].tokenizer.encode
    programs = [encode(snippet.before + snippet.line + snippet.after) for snippet in SNIPPETS[:num_programs]]
    losses: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    agreed: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    divergences: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
    for tokens in programs:
        seen = {kind: logprobs(checkpoint, tokens) for kind, checkpoint in loaded.items()}
        exact, following = seen["float32"], torch.tensor(tokens[1:])[:, None]
        for kind, found in seen.items():
            losses[kind].append(-found.gather(1, following))
            agreed[kind].append((found.argmax(-1) == exact.argmax(-1)).double())
            divergences[kind].append((exact.exp() * (exact - found)).sum(-1))
    return [
        [
            kind,
            f"{torch.cat(losses[kind]).mean().exp():.3f}",
            f"{torch.cat(agreed[kind]).mean():.1%}",
            f"{torch.cat(divergences[kind]).mean():.4f}",
        ]
        for kind in KINDS
    ]


def step_s(checkpoint: Checkpoint, cache: KVCache, segments: Sequence[Segment]) -> float:
    """Median time of a step, which has logits for the last row of each sequence."""
    decoder, times = checkpoint.decoder, []
    positions = torch.cat([torch.arange(part.num_cached - part.num_rows, part.num_cached) for part in segments])
    starts = torch.tensor([part.start for part in segments for _ in range(part.num_rows)])
    last = torch.tensor([part.num_rows for part in segments]).cumsum(0) - 1
    for _ in range(NUM_STEPS):
        started_s = time.perf_counter()
        attention = StepAttention(cache, starts + positions, segments)
        decoder.logits(decoder.forward(decoder.embed(positions), positions, attention, last))
        times.append(time.perf_counter() - started_s)
    return median(times)


def steps(rounds: int, threads: int) -> list[list[str]]:
    """A row for each kind of step: milliseconds in bfloat16 and in int8, taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(models()[MODEL], Path(folder))
        loaded = [load(Path(folder), kind, threads) for kind in ("bfloat16", "int8")]
    caches = [KVCache(one.decoder.cache_shape, MAX_TOKENS, one.dtype, one.device) for one in loaded]
    rows = []
    for name, segments in SEGMENTS.items():
        pairs = list(zip(loaded, caches, strict=True))
        times = [[step_s(checkpoint, cache, segments) for checkpoint, cache in pairs] for _ in range(rounds + 1)][1:]
        plain_s, int8_s = (median(row) for row in zip(*times, strict=True))
        ratio = median(plain / small for plain, small in times)
        rows.append([name, f"{1e3 * plain_s:.1f}", f"{1e3 * int8_s:.1f}", f"{ratio:.2f}×"])
    return rows


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="three programs, no steps")
    arguments = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) - 1)
    torch.set_num_threads(threads)
    how = f"{threads} compute thread(s); medians of {arguments.rounds} interleaved rounds."
    report = Report("int8-quick" if arguments.quick else "int8", how)
    header = ["", "perplexity", "same choice as float32", "divergence from it"]
    num_programs = 3 if arguments.quick else arguments.programs
    report.table("The coder demo on held-out programs", header, accuracy(num_programs, threads))
    if not arguments.quick:
        header = ["sequences", "bfloat16, ms", "int8, ms", "int8 is"]
        report.table("A step of the random 134M Llama", header, steps(arguments.rounds, threads))
    report.write()


if __name__ == "__main__":
    main()
