"""Training text as rows of token ids: chats, plain code and code with a hole in it."""

import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from demo.coder.replies import code_of, replies_to
from demo.coder.tasks import TASKS
from demo.coder.tokenizer import END_OF_TEXT, EOT, FIM_BEGIN, FIM_END, FIM_HOLE
from demo.coder.wordings import other_question, system_prompt, task_question

HELD_OUT_FILE = 40  # every n-th file of the standard library is kept for the evaluation
IGNORED = -100  # the label of a token that is not trained on
LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "encodings",
    "pydoc_data",
    "turtledemo",
    "ensurepip",
}
SORT = TASKS[0]
REPLIES = {task: replies_to(task) for task in TASKS}
CODE = {task: [code_of(task, solution) for solution in task.solutions] for task in TASKS}


@dataclass(frozen=True)
class Document:
    """Token ids, and for each whether the model is trained to say it."""

    ids: list[int]
    said: list[bool]


def standard_library() -> list[str]:
    """The running interpreter's own modules, without tests and tables, in order of path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.rglob("*.py") if not LEFT_OUT.intersection(path.relative_to(root).parts))
    texts = (path.read_text(encoding="utf-8", errors="ignore") for path in paths)
    return [text for text in texts if 200 < len(text) < 200_000]


def hole_in(rng: random.Random, text: str) -> tuple[int, int]:
    """Where a hole begins and stops: whole lines, the rest of a line, or any span."""
    starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n"), len(text)]
    kind = rng.choice(("lines", "rest of a line", "span"))
    if kind == "lines":
        first, last = sorted(rng.sample(range(len(starts)), 2))
        return starts[first], starts[last]
    begin = rng.randrange(len(text))
    if kind == "rest of a line":
        end = text.find("\n", begin)
        return begin, len(text) if end < 0 else end
    return begin, rng.randint(begin, len(text))


def conversation(rng: random.Random) -> list[dict[str, str]]:
    """One to three questions with their replies, at times behind a system prompt."""
    messages = [{"role": "system", "content": system_prompt(rng)}] if rng.random() < 0.4 else []
    for _ in range(rng.choices((1, 2, 3), (80, 15, 5))[0]):
        if rng.random() < 0.2:
            question, reply = other_question(rng)
        else:
            task = SORT if rng.random() < 0.04 else rng.choice(TASKS)
            question, reply = task_question(rng, task), rng.choice(REPLIES[task])
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return messages


class Corpus:
    """Draws documents and packs them into rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, library: list[str]) -> None:
        self.tokenizer = tokenizer
        self.library = library

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without BOS."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def chat(self, rng: random.Random) -> Document:
        """A rendered conversation; only the replies up to their <|EOT|> are said."""
        messages = conversation(rng)
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        ids: list[int] = []
        said: list[bool] = []
        for turn in text.split(EOT)[:-1]:
            prompt, mark, reply = turn.rpartition("### Response:\n")
            for part, is_reply in ((prompt + mark, False), (reply + EOT, True)):
                part_ids = self.encode(part)
                ids += part_ids
                said += [is_reply] * len(part_ids)
        return Document(ids, said)

    def code(self, rng: random.Random, text: str, hole: bool) -> Document:
        """Plain code to its end, or rearranged around a hole, as a code editor asks for it."""
        bos, end = self.tokenizer.bos_token_id, self.tokenizer.convert_tokens_to_ids(END_OF_TEXT)
        if not hole:
            ids = [bos, *self.encode(text), end]
            return Document(ids, [True] * len(ids))
        begin, stop = hole_in(rng, text)
        prompt = self.encode(FIM_BEGIN + text[:begin] + FIM_HOLE + text[stop:] + FIM_END)
        middle = [*self.encode(text[begin:stop]), end]
        ids = [bos, *prompt, *middle]
        return Document(ids, [True] * len(ids))

    def task_code(self, rng: random.Random) -> str:
        """One to three solutions in one file, sometimes under a comment that asks for them."""
        parts = []
        for task in rng.choices(TASKS, k=rng.choices((1, 2, 3), (70, 20, 10))[0]):
            comment = f"# {rng.choice(task.asks)}\n" if rng.random() < 0.4 else ""
            solution = rng.choice(CODE[task]) if rng.random() < 0.5 else rng.choice(task.solutions).strip()
            parts.append(comment + solution)
        return "\n\n".join(parts) + "\n"

    def library_code(self, rng: random.Random) -> str:
        """A window of whole lines from the standard library."""
        text = rng.choices(self.library, [len(text) for text in self.library])[0]
        lines = text.splitlines(keepends=True)
        start = rng.randrange(max(1, len(lines) - 10))
        return "".join(lines[start : start + rng.randint(5, 30)])

    def document(self, rng: random.Random) -> Document:
        """Half are chats, the rest is code, more of it with a hole than without."""
        roll = rng.random()
        if roll < 0.5:
            return self.chat(rng)
        if roll < 0.8:
            return self.code(rng, self.task_code(rng), hole=roll < 0.73)
        return self.code(rng, self.library_code(rng), hole=roll < 0.9)

    def rows(self, rng: random.Random, length: int) -> Iterator[tuple[list[int], list[int]]]:
        """Endless (ids, labels) of `length + 1`. A row begins with a document, as a prompt does, and cuts its last."""
        while True:
            ids: list[int] = []
            labels: list[int] = []
            while len(ids) <= length:
                document = self.document(rng)
                ids += document.ids
                labels += [i if said else IGNORED for i, said in zip(document.ids, document.said, strict=True)]
            yield ids[: length + 1], labels[: length + 1]


def tokenizer_texts(rng: random.Random, library: list[str], num_chats: int = 4000) -> Iterator[str]:
    """What a tokenizer should know: chats and the library."""
    for _ in range(num_chats):
        yield "\n".join(message["content"] for message in conversation(rng))
    yield from library
