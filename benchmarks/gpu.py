"""The engine on a GPU, with random weights in the shapes of DeepSeek's models: tokens/s beside the bandwidth's limit.

Usage: python -m benchmarks.gpu [--models NAME …] [--concurrency 1 4 …] [--tokens 128]. `--small` has tiny models of the
same kinds, to try the benchmark itself on any machine.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DeepseekV2Config,
    LlamaConfig,
    PretrainedConfig,
)

from benchmarks.engine_worker import Clock
from benchmarks.report import Chart, Report
from engine.checkpoint import Checkpoint
from engine.config import EngineConfig
from engine.linear import Linears
from engine.loop import Engine
from engine.models.deepseek_ocr_config import translate
from engine.models.fused import FusedDecoder
from engine.request import Prompt, Request
from engine.sampling_params import SamplingParams
from tests.checkpoints import configs, ocr_config, ocr_config_json, train_tokenizer

CONCURRENCY = (1, 4, 16, 64, 256)
PROMPT_TOKENS = 128
MAX_CONTEXT = 4096


def llama(hidden_size: int, intermediate_size: int, num_layers: int, num_heads: int) -> LlamaConfig:
    """DeepSeek-Coder's."""
    return LlamaConfig(
        vocab_size=32256,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        max_position_embeddings=16384,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
    )


def v2_lite() -> DeepseekV2Config:
    return DeepseekV2Config(
        vocab_size=102400,
        hidden_size=2048,
        intermediate_size=10944,
        moe_intermediate_size=1408,
        num_hidden_layers=27,
        num_attention_heads=16,
        num_key_value_heads=16,
        kv_lora_rank=512,
        q_lora_rank=None,
        n_routed_experts=64,
        n_shared_experts=2,
        num_experts_per_tok=6,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        max_position_embeddings=MAX_CONTEXT,
    )


def ocr_decoder() -> PretrainedConfig:
    """DeepSeek-OCR's decoder in its real size, behind a small vision tower that is not measured."""
    config = ocr_config_json("deepseek_ocr")
    config["language_config"] |= {
        **{"vocab_size": 129280, "hidden_size": 1280, "intermediate_size": 6848, "num_attention_heads": 10},
        **{"num_hidden_layers": 12, "num_key_value_heads": 10, "moe_intermediate_size": 896, "n_routed_experts": 64},
        **{"n_shared_experts": 2, "num_experts_per_tok": 6, "max_position_embeddings": 8192},
    }
    config["projector_config"]["n_embed"] = 1280
    return translate(config, image_token_id=2)


MODELS: dict[str, Callable[[], PretrainedConfig]] = {
    "DeepSeek-Coder-1.3B": lambda: llama(2048, 5504, 24, 16),
    "DeepSeek-Coder-6.7B": lambda: llama(4096, 11008, 32, 32),
    "DeepSeek-V2-Lite": v2_lite,
    "DeepSeek-OCR's decoder": ocr_decoder,
}
SMALL: dict[str, Callable[[], PretrainedConfig]] = {
    "DeepSeek-Coder-1.3B": lambda: configs()["llama"],
    "DeepSeek-Coder-6.7B": lambda: configs()["llama"],
    "DeepSeek-V2-Lite": lambda: configs()["deepseek_v2"],
    "DeepSeek-OCR's decoder": lambda: ocr_config("deepseek_ocr"),
}


@dataclass(frozen=True)
class Loaded:
    """A random model, and what a decode step has to read of it."""

    checkpoint: Checkpoint
    num_bytes: int
    """Weights that every step reads."""
    expert_bytes: int
    """Routed experts of all layers together."""
    share: float
    """Of the experts, that a token chooses."""

    def step_bytes(self, num_rows: int, context: int) -> float:
        """Weights once, experts as many as `num_rows` random choices touch, and the cache of each row."""
        touched = 1 - (1 - self.share) ** num_rows
        cache = self.checkpoint.decoder.cache_shape.token_bytes(torch.bfloat16)
        return self.num_bytes + touched * self.expert_bytes + num_rows * context * cache


