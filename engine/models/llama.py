"""Llama and Qwen2 with fewer, larger operations than transformers' modelling code: same weights, same tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.attention import CacheShape, StepAttention
from engine.linear import Linear


class LlamaLayer:
    """One layer: query, key and value in one product, gate and up in another."""

    def __init__(self, layer: Any, num_heads: int, num_kv_heads: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm, self.post_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = _fuse(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = _fuse(attention.o_proj)
        self.gate_up = _fuse(mlp.gate_proj, mlp.up_proj)
        self.down = _fuse(mlp.down_proj)
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values: `[num_tokens, heads, head_dim]` each."""
        num_rotated = self.num_heads + self.num_kv_heads
        qkv = self.qkv(_rms_norm(x, self.input_norm)).view(len(x), num_rotated + self.num_kv_heads, -1)
        rotated = qkv[:, :num_rotated]
        half = rotated.shape[-1] // 2
        rotated = rotated * cos + torch.cat((rotated[..., half:], rotated[..., :half]), dim=-1) * sin
        return rotated[:, : self.num_heads], rotated[:, self.num_heads :], qkv[:, num_rotated:]

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention's output and the feed-forward's: `[num_tokens, hidden_size]`."""
        x = x + self.out(attended.flatten(1))
        gate, up = self.gate_up(_rms_norm(x, self.post_norm)).chunk(2, dim=-1)
        out: Tensor = x + self.down(F.silu(gate) * up)
        return out


class LlamaDecoder:
    """The fused path for `LlamaForCausalLM` and `Qwen2ForCausalLM`."""

    def __init__(self, model: Any, max_context: int) -> None:
        config, inner = model.config, model.model
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.cache_shape = CacheShape(config.num_hidden_layers, config.num_key_value_heads, head_dim, head_dim)
        self._embed = inner.embed_tokens
        self._layers = []
        for layer in inner.layers:
            self._layers.append(LlamaLayer(layer, config.num_attention_heads, config.num_key_value_heads))
            for linears in (layer.self_attn, layer.mlp):
                linears.to("meta")  # frees the weights, which are fused now: never two copies of the model
        self._norm = inner.norm
        self._head = Linear(model.lm_head.weight)
        self._scale = head_dim**-0.5
        self._cos, self._sin = self._rotary_tables(inner, max_context)

    def embed(self, token_ids: Tensor) -> Tensor:
        return F.embedding(token_ids, self._embed.weight)

    def forward(self, embeddings: Tensor, positions: Tensor, attention: StepAttention) -> Tensor:
        cos, sin = self._cos[positions], self._sin[positions]
        x = embeddings
        for index, layer in enumerate(self._layers):
            query, key, value = layer.project(x, cos, sin)
            x = layer.finish(x, attention.attend(index, query, key, value, self._scale))
        return _rms_norm(x, self._norm)

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(hidden)
        return logits

    @staticmethod
    @torch.inference_mode()
    def _rotary_tables(inner: Any, max_context: int) -> tuple[Tensor, Tensor]:
        """`[max_context, 1, head_dim]` each; the sign of the rotation is folded into the sine."""
        weight = inner.embed_tokens.weight
        positions = torch.arange(max_context, device=weight.device)[None]
        cos, sin = (table[0][:, None] for table in inner.rotary_emb(weight, positions))
        half = sin.shape[-1] // 2
        return cos, torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)


def _fuse(*linears: nn.Linear) -> Linear:
    """One linear layer that gives the outputs of several, side by side."""
    bias = None if linears[0].bias is None else torch.cat([linear.bias for linear in linears])
    return Linear(torch.cat([linear.weight for linear in linears]), bias)


def _rms_norm(x: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)
