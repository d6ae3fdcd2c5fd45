"""What the latent cache saves on DeepSeek-V2's models: bytes per token, sequences that fit, and time.

Usage: python -m benchmarks.latent_cache [--cache-gib 16] [--context 8192] [--rounds 3] [--no-steps]. The steps are of
random layers with V2-Lite's attention, on CPU.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import DeepseekV2Config

from benchmarks.engine_worker import Ours
from benchmarks.engines import MAX_CONTEXT, VOCAB_SIZE, save_model
from benchmarks.growth import Decoding
from benchmarks.report import Report
from engine.attention import CacheShape, StepAttention
from engine.linear import Linears
from engine.models import fused
from engine.models.attention import LatentAttention
from engine.models.pointwise import Rotary, rms_norm, rotate

RANK, ROPE_DIM, KEY_DIM, VALUE_DIM = 512, 64, 128, 128
MODELS = {"DeepSeek-V2": (60, 128), "DeepSeek-V2-Lite": (27, 16), "DeepSeek-Coder-V2-Lite": (27, 16)}
"""Layers and heads, from each model's config.json; the other sizes are the same in all three."""
NUM_LAYERS = 4
"""Of the layers that are timed. Their feed-forward part is small: the rest of a model would hide the difference."""
CONTEXTS, NUM_SEQUENCES = (256, 2048), 16


class ExpandedAttention(LatentAttention):
    """The same attention with the keys and values of all heads in the cache."""

    def __init__(self, module: object, linears: Linears) -> None:
        super().__init__(module, linears)
        self.cache_heads = self._num_heads, self._key_dim + self._rope_dim, self._value_dim

    def see(self, layer: int, x: Tensor, rotary: Rotary, attention: StepAttention) -> Tensor:
        query, latent, key = self._down(x).tensor_split((-self._rank - self._rope_dim, -self._rope_dim), dim=-1)
        plain, rotated = query.view(len(x), self._num_heads, -1).tensor_split((self._key_dim,), dim=-1)
        turned = rotate(torch.cat((rotated, key[:, None]), dim=1), self._num_heads + 1, rotary)
        made = self._expand(rms_norm(latent, self._latent_norm)).view(len(x), self._num_heads, -1)
        keys, values = made.tensor_split((self._key_dim,), dim=-1)
        keys = torch.cat((keys, turned[:, -1:].expand(-1, self._num_heads, -1)), dim=-1)
        rows = torch.cat((plain, turned[:, :-1]), dim=-1)
        return attention.attend(layer, rows, keys, values, self._scale).flatten(1)


def sizes(cache_gib: float, context: int) -> list[list[str]]:
    """A row for each model: bytes a token both ways, and sequences that fit."""
    rows = []
    for name, (num_layers, num_heads) in MODELS.items():
        expanded = CacheShape(num_layers, num_heads, KEY_DIM + ROPE_DIM, VALUE_DIM).token_bytes(torch.bfloat16)
        latent = CacheShape(num_layers, 1, RANK + ROPE_DIM, 0).token_bytes(torch.bfloat16)
        fit = [str(int(cache_gib * 2**30 / size / context)) for size in (expanded, latent)]
        rows.append([name, f"{expanded:,}", f"{latent:,}", f"{expanded / latent:.1f}", *fit])
    return rows


def steps(rounds: int, threads: int) -> list[list[str]]:
    """A row for each context: milliseconds of a decode step of 16 sequences, both ways, taking turns."""
    config = DeepseekV2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=2048,
        intermediate_size=512,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=16,
        num_key_value_heads=16,
        q_lora_rank=None,
        kv_lora_rank=RANK,
        qk_rope_head_dim=ROPE_DIM,
        qk_nope_head_dim=KEY_DIM,
        v_head_dim=VALUE_DIM,
        first_k_dense_replace=NUM_LAYERS,
        max_position_embeddings=MAX_CONTEXT,
    )
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        save_model(config, Path(folder))
        decodings = []
        for kind in (ExpandedAttention, LatentAttention):
            with patch.object(fused, "LatentAttention", kind):
                engine = Ours(folder, MAX_CONTEXT, threads, prefix_cache=False)
            stack.callback(engine.stop)
            decodings.append(Decoding(engine))
        rows = []
        for context in CONTEXTS:
            times = [[decoding.step(NUM_SEQUENCES, context).whole_s for decoding in decodings] for _ in range(rounds)]
            expanded, latent = (1e3 * median(row) for row in zip(*times, strict=True))
            ratio = median(expanded_s / latent_s for expanded_s, latent_s in times)
            rows.append([str(context), f"{expanded:.1f}", f"{latent:.1f}", f"{ratio:.2f}×"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache-gib", type=float, default=16)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-steps", action="store_true", help="what needs no computing")
    arguments = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) - 1)
    report = Report("latent-cache", f"bfloat16; {threads} compute thread(s), medians of {arguments.rounds} rounds.")
    header = ["", "expanded, bytes a token", "latent", "ratio", "sequences, expanded", "latent"]
    title = f"{arguments.cache_gib:g} GiB of cache, {arguments.context} tokens a sequence"
    report.table(title, header, sizes(arguments.cache_gib, arguments.context))
    if not arguments.no_steps:
        title = f"A decode step of {NUM_SEQUENCES} sequences, {NUM_LAYERS} layers with V2-Lite's attention"
        header = ["context", "expanded, ms", "latent, ms", "the latent cache is"]
        report.table(title, header, steps(arguments.rounds, threads))
    report.write()


if __name__ == "__main__":
    main()
