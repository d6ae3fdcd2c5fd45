"""A decoder over flat tokens: transformers' weights in fewer, larger operations than its modelling code has."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.attention import CacheShape, StepAttention
from engine.linear import Linears
from engine.models.attention import AttentionLayer, HeadAttention, LatentAttention
from engine.models.feed_forward import Experts, FeedForward, GroupedExperts, grouped_products
from engine.models.pointwise import Rotary, add_rms_norm
from engine.models.rows import RowLayers


class FusedLayer:
    """One layer. It takes the weights out of transformers' module, so that the model is not there twice."""

    def __init__(self, layer: Any, linears: Linears) -> None:
        self.input_norm, self.post_norm = layer.input_layernorm, layer.post_attention_layernorm
        is_latent = hasattr(layer.self_attn, "kv_lora_rank")
        self.attention: AttentionLayer = (LatentAttention if is_latent else HeadAttention)(layer.self_attn, linears)
        self.feed_forward = _feed_forward(layer.mlp, linears)
        for part in (layer.self_attn, layer.mlp):
            for name, module in part.named_children():
                if not name.endswith(("norm", "gate")):  # these are used as they are
                    module.to("meta")

    def __call__(
        self, layer: int, x: Tensor, change: Tensor | None, rotary: Rotary, attention: StepAttention,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Take the residual stream and what the last layer adds to it; return it and what this one adds.

        With `rows`, these alone go on once all have been seen.
        """
        x, normed = add_rms_norm(x, change, self.input_norm)
        seen = self.attention.see(layer, normed, rotary, attention)
        if rows is not None:
            x, seen = x[rows], seen[rows]
            if len(rows) == 0:  # a part of a prompt that ends later
                return x, x
        x, normed = add_rms_norm(x, self.attention.out(seen), self.post_norm)
        return x, self.feed_forward(normed)


def _feed_forward(module: Any, linears: Linears) -> FeedForward | Experts | GroupedExperts:
    if not hasattr(module, "experts"):
        return FeedForward(module, linears)
    return (GroupedExperts if grouped_products(module.gate.weight) else Experts)(module, linears)


class FusedDecoder:
    """Llama, Qwen2, Qwen3, DeepseekV2 and the decoders of DeepSeek-OCR."""

    def __init__(self, model: Any, max_context: int, linears: Linears) -> None:
        inner = model.get_decoder()
        self._embed = inner.embed_tokens
        self._layers = [FusedLayer(layer, linears) for layer in inner.layers]
        self._row_layers = RowLayers(self._layers, linears.max_rows)
        self.cache_shape = CacheShape(len(self._layers), *self._layers[0].attention.cache_heads)
        self.waits = any(isinstance(layer.feed_forward, Experts) for layer in self._layers)
        self._norm = inner.norm
        self._head = linears.make(model.get_output_embeddings().weight)
        self._cos, self._sin = _rotary_tables(inner, max_context)

    def embed(self, token_ids: Tensor) -> Tensor:
        return F.embedding(token_ids, self._embed.weight)

    def forward(
        self, embeddings: Tensor, positions: Tensor, attention: StepAttention, rows: Tensor | None = None
    ) -> Tensor:
        rotary = self._cos[positions], self._sin[positions]
        if self._row_layers.take(attention):
            hidden = add_rms_norm(*self._row_layers(embeddings, rotary, attention), self._norm)[1]
            return hidden if rows is None else hidden[rows]
        x, change = embeddings, None
        for index, layer in enumerate(self._layers):
            is_last = index == len(self._layers) - 1
            x, change = layer(index, x, change, rotary, attention, rows if is_last else None)
        return add_rms_norm(x, change, self._norm)[1]

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(hidden)
        return logits


@torch.inference_mode()
def _rotary_tables(inner: Any, max_context: int) -> Rotary:
    """`[max_context, 1, dim]` each; the sign of the rotation is folded into the sine."""
    weight = inner.embed_tokens.weight
    tables = inner.rotary_emb(weight, torch.arange(max_context, device=weight.device)[None])
    if isinstance(tables, tuple):
        cos, sin = (table[0][:, None] for table in tables)
    else:  # DeepSeek-V2's are complex, a number for each pair, and its sums are in float32
        cos, sin = (torch.cat((part, part), dim=-1)[0][:, None] for part in (tables.real, tables.imag))
    half = sin.shape[-1] // 2
    return cos, torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