def load(config: PretrainedConfig, device: torch.device) -> Loaded:
    text = config.get_text_config()
    kind: Any = AutoModelForCausalLM if text is config else AutoModelForImageTextToText
    torch.manual_seed(0)
    with torch.device(device):
        model = kind.from_config(config, dtype=torch.bfloat16).eval()
    sizes = {name: parameter.numel() * 2 for name, parameter in model.named_parameters() if "vision" not in name}
    expert_bytes = sum(size for name, size in sizes.items() if ".experts." in name)
    embedding_bytes = sum(size for name, size in sizes.items() if "embed_tokens" in name)
    num_bytes = sum(sizes.values()) - expert_bytes - embedding_bytes
    share = text.num_experts_per_tok / text.n_routed_experts if expert_bytes else 0.0
    checkpoint = Checkpoint(
        name="random",
        architecture=type(model).__name__,
        decoder=FusedDecoder(model, min(MAX_CONTEXT, text.max_position_embeddings), Linears()),
        tokenizer=train_tokenizer(),
        eos_token_ids=frozenset(),
        max_context=min(MAX_CONTEXT, text.max_position_embeddings),
        vocab_size=text.vocab_size,
        num_parameters=sum(sizes.values()) // 2,
        dtype=torch.bfloat16,
        device=device,
        vision=None,
        bos_token_id=None,
        image_token_id=None,
        suppressed_token_ids=frozenset(),
    )
    return Loaded(checkpoint, num_bytes, expert_bytes, share)


def bandwidth(device: torch.device) -> float:
    """Bytes per second that a copy reads and writes."""
    source = torch.ones(2**30 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy_s() -> float:
        wait(device)
        start = time.perf_counter()
        target.copy_(source)
        wait(device)
        return time.perf_counter() - start

    return 2 * source.numel() / min(copy_s() for _ in range(10))


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def serve(engine: Engine, num_requests: int, num_tokens: int, vocab_size: int) -> list[list[float]]:
    """When each token of each request came."""
    rng = random.Random(0)
    params = SamplingParams(temperature=0.0, max_tokens=num_tokens, ignore_eos=True)
    clocks = [Clock() for _ in range(num_requests)]
    for clock in clocks:
        engine.submit(Request(Prompt([rng.randrange(vocab_size) for _ in range(PROMPT_TOKENS)]), params, clock))
    return [clock.wait() for clock in clocks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--concurrency", nargs="*", type=int, default=list(CONCURRENCY))
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if not arguments.small and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --small tries the benchmark itself on a CPU")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    bytes_s = bandwidth(device)
    how = f"{name}, which copies {bytes_s / 1e9:,.0f} GB/s; {PROMPT_TOKENS} tokens in, {arguments.tokens} out."
    report = Report("gpu-small" if arguments.small else "gpu", how)
    for title in arguments.models:
        measure(report, title, arguments, device, bytes_s)
    report.write()


def measure(report: Report, title: str, arguments: argparse.Namespace, device: torch.device, bytes_s: float) -> None:
    loaded = load((SMALL if arguments.small else MODELS)[title](), device)
    settings = EngineConfig(checkpoint="random", max_sequences=max(arguments.concurrency), max_step_tokens=2048)
    with torch.inference_mode():
        engine = Engine(loaded.checkpoint, settings)
    engine.start()
    rows, speeds = [], []
    for concurrency in arguments.concurrency:
        serve(engine, concurrency, arguments.tokens, loaded.checkpoint.vocab_size)  # records the steps of this size
        times = serve(engine, concurrency, arguments.tokens, loaded.checkpoint.vocab_size)
        start = max(row[0] for row in times)
        gaps = [b - a for row in times for a, b in pairwise(row) if a >= start]
        step_s = median(gaps)
        limit_s = loaded.step_bytes(concurrency, PROMPT_TOKENS + arguments.tokens // 2) / bytes_s
        speeds.append(concurrency / step_s)
        cells = f"{speeds[-1]:,.0f}", f"{step_s * 1e3:.2f}", f"{quantiles(gaps, n=100)[98] * 1e3:.2f}"
        rows.append([str(concurrency), *cells, f"{limit_s / step_s:.0%}"])
    engine.stop()
    header = ["at once", "tokens/s", "between tokens, ms", "p99", "of the bandwidth"]
    report.table(f"{title}, {loaded.checkpoint.num_parameters / 1e9:.1f}B parameters", header, rows)
    report.chart(Chart(title, "tokens/s", [f"{n} at once" for n in arguments.concurrency], {"decode": speeds}))
    del engine, loaded
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
