"""The checkpoint's shape."""

from __future__ import annotations

from typing import Any

from demo.ocr.maker import VIEW_SIDE


def make_config(vocab_size: int) -> dict[str, Any]:
    """DeepSeek-OCR's own config.json, scaled down. No layer of SAM sees the whole page: CLIP does that."""
    hidden_size, sam_width, clip_width = 256, 128, 256
    return {
        "architectures": ["DeepseekOCRForCausalLM"],
        "auto_map": {"AutoConfig": "modeling_deepseekocr.DeepseekOCRConfig"},
        "candidate_resolutions": [[VIEW_SIDE, VIEW_SIDE]],
        "global_view_pos": "head",
        "language_config": {
            "architectures": ["DeepseekV2ForCausalLM"],
            "bos_token_id": 0,
            "eos_token_id": 1,
            "first_k_dense_replace": 1,
            "hidden_size": hidden_size,
            "intermediate_size": 768,
            "kv_lora_rank": None,
            "lm_head": True,
            "max_position_embeddings": 2048,
            "moe_intermediate_size": 192,
            "n_group": 1,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_attention_heads": 4,
            "num_experts_per_tok": 2,
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": None,
            "qk_nope_head_dim": 0,
            "qk_rope_head_dim": 0,
            "topk_group": 1,
            "topk_method": "greedy",
            "torch_dtype": "bfloat16",
            "use_mla": False,
            "v_head_dim": 0,
            "vocab_size": vocab_size,
        },
        "model_type": "deepseek_vl_v2",
        "projector_config": {
            "input_dim": 2 * clip_width,
            "model_type": "mlp_projector",
            "n_embed": hidden_size,
            "projector_type": "linear",
        },
        "tile_tag": "2D",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "image_size": 1024,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
            "width": {
                "clip-l-14-224": {"heads": 4, "image_size": 224, "layers": 3, "patch_size": 14, "width": clip_width},
                "sam_vit_b": {
                    "downsample_channels": [192, clip_width],
                    "global_attn_indexes": [],
                    "heads": 4,
                    "layers": 3,
                    "out_chans": 128,
                    "width": sam_width,
                },
            },
        },
    }
