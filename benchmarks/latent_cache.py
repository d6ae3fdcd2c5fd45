"""What the latent cache saves on DeepSeek-V2's models: bytes per token, and sequences that fit. No weights are needed.

Usage: python -m benchmarks.latent_cache [--cache-gib 16] [--context 8192]
"""

from __future__ import annotations

import argparse

import torch

from engine.attention import CacheShape

RANK, ROPE_DIM, KEY_DIM, VALUE_DIM = 512, 64, 128, 128
MODELS = {"DeepSeek-V2": (60, 128), "DeepSeek-V2-Lite": (27, 16), "DeepSeek-Coder-V2-Lite": (27, 16)}
"""Layers and heads, from each model's config.json; the other sizes are the same in all three."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache-gib", type=float, default=16)
    parser.add_argument("--context", type=int, default=8192)
    arguments = parser.parse_args()
    print(f"bfloat16, {arguments.cache_gib:g} GiB of cache, {arguments.context} tokens a sequence\n")
    print("| | expanded, bytes a token | latent | ratio | sequences, expanded | latent |\n|---|---|---|---|---|---|")
    for name, (num_layers, num_heads) in MODELS.items():
        expanded = CacheShape(num_layers, num_heads, KEY_DIM + ROPE_DIM, VALUE_DIM).token_bytes(torch.bfloat16)
        latent = CacheShape(num_layers, 1, RANK + ROPE_DIM, 0).token_bytes(torch.bfloat16)
        fit = [int(arguments.cache_gib * 2**30 / size / arguments.context) for size in (expanded, latent)]
        print(f"| {name} | {expanded:,} | {latent:,} | {expanded / latent:.1f} | {fit[0]} | {fit[1]} |")


if __name__ == "__main__":
    main()
