"""The attention layers of the decoders: what comes before and after looking into the cache."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.attention import StepAttention
from engine.linear import HeadLinear, Int8Linear, Linear, Linears
from engine.models.pointwise import Rotary, rms_norm, rotate


class AttentionLayer(Protocol):
    """One layer's attention, between its norm and the residual sum."""

    cache_heads: tuple[int, int, int]
    """What it keeps of a token: heads, and the length of a key and of a value."""

    out: Linear | Int8Linear
    """What is made of what all heads saw: `[num_tokens, num_heads · value_dim]` to `[num_tokens, hidden_size]`."""

    def see(self, layer: int, x: Tensor, rotary: Rotary, attention: StepAttention) -> Tensor:
        """`[num_tokens, hidden_size]` to `[num_tokens, num_heads · value_dim]`."""


class HeadAttention:
    """Query heads that share key heads or have one each: Llama, Qwen2, Qwen3, DeepSeek-OCR."""

    def __init__(self, module: Any, linears: Linears) -> None:
        config, head_dim = module.config, module.head_dim
        self._num_heads, self._num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.cache_heads = self._num_kv_heads, head_dim, head_dim
        self.scale = head_dim**-0.5
        self.qkv = linears.fuse(module.q_proj, module.k_proj, module.v_proj)
        self.out = linears.fuse(module.o_proj)
        self._norm: Tensor | None = None
        self.norms_heads = hasattr(module, "q_norm")  # Qwen3
        if self.norms_heads:
            norms = [module.q_norm] * self._num_heads + [module.k_norm] * self._num_kv_heads
            self._norm, self._eps = (
                torch.stack([norm.weight.detach() for norm in norms]),
                module.q_norm.variance_epsilon,
            )

    def see(self, layer: int, x: Tensor, rotary: Rotary, attention: StepAttention) -> Tensor:
        num_rotated = self._num_heads + self._num_kv_heads
        qkv = self.qkv(x).view(len(x), num_rotated + self._num_kv_heads, -1)
        rotated = qkv
        if self._norm is not None:
            rotated = self._norm * F.rms_norm(qkv[:, :num_rotated], qkv.shape[-1:], eps=self._eps)
        rotated = rotate(rotated, num_rotated, rotary)
        query, key, value = rotated[:, : self._num_heads], rotated[:, self._num_heads :], qkv[:, num_rotated:]
        return attention.attend(layer, query, key, value, self.scale).flatten(1)


