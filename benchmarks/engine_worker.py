"""One engine in a process of its own, in the interpreter that has it: workloads in, the time of every token out.

Usage: python -m benchmarks.engine_worker NAME CHECKPOINT MAX_CONTEXT THREADS, with a JSON line for each workload.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

Prompts = list[list[int]]
Times = list[list[float]]
"""For each request, when each of its tokens came, on this process's clock."""


class Peer(Protocol):
    """An engine under test. Greedy, and never ended by a token."""

    def serve(self, prompts: Prompts, max_tokens: int) -> Times:
        """Take all requests at once, and return when the last one ends."""


class Ours:
    """This project's engine."""

    def __init__(self, folder: str, max_context: int, threads: int, *, prefix_cache: bool = True) -> None:
        from engine.checkpoint import load_checkpoint
        from engine.config import EngineConfig
        from engine.loop import Engine

        config = EngineConfig(
            checkpoint=folder,
            dtype="bfloat16",
            device="cpu",
            num_threads=threads,
            max_context=max_context,
            prefix_cache=prefix_cache,
        )
        self._engine = Engine(load_checkpoint(config), config)
        self._engine.start()

    def serve(self, prompts: Prompts, max_tokens: int) -> Times:
        from engine.request import Prompt, Request
        from engine.sampling_params import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
        clocks = [Clock() for _ in prompts]
        for prompt, clock in zip(prompts, clocks, strict=True):
            self._engine.submit(Request(Prompt(prompt), params, clock))
        return [clock.wait() for clock in clocks]

    def stop(self) -> None:
        self._engine.stop()


class Clock:
    """Notes when each token of a request comes."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._error: Exception | None = None
        self._has_ended = threading.Event()

    def on_output(self, output: Any) -> None:
        self._times.append(time.perf_counter())
        if output.finish_reason:
            self._has_ended.set()

    def on_error(self, error: Exception) -> None:
        self._error = error
        self._has_ended.set()

    def wait(self) -> list[float]:
        self._has_ended.wait()
        if self._error:
            raise self._error
        return self._times


class Generate:
    """transformers' `generate`, one request after the other."""

    def __init__(self, folder: str, _: int, threads: int) -> None:
        self._model = _transformers_model(folder, threads)

    def serve(self, prompts: Prompts, max_tokens: int) -> Times:
        import torch

        all_times = []
        for prompt in prompts:
            times: list[float] = []
            ids = torch.tensor([prompt])
            self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                min_new_tokens=max_tokens,
                do_sample=False,
                pad_token_id=0,
                streamer=_Streamer(times),
            )
            all_times.append(times[1:])  # the first call has the prompt
        return all_times


class _Streamer:
    def __init__(self, times: list[float]) -> None:
        self._times = times

    def put(self, _: Any) -> None:
        self._times.append(time.perf_counter())

    def end(self) -> None:
        pass


class Continuous:
    """transformers' continuous batching."""

    def __init__(self, folder: str, max_context: int, threads: int) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        model = _transformers_model(folder, threads)
        self._manager = model.init_continuous_batching(
            GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
            ContinuousBatchingConfig(page_size=32, num_blocks=16 * max_context // 32, max_batch_tokens=512),
        )
        self._manager.start()

    def serve(self, prompts: Prompts, max_tokens: int) -> Times:
        names = [
            self._manager.add_request(prompt, max_new_tokens=max_tokens, record_timestamps=True) for prompt in prompts
        ]
        results = {}
        for result in self._manager:
            if result.error:
                raise RuntimeError(result.error)
            if result.is_finished():
                results[result.request_id] = list(result.timestamps)
            if len(results) == len(names):
                break
        return [results[name] for name in names]


class Vllm:
    """vLLM on CPU."""

    def __init__(self, folder: str, max_context: int, threads: int) -> None:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = "4"
        from vllm import AsyncEngineArgs, AsyncLLMEngine

        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        arguments = AsyncEngineArgs(
            model=folder, dtype="bfloat16", max_model_len=max_context, max_num_seqs=16, disable_log_stats=True
        )

        async def start() -> Any:
            return AsyncLLMEngine.from_engine_args(arguments)

        self._engine = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        self._num_served = 0

    def serve(self, prompts: Prompts, max_tokens: int) -> Times:
        async def serve() -> Times:
            return list(await asyncio.gather(*(self._one(prompt, max_tokens) for prompt in prompts)))

        return asyncio.run_coroutine_threadsafe(serve(), self._loop).result()

    async def _one(self, prompt: list[int], max_tokens: int) -> list[float]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0, max_tokens=max_tokens, ignore_eos=True, output_kind=RequestOutputKind.DELTA
        )
        self._num_served += 1
        times: list[float] = []
        async for output in self._engine.generate({"prompt_token_ids": prompt}, params, str(self._num_served)):
            times += [time.perf_counter()] * len(output.outputs[0].token_ids)
        return times


PEERS: dict[str, Callable[[str, int, int], Peer]] = {
    "ours": Ours, "generate": Generate, "continuous": Continuous, "vllm": Vllm
}  # fmt: skip


def _transformers_model(folder: str, threads: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()


def main() -> None:
    name, folder, max_context, threads = sys.argv[1:]
    # Whatever the engine prints goes to stderr: stdout has answers alone.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = PEERS[name](folder, int(max_context), int(threads))
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        workload = json.loads(line)
        start = time.perf_counter()
        times = peer.serve(workload["prompts"], workload["max_tokens"])
        print(json.dumps([[at - start for at in row] for row in times]), file=answers)


if __name__ == "__main__":
    main()
