"""The model: DeepSeek-Coder's shape made small, how it begins, and how its files are written."""

import json
import os
import tempfile
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AttentionInterface, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.masking_utils import AttentionMaskInterface

from demo.coder.tokenizer import END_OF_TEXT

MAX_LENGTH = 2048
ATTENTION = "coder_causal"
LOOK_BACK = (1, 2)  # how far the first layer's first heads look back in the beginning
LOOK_BACK_PAIRS, LOOK_BACK_STRENGTH = 4, 24.0
QUIET = 0.3  # what else the first layer writes in the beginning
WRITE_BEFORE, FIND_AGAIN, WRITE_FOUND = 0.1, 2.2, 0.5
CONSTANT, CONSTANT_WIDTH = 0.4, 4  # of the embedding


def causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention over whole rows as two bfloat16 products: on a CPU twice as fast to train as the fused kernel."""
    length = query.shape[2]
    future = torch.full((length, length), -1e4, dtype=query.dtype).triu(1)
    scores = (query * scaling) @ key.transpose(2, 3) + future
    with torch.autocast("cpu", enabled=False):  # which would make it a float32 softmax
        weights = torch.softmax(scores, dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, causal_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)


def configuration(tokenizer: PreTrainedTokenizerFast, vocab_size: int, width: int, num_layers: int) -> LlamaConfig:
    """DeepSeek-Coder's shape, small: few wide layers, since a layer's fixed cost rules CPU decoding."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=num_layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=MAX_LENGTH,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100_000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )


def new_model(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """Fan-in initialisation: learns much faster at this size than the stock one."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.set_attn_implementation(ATTENTION)
    depth = 2 * config.num_hidden_layers
    for name, weight in model.named_parameters():
        if "embed_tokens" in name:
            torch.nn.init.normal_(weight, std=0.1)
        elif weight.ndim == 2:
            scale = depth if "o_proj" in name or "down_proj" in name else 1
            torch.nn.init.normal_(weight, std=(weight.shape[1] * scale) ** -0.5)
    build_copying(model)
    return model


@torch.no_grad()
def build_copying(model: LlamaForCausalLM) -> None:
    """Lets the model begin with what copying is made of, which takes long to appear in so short a training.

    A head of the first layer looks at the token before and writes it into a part of the residual stream kept for it. A
    head of the second layer looks for a place where the token before was the present one, and writes the token that it
    finds there; the output layer begins as the embedding, so that it is said. (Olsson et al. 2022, induction heads.)
    """
    embedding, output = model.model.embed_tokens.weight, model.lm_head.weight
    width, (first, second) = embedding.shape[1], model.model.layers[:2]
    size = first.self_attn.head_dim
    head, words, kept = slice(0, size), slice(CONSTANT_WIDTH, width - size), slice(width - size, width)
    embedding[:, :CONSTANT_WIDTH] = CONSTANT
    embedding[:, kept] = 0
    output[:, words] = embedding[:, words] * (width**-0.5 / embedding[:, words].std())
    for weight in (first.self_attn.o_proj.weight, first.mlp.down_proj.weight):
        weight *= QUIET
        weight[kept] = 0
    normed = CONSTANT / embedding.square().mean().sqrt()
    for index, distance in enumerate(LOOK_BACK):
        look_back(model, index, distance, normed)
    for weight in (first.self_attn.v_proj.weight, second.self_attn.v_proj.weight):
        weight[head] = 0
        torch.nn.init.normal_(weight[head, words], std=(words.stop - words.start) ** -0.5)
    first.self_attn.o_proj.weight[:, head] = 0
    first.self_attn.o_proj.weight[kept, head] = WRITE_BEFORE * torch.eye(size)
    second.self_attn.q_proj.weight[head] = FIND_AGAIN * first.self_attn.v_proj.weight[head]
    second.self_attn.k_proj.weight[head] = 0
    second.self_attn.k_proj.weight[head, kept] = FIND_AGAIN * torch.eye(size)
    second.self_attn.o_proj.weight[:, head] = WRITE_FOUND * second.self_attn.v_proj.weight[head].T


@torch.no_grad()
def look_back(model: LlamaForCausalLM, head: int, distance: int, normed: torch.Tensor) -> None:
    """Lets a head of the first layer attend to the token that stands `distance` before.

    A part of the embedding, `normed` for every token, makes the head's queries and keys; both turn with the position,
    and agree where the key is `distance` behind. Rotary positions that are scaled by 4 turn little from token to token:
    the weights are large, and pairs that hardly turn take away what is the same for all distances.
    """
    layer = model.model.layers[0].self_attn
    size = layer.head_dim
    rows = slice(head * size, (head + 1) * size)
    layer.q_proj.weight[rows] = layer.k_proj.weight[rows] = 0
    strength = LOOK_BACK_STRENGTH / (normed * CONSTANT_WIDTH)
    constant = slice(0, CONSTANT_WIDTH)
    for pair in range(LOOK_BACK_PAIRS):
        turning, still = rows.start + pair, rows.start + size // 2 - 1 - pair
        angle = distance * model.model.rotary_emb.inv_freq[pair]
        layer.q_proj.weight[turning, constant] = layer.q_proj.weight[still, constant] = strength
        layer.k_proj.weight[turning, constant] = strength * angle.cos()
        layer.k_proj.weight[turning + size // 2, constant] = strength * angle.sin()
        layer.k_proj.weight[still, constant] = -strength


def held(model: LlamaForCausalLM) -> list[tuple[torch.nn.Parameter, tuple[slice, slice]]]:
    """The parts of the copying heads that stay as they were built: who looks where."""
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    size, everything = first.head_dim, slice(None)
    looking = slice(0, len(LOOK_BACK) * size)
    return [
        (first.q_proj.weight, (looking, everything)),
        (first.k_proj.weight, (looking, everything)),
        (first.v_proj.weight, (slice(0, size), everything)),
        (first.o_proj.weight, (everything, slice(0, size))),
        (second.q_proj.weight, (slice(0, size), everything)),
        (second.k_proj.weight, (slice(0, size), everything)),
    ]


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, head and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or ".layers." not in name]
    return [
        torch.optim.Muon(matrices, lr=0.008, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross entropy; the head runs only where a weight is. Both are [rows, length + 1]."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        counts = weights[:, 1:] > 0
        logits = model.lm_head(hidden[counts])
    losses = functional.cross_entropy(logits.float(), ids[:, 1:][counts], reduction="none")
    chosen = weights[:, 1:][counts]
    return (losses * chosen).sum() / chosen.sum()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the checkpoint beside `out` in bfloat16, then moves it in file by file, weights last."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as name:
        folder = Path(name)
        copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
        copy.load_state_dict(model.state_dict())
        copy.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TEXT)],
            pad_token_id=tokenizer.pad_token_id,
        )
        copy.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        spell_as_deepseek(folder)
        for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            path.chmod(0o644)
            os.replace(path, out / path.name)


def spell_as_deepseek(folder: Path) -> None:
    """Writes `rope_theta` and `rope_scaling` as a real DeepSeek-Coder has them; old and new transformers read it."""
    config_path, tokenizer_path = folder / "config.json", folder / "tokenizer_config.json"
    config = json.loads(config_path.read_text())
    rope = config.pop("rope_parameters")
    config |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": rope["rope_type"], "factor": rope["factor"]},
        "torch_dtype": config.pop("dtype"),
    }
    config_path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer = json.loads(tokenizer_path.read_text())
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer_path.write_text(json.dumps(tokenizer, indent=2, sort_keys=True) + "\n")
