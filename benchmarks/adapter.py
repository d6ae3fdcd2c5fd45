"""What the adapter costs: the same streams straight over gRPC, from `generate_stream`, and through the adapter.

The models say the same token again and again (`benchmarks/talker.py`). It starts a Triton and an adapter of its own.
Usage: python -m benchmarks.adapter [--rounds 3] [--seconds 6] [--quick] [--name adapter]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.perf_analyzer import ProfileLost, ensure_perf_analyzer, grpc_streams
from benchmarks.report import Chart, Report
from tests.e2e.stack import PROJECT, Stack

MODELS = {"unmerged": "Unmerged", "merged": "Merged", "busy": "Busy", "paced": "Paced"}
"""Names in the repository, and classes of `benchmarks/talker.py`."""
TOKEN, NUM_TOKENS, INTERVAL_S, STEP_S = " tok", 128, 0.02, 0.005
"""What the models say, how long `paced` and `busy` take for each token; of all an answer has so many."""
CONCURRENCIES = (1, 16, 64)
DIRECT = "gRPC"
ROUTES = ("adapter", "generate_stream", DIRECT)
MAX_LOST = 5
"""Exports of perf_analyzer that may be broken, one after the other."""
TICKS_S = os.sysconf("SC_CLK_TCK")
PROCESSES = {"Triton": "tritonserver", "model": "triton_python_backend_stub", "adapter": "-m\0adapter"}
"""What the command line of each has."""


@dataclass(frozen=True)
class Answer:
    """One answer as its client saw it, in seconds."""

    start_s: float
    times_s: list[float]
    num_tokens: list[int]
    """That came with each response."""


@dataclass(frozen=True)
class Sample:
    """What one route did with one model."""

    responses_s: float
    tokens_s: float
    first_token_s: float
    gap_s: float
    gap_p99_s: float
    cpu_s: dict[str, float]
    """Seconds per token, of each process."""
    sending_share: float
    """Of the time, which the thread computed that sends the model's responses."""

    @classmethod
    def of(cls, answers: Sequence[Answer], cpu_s: dict[str, float], sending_share: float) -> Sample:
        """Rates are those of the middle of the time, when all streams were busy."""
        responses = sorted(pair for answer in answers for pair in zip(answer.times_s, answer.num_tokens, strict=True))
        start_s, end_s = responses[0][0], responses[-1][0]
        first_s, last_s = (start_s + share * (end_s - start_s) for share in (0.3, 0.7))
        middle = [num_tokens for at, num_tokens in responses if first_s <= at < last_s]
        gaps = [b - a for answer in answers for a, b in pairwise(answer.times_s)]
        return cls(
            len(middle) / (last_s - first_s),
            sum(middle) / (last_s - first_s),
            median(answer.times_s[0] - answer.start_s for answer in answers),
            median(gaps),
            quantiles(gaps, n=100)[98],
            cpu_s,
            sending_share,
        )