class LatentAttention:
    """DeepSeek-V2's multi-head latent attention (https://arxiv.org/abs/2405.04434).

    The cache has of each token the latent, from which keys and values of all heads can be made, and one rotated key.
    A few rows look at the latents themselves, with the matrix that makes keys absorbed in their queries; for the many
    rows of a prompt, keys and values are made.
    """

    def __init__(self, module: Any, linears: Linears) -> None:
        self._rank, self._rope_dim = module.kv_lora_rank, module.qk_rope_head_dim
        self._key_dim, self._value_dim = module.qk_nope_head_dim, module.v_head_dim
        self._num_heads, self._scale = module.num_heads, module.scaling
        self.cache_heads = 1, self._rank + self._rope_dim, 0
        self._query_norm = module.q_a_layernorm
        query = module.q_proj if self._query_norm is None else module.q_b_proj
        query = _with_halves(query, self._num_heads, self._rope_dim)
        first = query if self._query_norm is None else module.q_a_proj
        self._down = linears.fuse(first, _with_halves(module.kv_a_proj_with_mqa, 1, self._rope_dim))
        self._query = None if self._query_norm is None else linears.fuse(query)
        self._latent_norm = module.kv_a_layernorm
        self._expand = linears.fuse(module.kv_b_proj)
        to_both = module.kv_b_proj.weight.detach().view(self._num_heads, -1, self._rank)
        self._to_latent = HeadLinear(to_both[:, : self._key_dim])
        self._to_value = HeadLinear(to_both[:, self._key_dim :].transpose(1, 2))
        self.out = linears.fuse(module.o_proj)
        self._max_absorbed = max_absorbed_rows(self._rank, self._key_dim, self._value_dim)

    def see(self, layer: int, x: Tensor, rotary: Rotary, attention: StepAttention) -> Tensor:
        query, latent, key = self._down(x).tensor_split((-self._rank - self._rope_dim, -self._rope_dim), dim=-1)
        if self._query is not None:
            query = self._query(rms_norm(query, self._query_norm))
        plain, rotated = query.view(len(x), self._num_heads, -1).tensor_split((self._key_dim,), dim=-1)
        turned = rotate(torch.cat((rotated, key[:, None]), dim=1), self._num_heads + 1, rotary)
        latent = rms_norm(latent, self._latent_norm)[:, None]
        attention.write(layer, torch.cat((latent, turned[:, -1:]), dim=-1))
        return self._attend(layer, plain, turned[:, :-1], attention).flatten(1)

    def _attend(self, layer: int, plain: Tensor, rotated: Tensor, attention: StepAttention) -> Tensor:
        """`[num_tokens, num_heads, value_dim]`. The scheduler has sequences that decode in front."""
        limit = self._max_absorbed if attention.max_absorbed_rows is None else attention.max_absorbed_rows
        num_few = sum(1 for _ in takewhile(lambda num_rows: num_rows <= limit, attention.num_rows))
        few, many = attention.num_rows[:num_few], attention.num_rows[num_few:]
        outputs = []
        if few:
            end = sum(few)
            absorbed = self._to_latent(plain[:end])
            rows = torch.cat((absorbed, rotated[:end]), dim=-1)
            latents = attention.see_latents(layer, rows, few, self._rank, self._scale)
            outputs.append(self._to_value(latents))
        if many:
            query = torch.split(torch.cat((plain, rotated), dim=-1)[sum(few) :], many)
            outputs += [self._see_made(layer, i, part, attention) for i, part in enumerate(query, num_few)]
        return torch.cat(outputs)

    def _see_made(self, layer: int, index: int, rows: Tensor, attention: StepAttention) -> Tensor:
        """`[num_rows, num_heads, key_dim + rope_dim]` to `[num_rows, num_heads, value_dim]`."""
        past = attention.past_keys(layer, index)[0]
        latents, rotated = past.tensor_split((self._rank,), dim=-1)
        made = self._expand(latents).view(len(past), self._num_heads, -1)
        plain, values = made.tensor_split((self._key_dim,), dim=-1)
        keys = torch.cat((plain, rotated[:, None].expand(-1, self._num_heads, -1)), dim=-1)
        return attention.see(index, rows, keys.transpose(0, 1), values.transpose(0, 1), self._scale)


def max_absorbed_rows(rank: int, key_dim: int, value_dim: int) -> int:
    """Rows up to which looking at latents takes fewer products than making keys and values of them all."""
    return rank * (key_dim + value_dim) // max(1, 2 * rank - key_dim - value_dim)


def _with_halves(linear: nn.Linear, num_heads: int, rope_dim: int) -> nn.Linear:
    """The same layer with the rotated end of each head's output in halves: DeepSeek-V2 has pairs side by side."""

    def reordered(parameter: Tensor) -> Tensor:
        heads = parameter.detach().view(num_heads, -1, *parameter.shape[1:])
        plain, pairs = heads[:, :-rope_dim], heads[:, -rope_dim:]
        return torch.cat((plain, pairs[:, 0::2], pairs[:, 1::2]), dim=1).flatten(0, 1)

    copy = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
    copy.weight = nn.Parameter(reordered(linear.weight), requires_grad=False)
    if linear.bias is not None:
        copy.bias = nn.Parameter(reordered(linear.bias), requires_grad=False)
    return copy
