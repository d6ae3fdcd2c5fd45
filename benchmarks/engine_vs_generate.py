"""Tokens per second of the engine beside transformers' `generate`, on a random Llama, in interleaved rounds.

Usage: python -m benchmarks.engine_vs_generate [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.machine import machine
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.loop import Engine
from engine.request import Output, Prompt, Request
from engine.sampling_params import SamplingParams
from tests.checkpoints import train_tokenizer

NUM_INPUT_TOKENS = NUM_OUTPUT_TOKENS = 128
CONCURRENCIES = (1, 4, 16)


class Waiter:
    """Waits for the end of one request."""

    def __init__(self) -> None:
        self._is_done = threading.Event()
        self._error: EngineError | None = None

    def on_output(self, output: Output) -> None:
        if output.finish_reason:
            self._is_done.set()

    def on_error(self, error: EngineError) -> None:
        self._error = error
        self._is_done.set()

    def wait(self) -> None:
        self._is_done.wait()
        if self._error:
            raise self._error


def save_model(folder: Path) -> int:
    """Write a random Llama of 134 million parameters in bfloat16; returns their number."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32256,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    train_tokenizer().save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def run_generate(model: LlamaForCausalLM, prompts: list[list[int]]) -> float:
    """Tokens per second of `generate`, one request after the other."""
    start = time.perf_counter()
    for prompt in prompts:
        ids = torch.tensor([prompt])
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NUM_OUTPUT_TOKENS,
            min_new_tokens=NUM_OUTPUT_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )
    return len(prompts) * NUM_OUTPUT_TOKENS / (time.perf_counter() - start)


def run_engine(engine: Engine, prompts: list[list[int]]) -> float:
    """Tokens per second of the engine, all requests at once."""
    params = SamplingParams(temperature=0.0, max_tokens=NUM_OUTPUT_TOKENS, ignore_eos=True)
    waiters = [Waiter() for _ in prompts]
    start = time.perf_counter()
    for prompt, waiter in zip(prompts, waiters, strict=True):
        engine.submit(Request(Prompt(prompt), params, waiter))
    for waiter in waiters:
        waiter.wait()
    return len(prompts) * NUM_OUTPUT_TOKENS / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        num_parameters = save_model(Path(folder))
        config = EngineConfig(checkpoint=folder, dtype="bfloat16", device="cpu")
        engine = Engine(load_checkpoint(config), config)
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    engine.start()
    generator = torch.Generator().manual_seed(0)
    print(f"{machine()}, {torch.get_num_threads()} compute thread(s) for both")
    print(f"Llama, {num_parameters / 1e6:.0f}M parameters, bfloat16, {NUM_INPUT_TOKENS} tokens in and out each")
    print(f"medians of {rounds} interleaved rounds\n")
    print("| concurrency | generate tok/s | engine tok/s | ratio | ratio min–max |\n|---|---|---|---|---|")
    for concurrency in CONCURRENCIES:
        prompts = torch.randint(2, 32256, (concurrency, NUM_INPUT_TOKENS), generator=generator).tolist()
        run_engine(engine, prompts)
        pairs = [(run_generate(reference, prompts[:4]), run_engine(engine, prompts)) for _ in range(rounds)]
        ratios = [ours / theirs for theirs, ours in pairs]
        theirs, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"| {concurrency} | {theirs:.0f} | {ours:.0f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f}–{max(ratios):.2f} |",
            flush=True,
        )
    engine.stop()


if __name__ == "__main__":
    main()
