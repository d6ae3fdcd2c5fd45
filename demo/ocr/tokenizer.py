"""The tokenizer: bytes, and DeepSeek-OCR's special tokens. One token a character keeps reading simple to learn."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
IMAGE = "<image>"
TAGS = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<td>", "</td>", "<tr>", "</tr>")
_SPECIAL_TOKENS = (BOS, EOS, PAD, IMAGE, *TAGS)
_MULTIPLE = 16
"""The vocabulary is filled up to one of these."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*_SPECIAL_TOKENS, *alphabet]
    names += [f"<|reserved_{index}|>" for index in range(-len(names) % _MULTIPLE)]
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([name for name in names if name not in alphabet])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)
