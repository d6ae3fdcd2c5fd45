"""Small random checkpoints of the architectures we serve, in the format of the real ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DeepseekOcr2Config,
    DeepseekV2Config,
    GenerationConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    UnlimitedOcrConfig,
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


def train_tokenizer(special_tokens: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with DeepSeek's special tokens, trained on this file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS, EOS, *special_tokens],
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
    """Write a small random float32 checkpoint to `folder`, the same one every time."""
    return save_random(configs()[architecture], folder, **save_options)


def save_random(config: PretrainedConfig, folder: Path, **save_options: object) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1)
    model.save_pretrained(folder, **save_options)
    train_tokenizer().save_pretrained(folder)
    return folder


OCR_TOKENS = ("<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<td>", "</td>")
OCR_ARCHITECTURES = ("deepseek_ocr", "deepseek_ocr2")
_SAM = {
    "width": 32,
    "layers": 2,
    "heads": 2,
    "global_attn_indexes": [1],
    "downsample_channels": [24, 48],
    "out_chans": 16,
}
_ENCODERS = {
    "deepseek_ocr": {"clip-l-14-224": {"width": 48, "layers": 2, "heads": 4, "image_size": 224, "patch_size": 14}},
    "deepseek_ocr2": {"qwen2-0-5b": {"dim": 48, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate_size": 96}},
}


def ocr_config_json(architecture: str) -> dict[str, Any]:
    """A config.json of the shape of DeepSeek's own OCR checkpoints, remote code and all, with small numbers."""
    language = {
        **{name: _SMALL[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")},
        **{"architectures": ["DeepseekV2ForCausalLM"], "bos_token_id": 0, "eos_token_id": 1},
        **{"num_hidden_layers": 3, "num_key_value_heads": 4, "first_k_dense_replace": 1, "moe_intermediate_size": 32},
        **{"n_group": 1, "topk_group": 1, "topk_method": "greedy", "n_routed_experts": 4, "n_shared_experts": 1},
        **{"num_experts_per_tok": 2, "max_position_embeddings": 2048, "use_mla": False, "q_lora_rank": None},
        **{"kv_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "lm_head": True},
        "torch_dtype": "float32",
    }
    number = {"deepseek_ocr": "", "deepseek_ocr2": "2"}[architecture]
    return {
        "architectures": [f"DeepseekOCR{number}ForCausalLM"],
        "auto_map": {"AutoConfig": "modeling_deepseekocr.DeepseekOCRConfig"},
        "candidate_resolutions": [[1024, 1024]],
        "global_view_pos": "head",
        "language_config": language,
        "model_type": "deepseek_vl_v2",
        "projector_config": {"input_dim": 96, "model_type": "mlp_projector", "n_embed": 64, "projector_type": "linear"},
        "tile_tag": "2D",
        "torch_dtype": "float32",
        "vision_config": {
            "image_size": 1024,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
            "width": {"sam_vit_b": _SAM, **_ENCODERS[architecture]},
        },
    }


def ocr_config(architecture: str) -> PretrainedConfig:
    """The same in transformers' words, written by hand: what the engine's translation must come to."""
    text = {
        **{name: _SMALL[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")},
        **{"num_hidden_layers": 3, "num_key_value_heads": 4, "max_position_embeddings": 2048, "bos_token_id": 0},
        **{"n_group": 1, "topk_group": 1, "topk_method": "greedy", "n_routed_experts": 4, "n_shared_experts": 1},
        **{"num_experts_per_tok": 2, "moe_intermediate_size": 32, "eos_token_id": 1, "initializer_range": 0.2},
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    }
    sam = {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 128, "output_channels": 16},
        **{"global_attn_indexes": [1], "downsample_channels": [24, 48], "initializer_range": 0.05},
    }
    image_token_id = 2
    if architecture == "deepseek_ocr":
        text |= {"layer_types": ["full_attention"] * 3, "sliding_window": 2048}
        clip = {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
        vision = {"sam_config": sam, "encoder_config": clip}
        return UnlimitedOcrConfig(text_config=text, vision_config=vision, image_token_id=image_token_id)
    sam["downsample_channels"] = [512, 48]
    qwen = {
        **{"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    }
    vision = {"sam_config": sam, "encoder_config": qwen}
    return DeepseekOcr2Config(text_config=text, vision_config=vision, image_token_id=image_token_id)


def save_ocr_checkpoint(architecture: str, folder: Path) -> Path:
    """Write a random float32 OCR checkpoint in DeepSeek's own format: config.json, weight names, tokenizer."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(ocr_config(architecture), dtype=torch.float32)
    for parameter in (model.model.view_separator, getattr(model.model, "image_newline", None)):
        if parameter is not None:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)  # transformers writes the names that the checkpoints have
    train_tokenizer(OCR_TOKENS).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(ocr_config_json(architecture), indent=2))
    (folder / "generation_config.json").unlink()
    return folder
