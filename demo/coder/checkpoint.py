"""A checkpoint that answers many prompts at once, for its figures."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.coder.conversations import Message, user
from demo.coder.tokenizer import FIM_BEGIN, FIM_END, FIM_HOLE

BATCH = 80
MAX_NEW_TOKENS = 360


class Coder:
    """A checkpoint in float32, greedy unless a temperature is given."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
        self.model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def complete(
        self, prompts: Sequence[str], temperature: float = 0.0, max_new_tokens: int = MAX_NEW_TOKENS
    ) -> list[str]:
        """The text that follows each prompt, which holds its own BOS."""
        how = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature else {}
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        texts = [""] * len(prompts)
        for start in range(0, len(prompts), BATCH):
            chosen = order[start : start + BATCH]
            batch = self.tokenizer(
                [prompts[i] for i in chosen], add_special_tokens=False, padding=True, return_tensors="pt"
            )
            tokens = self.model.generate(**batch, max_new_tokens=max_new_tokens, **({"do_sample": False} | how))
            said = self.tokenizer.batch_decode(tokens[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
            for i, text in zip(chosen, said, strict=True):
                texts[i] = text
        return texts

    def answer(self, chats: Sequence[Sequence[Message]], temperature: float = 0.0) -> list[str]:
        """The reply to each conversation, rendered by the checkpoint's own template."""
        prompts = [
            str(self.tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True))
            for chat in chats
        ]
        return [text.removesuffix("\n") for text in self.complete(prompts, temperature)]

    def reply(self, questions: Sequence[str], system: str | None = None, temperature: float = 0.0) -> list[str]:
        """The reply to each question, behind a system text or none."""
        before = [] if system is None else [{"role": "system", "content": system}]
        return self.answer([[*before, user(question)] for question in questions], temperature)

    def fill(self, around: Sequence[tuple[str, str]]) -> list[str]:
        """What stands in the hole between each two pieces of code."""
        bos = self.tokenizer.bos_token
        return self.complete([f"{bos}{FIM_BEGIN}{before}{FIM_HOLE}{after}{FIM_END}" for before, after in around])

    def go_on(self, beginnings: Sequence[str], max_new_tokens: int) -> list[str]:
        """Plain completions."""
        return self.complete([f"{self.tokenizer.bos_token}{text}" for text in beginnings], 0.0, max_new_tokens)

    def bits_per_character(self, texts: Sequence[str]) -> float:
        """How well the model foresees plain code."""
        bits, characters = 0.0, 0
        for text in texts:
            ids = self.tokenizer(text, return_tensors="pt").input_ids
            with torch.no_grad():
                logits = self.model(ids).logits[0, :-1]
            bits += functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item() / math.log(2)
            characters += len(text)
        return bits / characters
