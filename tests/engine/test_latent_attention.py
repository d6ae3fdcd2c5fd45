"""DeepSeek-V2's attention: rows that look at latents and rows that have keys and values made see the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine import kernels, loops
from engine.attention import CacheShape, KVCache, Segment, StepAttention
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.models.attention import LatentAttention, max_absorbed_rows
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


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_long_sequences_are_looped_over_where_that_is_fast(num_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    see_latents = kernels.see_latents
    monkeypatch.setattr(kernels, "see_latents", lambda *arguments: calls.append(1) or see_latents(*arguments))
    torch.manual_seed(0)
    cache = KVCache(CacheShape(1, 1, 96, 0), 1000, torch.bfloat16, torch.device("cpu"))
    cache.keys[0].normal_()
    query, segments = torch.randn(2, 4, 96).bfloat16(), [Segment(1, 0, 700), Segment(1, 800, 20)]
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        seen = StepAttention(cache, torch.tensor([699, 819]), segments).see_latents(0, query, [1, 1], 64, 0.2)
    finally:
        torch.set_num_threads(before)
    assert bool(calls) == (loops.HAS_PRODUCTS and num_threads <= 2)
    for rows, segment, found in zip(query.float(), segments, seen, strict=True):
        past = cache.keys[0, 0, segment.start : segment.start + segment.num_cached].float()
        expected = (rows @ past.T * 0.2).softmax(-1) @ past[:, :64]
        torch.testing.assert_close(found.float(), expected, rtol=2**-6, atol=1e-2)


def test_rows_absorb_up_to_where_it_costs_the_same() -> None:
    rank, key_dim, value_dim = 512, 128, 128  # DeepSeek-V2's
    limit = max_absorbed_rows(rank, key_dim, value_dim)
    assert limit == 170
    absorbed, made = 2 * rank, key_dim + value_dim  # products of a row and a head with each cached token
    to_make = rank * (key_dim + value_dim)  # once for each cached token and head
    assert limit * absorbed <= to_make + limit * made < (limit + 1) * absorbed + made
