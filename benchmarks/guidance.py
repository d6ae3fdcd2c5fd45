"""What holding answers to a form costs: tokens per second beside free answers of the same lengths, and one mask's time.

Usage: python -m benchmarks.guidance [--rounds 3] [--quick]. The vocabulary is a BPE of 32,000 tokens trained on
Python's own library. Where vLLM is installed for benchmarks.engines, the libraries it brings are beside each other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from benchmarks.engine_worker import Clock, Ours
from benchmarks.engines import MAX_CONTEXT, PROJECT, VLLM_FOLDER, VLLM_PROGRAM, VOCAB_SIZE, models, save_model
from benchmarks.report import Report
from engine.request import Prompt, Request
from engine.sampling_params import SamplingParams
from tests.checkpoints import BOS, EOS

FORMS: dict[str, dict[str, Any]] = {
    "a schema": {
        "guided_json": {
            "type": "array",
            "minItems": 2,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "sizes": {"type": "array", "items": {"type": "number"}}},
                "required": ["name", "sizes"],
                "additionalProperties": False,
            },
        }
    },
    "an expression": {"guided_regex": "[a-z ]+(, [a-z ]+)*"},
    "a grammar": {"guided_grammar": 'start: term (/[-+*]/ term)*\nterm: /[0-9]+/ | "(" start ")"\n'},
}
EBNF = """root ::= term ([-+*/] term)*
term ::= [0-9]+ | "(" root ")"
"""
"""The grammar in xgrammar's words."""
NUM_REQUESTS, NUM_TOKENS, NUM_WORDS = 16, 128, 32_000
MORE_ROUNDS = 4
"""Of the smaller model for each one of the larger: its answers take half a second, and machines are noisy."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with whole words and pieces of code, as the tokenizers of coder models are."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_WORDS, special_tokens=[BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train([str(file) for file in sorted(Path(os.__file__).parent.glob("*.py"))], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)


def serve(engine: Ours, prompts: list[list[int]], params: list[SamplingParams]) -> tuple[list[int], float]:
    """How many tokens each answer has, and tokens per second of all."""
    clocks = [Clock() for _ in prompts]
    requests = [Request(Prompt(p), given, clock) for p, given, clock in zip(prompts, params, clocks, strict=True)]
    for request in requests:
        engine._engine.check(request)
    started_s = time.perf_counter()
    for request in requests:
        engine._engine.submit(request)
    lengths = [len(clock.wait()) for clock in clocks]
    return lengths, sum(lengths) / (time.perf_counter() - started_s)


def ratios(engine: Ours, form: dict[str, Any], rounds: int) -> list[tuple[float, float]]:
    """Tokens per second held to the form and free, by round; the first one, which warms up, is left out."""
    rng = random.Random(0)

    def prompts() -> list[list[int]]:
        """New ones for each run: what came before is in the prefix cache."""
        return [[rng.randrange(2, VOCAB_SIZE) for _ in range(NUM_TOKENS)] for _ in range(NUM_REQUESTS)]

    found = []
    for number in range(rounds + 1):
        held = [SamplingParams(**form, temperature=1.0, max_tokens=NUM_TOKENS, seed=i) for i in range(NUM_REQUESTS)]
        lengths, held_s = serve(engine, prompts(), held)
        free = [SamplingParams(temperature=1.0, max_tokens=length, ignore_eos=True, seed=0) for length in lengths]
        _, free_s = serve(engine, prompts(), free)
        if number:
            found.append((held_s, free_s))
    return found


def compare_libraries(tokenizer: PreTrainedTokenizerFast, report: Report) -> None:
    """A table of the libraries in vLLM's environment, on the same answers."""
    forms = {name: {"llguidance": form, "xgrammar": form} for name, form in FORMS.items()}
    forms["a grammar"]["xgrammar"] = {"guided_grammar": EBNF}
    script = PROJECT / "benchmarks" / "mask_libraries.py"
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        command = [str(VLLM_FOLDER / "bin" / "python"), str(script), folder, json.dumps(forms)]
        measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rows = [
        [name, f"{library} {measured['versions'][library]}", *(f"{found[library][key]:.1f}" for key in found[library])]
        for name, found in measured["found"].items()
        for library in found
    ]
    title = f"One mask of {measured['size']:,} tokens by each library, along the same random answers"
    report.table(title, ["held to", "by", "ready, ms", "mask, µs", "the slowest, µs"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the smallest model, few rounds")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    threads = max(1, (os.cpu_count() or 1) - 1)
    how = f"{threads} compute thread(s), {NUM_REQUESTS} at once, up to {NUM_TOKENS} tokens"
    how += f", medians of {rounds} rounds, of the first model {MORE_ROUNDS * rounds}"
    report = Report("guidance-quick" if arguments.quick else "guidance", f"{how}; free answers have the same lengths.")
    tokenizer = make_tokenizer()
    if VLLM_PROGRAM.exists() and not arguments.quick:
        compare_libraries(tokenizer, report)
    numbers = MORE_ROUNDS * rounds, rounds
    for number, (title, config) in zip(numbers[: 1 if arguments.quick else 2], models().items(), strict=False):
        with tempfile.TemporaryDirectory() as folder:
            save_model(config, Path(folder))
            tokenizer.save_pretrained(folder)
            engine = Ours(folder, MAX_CONTEXT, threads)
            rows = []
            for name, form in FORMS.items():
                found = ratios(engine, form, number)
                held, free, ratio = (median(row) for row in zip(*((a, b, a / b) for a, b in found), strict=True))
                rows.append([name, f"{held:.0f}", f"{free:.0f}", f"{ratio:.2f}"])
            engine.stop()
        report.table(title, ["held to", "tokens/s", "free", "ratio"], rows)
    report.write()


if __name__ == "__main__":
    main()
