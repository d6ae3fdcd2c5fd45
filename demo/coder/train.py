"""Trains the coder demo checkpoint from scratch on CPU: `python -m demo.coder.train` in the repository's root.

Every reply is run against its checks first. Tokenizer and model are then trained and saved in DeepSeek-Coder's format.
"""

import argparse
import json
import math
import os
import random
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.coder.data import HELD_OUT_FILE, IGNORED, Corpus, standard_library, tokenizer_texts
from demo.coder.evaluate import report
from demo.coder.replies import verify
from demo.coder.tasks import TASKS
from demo.coder.tokenizer import END_OF_TEXT, train_tokenizer

SEED = 0
VOCAB_SIZE = 4096
MAX_LENGTH = 2048
ROW_LENGTH = 320
BATCH_ROWS = 16
WARMUP_STEPS = 40
SAVE_EVERY_S = 240


def configuration(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """DeepSeek-Coder's shape, small: few wide layers, since a layer's fixed cost rules CPU decoding."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100_000.0},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )


def initialise(model: LlamaForCausalLM) -> None:
    """Fan-in initialisation: learns much faster at this size than the stock one."""
    depth = 2 * model.config.num_hidden_layers
    for name, weight in model.named_parameters():
        if "embed_tokens" in name:
            torch.nn.init.normal_(weight, std=0.1)
        elif weight.ndim == 2:
            scale = depth if "o_proj" in name or "down_proj" in name else 1
            torch.nn.init.normal_(weight, std=(weight.shape[1] * scale) ** -0.5)


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, head and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if p.ndim < 2 or ".layers." not in name]
    return [
        torch.optim.Muon(matrices, lr=0.008, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.01),
    ]


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


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the labelled tokens; the head runs only where there is a label. `ids`: [rows, length + 1]."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        targets = labels[:, 1:]
        logits = model.lm_head(hidden[targets != IGNORED])
    return functional.cross_entropy(logits.float(), targets[targets != IGNORED])


def train(steps: int, minutes: float, out: Path) -> None:
    """Trains for `steps` or `minutes`, whichever ends first; the learning rate falls to nothing by then."""
    started = time.perf_counter()
    verify(TASKS)
    library = [text for i, text in enumerate(standard_library()) if i % HELD_OUT_FILE]
    tokenizer = train_tokenizer(tokenizer_texts(random.Random(SEED), library), VOCAB_SIZE, MAX_LENGTH)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(configuration(tokenizer))
    initialise(model)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters, {len(tokenizer)} tokens")
    print(f"prepared in {time.perf_counter() - started:.0f} s", flush=True)

    rows = Corpus(tokenizer, library).rows(random.Random(SEED), ROW_LENGTH)
    chosen = optimizers(model)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in chosen]
    saved_at, average = time.perf_counter(), math.nan
    for step in range(steps):
        done = max(step / steps, (time.perf_counter() - started) / (60 * minutes))
        if done >= 1:
            break
        scale = min((step + 1) / WARMUP_STEPS, 1.0, 1.25 * (1 - done))
        for optimizer, peak in zip(chosen, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * scale
        batch = [next(rows) for _ in range(BATCH_ROWS)]
        ids, labels = (torch.tensor(part) for part in zip(*batch, strict=True))
        loss = loss_of(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad()
        average = loss.item() if math.isnan(average) else 0.95 * average + 0.05 * loss.item()
        if step % 50 == 0 or step == steps - 1:
            elapsed = time.perf_counter() - started
            print(f"step {step:5d}/{steps}  loss {average:.3f}  {elapsed / 60:.1f} min", flush=True)
        if time.perf_counter() - saved_at > SAVE_EVERY_S:
            save(model, tokenizer, out)
            saved_at = time.perf_counter()
    save(model, tokenizer, out)
    wall, cpu = time.perf_counter() - started, time.process_time()
    print(f"saved to {out}: {wall / 60:.1f} minutes, {cpu / 60:.1f} CPU minutes")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--minutes", type=float, default=30.0, help="upper bound; the schedule is fitted to it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.steps, arguments.minutes, arguments.out)
    report(arguments.out)


if __name__ == "__main__":
    main()
