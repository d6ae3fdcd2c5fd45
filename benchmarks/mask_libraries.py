"""The libraries that could hold answers to forms, beside each other: what a form takes to be made ready, and a mask.

Usage: PYTHON benchmarks/mask_libraries.py TOKENIZER_FOLDER FORMS_JSON, by a Python that has llguidance and xgrammar;
benchmarks.guidance calls it with vLLM's. Prints JSON: for each form, library and measure, a median.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from statistics import median
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import torch
import xgrammar
from transformers import AutoTokenizer

NUM_ANSWERS, MAX_TOKENS = 20, 60


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started_s = time.perf_counter()
    result = work()
    return result, 1e6 * (time.perf_counter() - started_s)


class Llguidance:
    def __init__(self, tokenizer: Any, size: int) -> None:
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, size, [tokenizer.eos_token_id])
        self.mask = llguidance.numpy.allocate_token_bitmask(1, size)

    def ready(self, form: dict[str, Any]) -> None:
        [(kind, value)] = form.items()
        if kind == "guided_json":
            options = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
            grammar = llguidance.LLMatcher.grammar_from_json_schema(value, defaults=options)
        else:
            grammar = llguidance.grammar_from({"guided_regex": "regex"}.get(kind, "grammar"), value)
        self._matcher = llguidance.LLMatcher(self._tokenizer, grammar)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def fill(self) -> None:
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self.mask)

    def take(self, token: int) -> bool:
        return bool(self._matcher.consume_token(token)) and not self._matcher.is_stopped()


class Xgrammar:
    def __init__(self, tokenizer: Any, size: int) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.mask = xgrammar.allocate_token_bitmask(1, size)

    def ready(self, form: dict[str, Any]) -> None:
        [(kind, value)] = form.items()
        if kind == "guided_json":
            compiled = self._compiler.compile_json_schema(
                json.dumps(value), any_whitespace=False, separators=(", ", ": ")
            )
        else:
            compiled = {"guided_regex": self._compiler.compile_regex}.get(kind, self._compiler.compile_grammar)(value)
        self._matcher = xgrammar.GrammarMatcher(compiled)

    def fill(self) -> None:
        self._matcher.fill_next_token_bitmask(self.mask)

    def take(self, token: int) -> bool:
        return bool(self._matcher.accept_token(token)) and not self._matcher.is_terminated()


def answers(library: Llguidance, form: dict[str, Any], size: int) -> list[list[int]]:
    """Tokens that may be said one after the other, drawn at random."""
    rng, found = random.Random(0), []
    for _ in range(NUM_ANSWERS):
        library.ready(form)
        tokens: list[int] = []
        while len(tokens) < MAX_TOKENS:
            library.fill()
            bits = torch.from_numpy(library.mask).view(torch.uint8)[0]
            allowed = [8 * i + bit for i, byte in enumerate(bits.tolist()) for bit in range(8) if byte >> bit & 1]
            tokens.append(rng.choice([token for token in allowed if token < size]))
            if not library.take(tokens[-1]):
                break
        found.append(tokens)
    return found


def measure(library: Llguidance | Xgrammar, form: dict[str, Any], said: list[list[int]]) -> dict[str, float]:
    """Milliseconds until a form is ready, microseconds of a mask."""
    ready, masks = [], []
    for tokens in said:
        ready.append(timed(lambda: library.ready(form))[1])
        for token in tokens:
            masks.append(timed(library.fill)[1])
            if not library.take(token):
                break
    return {"ready_ms": median(ready) / 1e3, "mask_us": median(masks), "slowest_mask_us": max(masks)}


def main() -> None:
    folder, forms = sys.argv[1], json.loads(sys.argv[2])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.set_num_threads(1)
    size = len(tokenizer)
    libraries: dict[str, Any] = {"llguidance": Llguidance(tokenizer, size), "xgrammar": Xgrammar(tokenizer, size)}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, by_library in forms.items():
        said = answers(libraries["llguidance"], by_library["llguidance"], size)
        found[name] = {kind: measure(libraries[kind], form, said) for kind, form in by_library.items()}
    versions = {name: version(name) for name in libraries}
    sys.stdout.write(json.dumps({"versions": versions, "size": size, "found": found}))


if __name__ == "__main__":
    main()