class Service:
    """Triton with the talkers, and the adapter before it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._triton = f"localhost:{stack.ports['TRITON_HTTP_PORT']}"
        self._num_answers = 0
        """Of the last measurement: perf_analyzer has to be told how many requests to send."""

    def measure(self, route: str, model: str, concurrency: int, seconds: float) -> Sample:
        cpu_before, before, started_s = self._cpu_s(), self._description(model), time.perf_counter()
        answers = self._routes[route](model, concurrency, seconds)
        after, took_s = self._description(model), time.perf_counter() - started_s
        num_said = after["num_said"] - before["num_said"]
        cpu_s = {name: (now_s - cpu_before[name]) / num_said for name, now_s in self._cpu_s().items()}
        self._num_answers = len(answers)
        assert all(sum(answer.num_tokens) == NUM_TOKENS for answer in answers), f"an answer of {route} is not whole"
        return Sample.of(answers, cpu_s, (after["sending_s"] - before["sending_s"]) / took_s)

    @property
    def _routes(self) -> dict[str, Callable[[str, int, float], list[Answer]]]:
        return dict(zip(ROUTES, (self._adapter, self._generate_stream, self._over_grpc), strict=True))

    def _over_grpc(self, model: str, concurrency: int, _: float) -> list[Answer]:
        inputs = {"text_input": "Talk.", "sampling_parameters": json.dumps({"max_tokens": NUM_TOKENS})}
        return [
            Answer(
                request["timestamp"] / 1e9,
                [at / 1e9 for at in request["response_timestamps"]],
                [output.get("text_output", "").count(TOKEN) for output in request["response_outputs"]],
            )
            for request in grpc_streams(self._stack.grpc_address, model, inputs, concurrency, self._num_answers)
        ]

    def _generate_stream(self, model: str, concurrency: int, seconds: float) -> list[Answer]:
        body = {"text_input": "Talk.", "sampling_parameters": json.dumps({"max_tokens": NUM_TOKENS})}
        return self._events(self._triton, f"/v2/models/{model}/generate_stream", body, model, concurrency, seconds)

    def _adapter(self, model: str, concurrency: int, seconds: float) -> list[Answer]:
        messages = [{"role": "user", "content": "Talk."}]
        body = {"model": model, "messages": messages, "max_tokens": NUM_TOKENS, "stream": True}
        address = f"localhost:{self._stack.ports['ADAPTER_PORT']}"
        return self._events(address, "/v1/chat/completions", body, model, concurrency, seconds)

    def _events(
        self, address: str, path: str, body: dict[str, Any], model: str, concurrency: int, seconds: float
    ) -> list[Answer]:
        # Streams of one length that begin together would begin together again and again, as users' do not.
        spread_s = NUM_TOKENS * INTERVAL_S if model == "paced" else 0.0
        numbers = map(str, (concurrency, seconds, spread_s))
        command = [sys.executable, "-m", "benchmarks.sse_load", address, path, *numbers, TOKEN]
        load = subprocess.run(
            command, cwd=PROJECT, input=json.dumps(body), text=True, stdout=subprocess.PIPE, check=True
        )
        return [Answer(*json.loads(line)) for line in load.stdout.splitlines()]

    def _description(self, model: str) -> dict[str, Any]:
        body = json.dumps({"describe": True}).encode()
        with urllib.request.urlopen(f"http://{self._triton}/v2/models/{model}/generate_stream", body) as response:
            answer = json.loads(response.read().removeprefix(b"data: "))
        description: dict[str, Any] = json.loads(answer["text_output"])
        return description

    def _cpu_s(self) -> dict[str, float]:
        """Seconds that each kind of process has computed."""
        totals = dict.fromkeys(PROCESSES, 0.0)
        marker = f"DEEPSEEK_ON_TRITON_RUN_DIR={self._stack.run_dir}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if marker not in (process / "environ").read_bytes():
                    continue
                command = (process / "cmdline").read_text().split("\0")
                words = (process / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            for name, sign in PROCESSES.items():
                if command[0].endswith(sign) or sign in "\0".join(command[:3]):
                    totals[name] += (int(words[11]) + int(words[12])) / TICKS_S
        return totals


@contextmanager
def service() -> Iterator[Service]:
    """A Triton and an adapter that serve the talkers."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder, "models")
        coder = (PROJECT / "model_repository" / "coder" / "config.pbtxt").read_text()
        for name, class_name in MODELS.items():
            (repository / name / "1").mkdir(parents=True)
            (repository / name / "config.pbtxt").write_text(coder.replace('name: "coder"', f'name: "{name}"'))
            shim = f"from benchmarks.talker import {class_name} as TritonPythonModel\n"
            (repository / name / "1" / "model.py").write_text(shim)
        models = json.dumps({name: name for name in MODELS})
        stack = Stack(
            Path(folder, "run"), MODEL_REPOSITORY=str(repository), ADAPTER_MODELS=models, ADAPTER_ACCESS_LOG="false"
        )
        stack.up()
        try:
            yield Service(stack)
        finally:
            stack.down()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="one short round, 1 and 16 at once")
    parser.add_argument("--name", default="adapter", help="of the files that it writes, to keep another machine's")
    arguments = parser.parse_args()
    rounds, seconds = (1, 4.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    concurrencies = CONCURRENCIES[:2] if arguments.quick else CONCURRENCIES
    ensure_perf_analyzer()
    how = (
        f"Medians of {rounds} interleaved rounds of {seconds:g} s, {NUM_TOKENS} tokens an answer; gRPC: perf_analyzer, "
        "whose streams of `paced` begin all at once, the others' one after the other. A step is a token for each "
        f"stream; `busy` computes for {STEP_S * 1e3:g} ms of it, `paced` waits for {INTERVAL_S * 1e3:g} ms."
    )
    report = Report(f"{arguments.name}-quick" if arguments.quick else arguments.name, how)
    with service() as running:
        running.measure("adapter", "merged", 1, 1.0)  # the first request of a connection costs more
        for model in MODELS:
            samples: dict[tuple[int, str], list[Sample]] = {}
            for _ in range(rounds):
                for concurrency in concurrencies:
                    for route in ROUTES:
                        sample = measure(running, route, model, concurrency, seconds)
                        samples.setdefault((concurrency, route), []).append(sample)
            show(report, model, samples)
    report.write()


def measure(running: Service, route: str, model: str, concurrency: int, seconds: float) -> Sample:
    for _ in range(MAX_LOST):
        try:
            return running.measure(route, model, concurrency, seconds)
        except ProfileLost as error:
            print(f"{error}; measured once more", file=sys.stderr)
    return running.measure(route, model, concurrency, seconds)


def show(report: Report, model: str, samples: dict[tuple[int, str], list[Sample]]) -> None:
    """A table of medians, its ratio to gRPC in the same rounds, and its chart."""
    lines = []
    for (concurrency, route), row in samples.items():
        direct = samples[concurrency, DIRECT]
        ratio = median(a.responses_s / b.responses_s for a, b in zip(row, direct, strict=True))
        cells = [
            median(sample.tokens_s for sample in row) / NUM_TOKENS,
            median(sample.tokens_s for sample in row),
            median(sample.responses_s for sample in row),
        ]
        times_ms = [1e3 * median(getattr(s, part) for s in row) for part in ("first_token_s", "gap_s", "gap_p99_s")]
        cpu_us = [1e6 * median(sample.cpu_s[name] for sample in row) for name in PROCESSES]
        lines.append(
            [str(concurrency), route, *(f"{cell:,.0f}" for cell in cells), f"{ratio:.2f}"]
            + [f"{1e3 * concurrency / cells[1]:.2f}"]
            + [f"{time_ms:.2f}" for time_ms in times_ms] + [f"{us:.0f}" for us in cpu_us]
            + ["–" if model == "unmerged" else f"{median(sample.sending_share for sample in row):.0%}"]
        )  # fmt: skip
    header = ["at once", "", "requests/s", "tokens/s", "responses/s", "of gRPC's", "step, ms"]
    header += ["first token, ms", "gap, ms", "p99"]
    header += [*(f"{name}, CPU µs a token" for name in PROCESSES), "sending, of the time"]
    report.table(model, header, lines)
    groups = sorted({concurrency for concurrency, _ in samples})
    series = {route: [median(s.tokens_s for s in samples[group, route]) for group in groups] for route in ROUTES}
    report.chart(Chart(model, "tokens/s", [f"{group} at once" for group in groups], series))


if __name__ == "__main__":
    main()
