"""DeepSeek's own config.json of its OCR models to that of transformers' classes, without their remote code.

Sources: config.json and deepencoder.py of deepseek-ai/DeepSeek-OCR, deepencoderv2.py of deepseek-ai/DeepSeek-OCR-2.
"""

from __future__ import annotations

from typing import Any

from transformers import DeepseekOcr2Config, PretrainedConfig, UnlimitedOcrConfig

_TEXT_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "moe_intermediate_size",
    "n_group",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "topk_group",
    "topk_method",
    "bos_token_id",
    "eos_token_id",
)
_TEXT_OPTIONS = {"rms_norm_eps": 1e-6, "routed_scaling_factor": 1.0, "hidden_act": "silu", "attention_bias": False}
_CLIP, _QWEN = "clip-l-14-224", "qwen2-0-5b"
_SAM = "sam_vit_b"


def is_deepseek_ocr(config: dict[str, Any]) -> bool:
    """Whether this config.json is of DeepSeek-OCR's or DeepSeek-OCR-2's own shape."""
    return not _encoder_widths(config).keys().isdisjoint((_CLIP, _QWEN)) and "language_config" in config


def translate(config: dict[str, Any], image_token_id: int) -> PretrainedConfig:
    """Build the config of the transformers class that has the same architecture.

    Raises:
        KeyError: the config lacks what every checkpoint of these models has.
        ValueError: it asks for what those classes don't compute.
    """
    widths, language = _encoder_widths(config), config["language_config"]
    text = _text_config(language)
    if config.get("sliding_window_size") or language.get("sliding_window_size"):
        raise ValueError("its decoder attends in a sliding window")
    if _CLIP in widths:
        text["layer_types"] = ["full_attention"] * text["num_hidden_layers"]
        text["sliding_window"] = text["max_position_embeddings"]  # the class insists on one; it masks nothing
        vision = {"sam_config": _sam_config(config, widths), "encoder_config": _clip_config(widths[_CLIP])}
        kind: Any = UnlimitedOcrConfig
    else:
        vision = {"sam_config": _sam_config(config, widths), "encoder_config": _qwen_config(widths[_QWEN])}
        vision["sam_config"]["downsample_channels"] = [512, widths[_QWEN]["dim"]]
        kind = DeepseekOcr2Config
    dtype = config.get("torch_dtype") or language.get("torch_dtype") or "bfloat16"
    translated: PretrainedConfig = kind(
        text_config=text, vision_config=vision, image_token_id=image_token_id, dtype=dtype
    )
    return translated


def _encoder_widths(config: dict[str, Any]) -> dict[str, Any]:
    vision = config.get("vision_config")
    width = vision.get("width") if isinstance(vision, dict) else None
    return width if isinstance(width, dict) else {}


def _text_config(language: dict[str, Any]) -> dict[str, Any]:
    if (
        language.get("use_mla")
        or language.get("scoring_func", "softmax") != "softmax"
        or language.get("norm_topk_prob")
    ):
        raise ValueError("its decoder uses latent attention, or routes its experts in another way")
    text = {key: language[key] for key in _TEXT_KEYS}
    text |= {key: language.get(key, default) for key, default in _TEXT_OPTIONS.items()}
    text["pad_token_id"] = language.get("pad_token_id")
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": float(language.get("rope_theta", 10000.0))}
    num_dense, num_layers = language["first_k_dense_replace"], text["num_hidden_layers"]
    return text | {"mlp_layer_types": ["dense"] * num_dense + ["sparse"] * (num_layers - num_dense)}


def _sam_config(config: dict[str, Any], widths: dict[str, Any]) -> dict[str, Any]:
    sam = widths[_SAM]
    return {
        "hidden_size": sam["width"],
        "num_hidden_layers": sam["layers"],
        "num_attention_heads": sam["heads"],
        "global_attn_indexes": sam["global_attn_indexes"],
        "downsample_channels": sam["downsample_channels"],
        "mlp_dim": 4 * sam["width"],
        "output_channels": sam.get("out_chans", 256),
        "image_size": config["vision_config"]["image_size"],
    }


def _clip_config(clip: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": clip["width"],
        "intermediate_size": 4 * clip["width"],
        "num_hidden_layers": clip["layers"],
        "num_attention_heads": clip["heads"],
        "image_size": clip["image_size"],
        "patch_size": clip["patch_size"],
    }


def _qwen_config(qwen: dict[str, Any]) -> dict[str, Any]:
    """DeepSeek's config.json gives the width alone; the rest is written in its code."""
    return {
        "hidden_size": qwen["dim"],
        "num_hidden_layers": qwen.get("layers", 24),
        "num_attention_heads": qwen.get("heads", 14),
        "num_key_value_heads": qwen.get("kv_heads", 2),
        "intermediate_size": qwen.get("intermediate_size", 4864),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }
