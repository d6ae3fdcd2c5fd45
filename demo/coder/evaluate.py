"""Prints the figures of a coder checkpoint: `python -m demo.coder.evaluate [folder]`. Code that it writes is run."""

import argparse
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from demo.coder import wordings
from demo.coder.data import HELD_OUT_FILE, SORT, standard_library
from demo.coder.replies import fenced_code, passes, replies_to, runs
from demo.coder.tasks import TASKS, Task
from demo.coder.tokenizer import FIM_BEGIN, FIM_END, FIM_HOLE

Message = dict[str, str]
BATCH = 50
MAX_NEW_TOKENS = 260
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95, "top_k": 0}
QUESTION = "Write a Python function to sort a list"


class Coder:
    """A checkpoint in float32 that answers many prompts at once."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
        self.model: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def complete(self, prompts: Sequence[str], sampled: bool = False) -> list[str]:
        """The text that follows each prompt, greedy or sampled."""
        how = SAMPLING if sampled else {"do_sample": False}
        texts = []
        for start in range(0, len(prompts), BATCH):
            batch = self.tokenizer(
                list(prompts[start : start + BATCH]), add_special_tokens=False, padding=True, return_tensors="pt"
            )
            tokens = self.model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, **how)
            texts += self.tokenizer.batch_decode(tokens[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
        return texts

    def reply(self, questions: Sequence[str], before: Sequence[Message] = (), sampled: bool = False) -> list[str]:
        """The reply to each question after the messages `before`, rendered by the checkpoint's own template."""
        prompts = [
            self.tokenizer.apply_chat_template(
                [*before, {"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
            )
            for question in questions
        ]
        return [text.removesuffix("\n") for text in self.complete(prompts, sampled)]

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


def share(found: Sequence[bool]) -> str:
    """'9/10 (90.0 %)'."""
    return f"{sum(found)}/{len(found)} ({sum(found) / len(found):.1%})".replace("%", " %")


def in_parallel(check: Callable[..., bool], *columns: Sequence[object]) -> list[bool]:
    """Runs the checks two at a time: each waits for an interpreter of its own."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(check, *columns))


def code_runs(reply: str) -> bool:
    """Whether the reply holds a fenced block that ends without an error."""
    code = fenced_code(reply)
    return code is not None and runs(code)


def task_figures(coder: Coder) -> list[tuple[str, str]]:
    """Task questions, greedy and sampled."""
    asked = {
        "first wording of each task": [(task, wordings.ask(wordings.TEMPLATES[0], task.asks[0])) for task in TASKS],
        "pairings of wording and phrase never trained": [
            (task, question) for task in TASKS for question in list(wordings.held_out_pairings(task))[::5]
        ],
        "wordings never trained": [
            (task, wordings.ask(template, task.asks[0])) for task in TASKS for template in wordings.HELD_OUT_TEMPLATES
        ],
        "phrases never trained": [(task, wordings.ask(wordings.TEMPLATES[0], task.held_out)) for task in TASKS],
    }
    set_seed(0)
    sampled = coder.reply([QUESTION] * 100, sampled=True)
    passed = in_parallel(passes, [SORT] * 100, sampled)
    greedy = coder.reply([QUESTION])
    lines = [
        (f'"{QUESTION}", greedy: sorts', share(in_parallel(passes, [SORT], greedy))),
        ("the same, 100 samples: code runs", share(in_parallel(code_runs, sampled))),
        ("the same, 100 samples: sorts", share(passed)),
    ]
    for title, pairs in asked.items():
        tasks, questions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        found = in_parallel(passes, tasks, coder.reply(questions))
        lines.append((f"greedy, {title}", share(found)))
        for question, good in zip(questions, found, strict=True):
            if not good:
                print(f"  failed: {question}")
    tasks = [task for task in TASKS for _ in range(5)]
    questions = [wordings.ask(wordings.TEMPLATES[0], task.asks[0]) for task in tasks]
    lines.append(
        (
            "sampled 5 times, first wording of each task",
            share(in_parallel(passes, tasks, coder.reply(questions, sampled=True))),
        )
    )
    return lines


def other_figures(coder: Coder) -> list[tuple[str, str]]:
    """What is not a task: small talk and refusals, and plain completion with and without a hole."""
    talk = [(question, reply) for reply, questions in wordings.SMALL_TALK.items() for question in questions]
    said = coder.reply([question for question, _ in talk])
    unknown = [wordings.ask(wordings.TEMPLATES[0], phrase) for phrase in wordings.HELD_OUT_UNKNOWN_TASKS]
    refused = coder.reply([*unknown, *wordings.HELD_OUT_OUTSIDE])
    system = [{"role": "system", "content": "You are a friendly pirate who likes to write programs."}]
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": replies_to(SORT)[0]}]
    firsts = [wordings.ask(wordings.TEMPLATES[0], task.asks[0]) for task in TASKS]
    bos = coder.tokenizer.bos_token
    tasks = [task for task in TASKS if task.example]
    heads, tails = zip(*map(around_body, tasks), strict=True)
    completed = [head + text for head, text in zip(heads, coder.complete([bos + head for head in heads]), strict=True)]
    filled = coder.complete(
        [bos + FIM_BEGIN + head + FIM_HOLE + tail + FIM_END for head, tail in zip(heads, tails, strict=True)]
    )
    joined = [head + hole + tail for head, hole, tail in zip(heads, filled, tails, strict=True)]
    unseen = [text[:1500] for text in standard_library()[::HELD_OUT_FILE]]
    return [
        ("small talk, the taught sentence", share([a == b for a, (_, b) in zip(said, talk, strict=True)])),
        ("unknown tasks and subjects never trained: refused", share([text.startswith("Sorry") for text in refused])),
        ("first wording, system prompt never trained", share(in_parallel(passes, TASKS, coder.reply(firsts, system)))),
        ("first wording, as a second question", share(in_parallel(passes, TASKS, coder.reply(firsts, turns)))),
        ("plain completion after `def name(...):`", share(in_parallel(passes, tasks, list(map(fence, completed))))),
        ("the body as a hole: code passes", share(in_parallel(passes, tasks, list(map(fence, joined))))),
        ("standard library files never trained", f"{coder.bits_per_character(unseen):.2f} bits a character"),
    ]


def around_body(task: Task) -> tuple[str, str]:
    """The last reply's code before and after its function's body."""
    code = fenced_code(replies_to(task)[-1]) or ""
    lines = code.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("def ")) + 1
    last = next(i for i, line in enumerate(lines) if i > first and line == "\n")
    return "".join(lines[:first]), "".join(lines[last:])


def fence(code: str) -> str:
    """Code as a reply."""
    return f"```python\n{code}```"


def report(folder: Path) -> None:
    """Prints what went wrong among the task questions, then the table."""
    coder = Coder(folder)
    lines = [*task_figures(coder), *other_figures(coder)]
    width = max(len(title) for title, _ in lines)
    for title, figure in lines:
        print(f"{title:<{width}}  {figure}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    report(arguments.folder)


if __name__ == "__main__":
    main()
