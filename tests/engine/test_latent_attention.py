"""DeepSeek-V2's attention: rows that look at latents and rows that have keys and values made see the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.attention import CacheShape, KVCache, Segment, StepAttention
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.models.attention import LatentAttention
from engine.models.fused import FusedDecoder


@pytest.fixture
def decoder(checkpoints: dict[str, Path]) -> FusedDecoder:
    settings = EngineConfig(checkpoint=str(checkpoints["deepseek_v2"]), dtype="float32", device="cpu")
    decoder = load_checkpoint(settings).decoder
    assert isinstance(decoder, FusedDecoder)
    return decoder


def steps(decoder: FusedDecoder, chunks: list[int]) -> torch.Tensor:
    """The last states of 40 tokens, computed in chunks of these sizes."""
    torch.manual_seed(0)
    tokens = torch.randint(5, 500, (sum(chunks),))
    cache = KVCache(decoder.cache_shape, 64, torch.float32, torch.device("cpu"))
    outputs, start = [], 0
    with torch.inference_mode():
        for size in chunks:
            positions = torch.arange(start, start + size)
            attention = StepAttention(cache, positions + 8, [Segment(size, 8, start + size)])
            outputs.append(decoder.forward(decoder.embed(tokens[start : start + size]), positions, attention))
            start += size
    return torch.cat(outputs)


def test_the_cache_has_the_latent_and_one_rotated_key(decoder: FusedDecoder) -> None:
    assert decoder.cache_shape == CacheShape(2, 1, 32 + 8, 0)
    assert decoder.cache_shape.token_bytes(torch.bfloat16) == 2 * 40 * 2


@pytest.mark.parametrize("max_absorbed", [0, 1, 8, 100])
def test_latents_and_what_is_made_of_them_give_the_same(decoder: FusedDecoder, max_absorbed: int) -> None:
    for layer in decoder._layers:
        assert isinstance(layer.attention, LatentAttention)
        layer.attention._max_absorbed = max_absorbed
    whole = steps(decoder, [40])
    for chunks in ([1] * 40, [8] * 5, [1, 20, 3, 16], [39, 1]):
        torch.testing.assert_close(steps(decoder, chunks), whole, rtol=1e-4, atol=1e-4)


def test_real_models_absorb_up_to_where_it_costs_the_same(decoder: FusedDecoder) -> None:
    attention = decoder._layers[0].attention
    assert isinstance(attention, LatentAttention)
    assert attention._max_absorbed == 32 * (16 + 24) // (64 - 16 - 24)
