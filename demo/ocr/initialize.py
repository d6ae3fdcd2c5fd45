"""Write a random checkpoint in DeepSeek-OCR's own format, and a page to try: `python -m demo.ocr.initialize`.

It reads nothing yet: it answers nonsense in the right shape, until it is trained.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

from engine.models.deepseek_ocr_config import translate

FOLDER = Path(__file__).parent
BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
SPECIAL_TOKENS = [
    *(BOS, EOS, PAD, "<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"),
    *("<td>", "</td>", "<tr>", "</tr>"),
]
VOCAB_SIZE = 1024


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with DeepSeek-OCR's special tokens, trained on this project's documentation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(FOLDER.parents[1] / "README.md"), str(FOLDER.parent / "coder" / "README.md")], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def draw_page() -> Image.Image:
    """The page of README's examples."""
    page = Image.new("L", (640, 400), "white")
    draw = ImageDraw.Draw(page)
    draw.text((40, 40), "Invoice 2041", font_size=36)
    for row, line in enumerate(("Date: 21 November 2026", "3 boxes of paper    12.60", "Total    37.80")):
        draw.text((40, 130 + 60 * row), line, font_size=26)
    return page


def main() -> None:
    draw_page().save(FOLDER / "page.png", optimize=True)
    config_json = json.loads((FOLDER / "config.json").read_text())
    tokenizer = make_tokenizer()
    config = translate(config_json, tokenizer.get_vocab()["<image>"])
    config.text_config.initializer_range = 0.1
    config.vision_config.sam_config.initializer_range = 0.05  # the class's own default makes every page the same
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    for parameter in (model.model.view_separator, model.model.image_newline):
        torch.nn.init.normal_(parameter)
    model.to(torch.bfloat16).save_pretrained(FOLDER)  # transformers writes the names that DeepSeek's checkpoint has
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save_pretrained(FOLDER)
    (FOLDER / "config.json").write_text(json.dumps(config_json, indent=2) + "\n")
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} random parameters in {FOLDER}")


if __name__ == "__main__":
    main()
