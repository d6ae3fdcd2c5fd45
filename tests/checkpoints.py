"""Small random checkpoints of the architectures we serve, in the format of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    GenerationConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

torch.set_num_threads(1)  # two threads on two busy cores take ten times as long

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
VOCAB_SIZE = 512
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no role ' + m.role) }}{% endif %}"
    "[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
_SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def configs() -> dict[str, PretrainedConfig]:
    """A small config of each architecture."""
    latent = {"kv_lora_rank": 32, "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 24}
    experts = {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    }
    return {
        "llama": LlamaConfig(**_SMALL, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e5}),
        "qwen2": Qwen2Config(**_SMALL, tie_word_embeddings=True),
        "qwen3": Qwen3Config(**_SMALL, head_dim=16),
        "deepseek_v2": DeepseekV2Config(**{**_SMALL, "num_key_value_heads": 4, **latent, **experts}),
    }


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with DeepSeek's special tokens, trained on this file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([__file__], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def generate(model: Any, tokenizer: Any, prompt: list[int], max_tokens: int) -> str:
    """What transformers' own `generate` makes of a prompt, greedily and alone."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, pad_token_id=1
    )
    return str(tokenizer.decode(output[0, len(prompt) :].tolist(), skip_special_tokens=True))


def save_checkpoint(architecture: str, folder: Path, **save_options: object) -> Path:
    """Write a random float32 checkpoint to `folder`, the same one every time."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configs()[architecture], dtype=torch.float32)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1)
    model.save_pretrained(folder, **save_options)
    train_tokenizer().save_pretrained(folder)
    return folder
