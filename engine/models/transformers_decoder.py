"""Any decoder of transformers, made batchable through its attention interface."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AttentionInterface

from engine.attention import CacheShape, StepAttention
from engine.linear import Linear, pack_linears

_INTERFACE = "step_attention"


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    step_attention: StepAttention,
    **_: Any,
) -> tuple[Tensor, None]:
    """Entry of transformers' attention interface: `[1, heads, num_tokens, dim]` to `[1, num_tokens, heads, dim]`."""
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return step_attention.attend(module.layer_idx, query, key, value, scaling)[None], None


class TransformersDecoder:
    """The stock modelling code over flat tokens, with our cache in place of its own."""

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(_INTERFACE, _attend)
        self._layers = model.get_decoder()
        # The decoder alone: what else the model has, such as a vision tower, attends in its own way.
        self._layers.set_attn_implementation(_INTERFACE)
        pack_linears(self._layers)
        self.cache_shape = _cache_shape(model.config.get_text_config())
        self._embed = model.get_input_embeddings()
        self._head = Linear(model.get_output_embeddings().weight)

    def embed(self, token_ids: Tensor) -> Tensor:
        embeddings: Tensor = self._embed(token_ids)
        return embeddings

    def forward(self, embeddings: Tensor, positions: Tensor, attention: StepAttention) -> Tensor:
        hidden: Tensor = self._layers(
            inputs_embeds=embeddings[None], position_ids=positions[None], use_cache=False, step_attention=attention
        ).last_hidden_state
        return hidden[0]

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(hidden)
        return logits


def _cache_shape(config: Any) -> CacheShape:
    if getattr(config, "kv_lora_rank", None):  # DeepSeek's latent attention, expanded to full heads
        key_dim = config.qk_nope_head_dim + config.qk_rope_head_dim
        return CacheShape(config.num_hidden_layers, config.num_attention_heads, key_dim, config.v_head_dim)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return CacheShape(config.num_hidden_layers, config.num_key_value_heads, head_dim, head_dim)
