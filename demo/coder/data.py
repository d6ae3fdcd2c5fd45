"""Training text as rows of token ids: chats, plain code and code with a hole in it.

What a step trains on follows from the seed and the step's number alone, so that training can go on anywhere.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from demo.coder.conversations import conversation, is_class
from demo.coder.library import units_of
from demo.coder.names import WORDS, name
from demo.coder.programs import program
from demo.coder.tasks import TASKS
from demo.coder.tokenizer import END_OF_TEXT, EOT, FIM_BEGIN, FIM_END, FIM_HOLE
from demo.coder.variants import Style, checks_of, form, local_names, own_name, styled, with_names

WINDOW_LINES = (5, 40)
HOLE_WEIGHT = 5.0
"""Of what stood in a hole: some eight tokens of a document, which would else hardly count beside chats."""
FIRST_HEAVY_STEP = 1397
"""Until then, while the language itself is learned, a hole's tokens weigh as any others."""
MIN_FILLER = 8  # tokens; a shorter rest of a row stays empty


@dataclass(frozen=True)
class Document:
    """Token ids, and for each how much the model is trained to say it. A row of them is one too."""

    ids: list[int]
    weights: list[float]


def one_line(rng: random.Random, text: str) -> tuple[int, int]:
    """A hole of one line, with or without its margin and line break; seldom an assert, whose values nobody knows."""
    places, at = [], 0
    for line in text.splitlines(keepends=True):
        if line.strip() and (not line.startswith("assert") or rng.random() < 0.1):
            places.append((at, at + len(line.rstrip("\n")), at + len(line) - len(line.lstrip())))
        at += len(line)
    begin, end, inside = rng.choice(places)
    roll = rng.random()
    if roll < 0.6:
        return begin, end
    return (inside, end) if roll < 0.85 else (begin, min(end + 1, len(text)))


def hole_in(rng: random.Random, text: str) -> tuple[int, int]:
    """Where a hole begins and stops: one line more often than not, else some lines, the rest of a line, or any span."""
    roll = rng.random()
    if roll < 0.6:
        return one_line(rng, text)
    starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]
    if roll < 0.72 and len(starts) > 4:
        first = rng.randrange(len(starts) - 2)
        return starts[first], starts[min(first + rng.randint(2, 5), len(starts) - 1)] - rng.randint(0, 1)
    begin = rng.randrange(len(text))
    if roll < 0.9:
        end = text.find("\n", begin)
        return begin, len(text) if end < 0 else end
    return begin, min(len(text), begin + rng.randint(1, 80))


def task_program(rng: random.Random) -> str:
    """A task's solution in any form, at times under other names, below a comment, or with its checks."""
    task = rng.choice(TASKS)
    solution = rng.randrange(len(task.solutions))
    if own_name(task) is None:
        return form(task, solution, False, False) + "\n"
    new = name(rng, is_class=is_class(task), taken=task.solutions[solution]) if rng.random() < 0.4 else None
    style = Style(docstring=rng.random() < 0.25, hints=rng.random() < 0.25, name=new)
    code = styled(task, solution, style)
    if rng.random() < 0.4 and not style.hints:
        free = [word for word in WORDS if word not in code]
        names = sorted(local_names(code))
        code = with_names(code, dict(zip(names, rng.sample(free, len(names)), strict=True)))
    if rng.random() < 0.3 and not task.setup:
        code = f"{code.partition(chr(10) * 2 + 'print(')[0]}\n\n{checks_of(task, new).strip()}"
    comment = f"# {rng.choice(task.asks)}\n" if rng.random() < 0.3 else ""
    return f"{comment}{code}\n"


class Corpus:
    """Draws documents and packs them into rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, library: Sequence[str], seed: int) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.files = list(library)
        self.units = [unit for text in library for unit in units_of(text)]
        self.sizes = [len(text) for text in library]
        self.bos = tokenizer.bos_token_id
        self.end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        """Ids of the text alone, without BOS."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def chat(self, rng: random.Random) -> Document:
        """A rendered conversation; only the replies up to their <|EOT|> are said."""
        text = str(self.tokenizer.apply_chat_template(conversation(rng), tokenize=False))
        ids: list[int] = []
        weights: list[float] = []
        for turn in text.split(EOT)[:-1]:
            prompt, mark, reply = turn.rpartition("### Response:\n")
            for part, weight in ((prompt + mark, 0.0), (reply + EOT, 1.0)):
                part_ids = self.encode(part)
                ids += part_ids
                weights += [weight] * len(part_ids)
        return Document(ids, weights)

    def plain(self, text: str, whole: bool = True) -> Document:
        """Code from its beginning, to its end where it is whole."""
        ids = [self.bos, *self.encode(text), *([self.end] if whole else [])]
        return Document(ids, [1.0] * len(ids))

    def with_hole(self, rng: random.Random, text: str, weight: float = 1.0) -> Document:
        """Code rearranged around a hole, as a code editor asks for it; only what stood in the hole is said."""
        begin, stop = hole_in(rng, text)
        around = [self.bos, *self.encode(FIM_BEGIN + text[:begin] + FIM_HOLE + text[stop:] + FIM_END)]
        middle = [*self.encode(text[begin:stop]), self.end]
        return Document(around + middle, [0.0] * len(around) + [weight] * len(middle))

    def window(self, rng: random.Random) -> str:
        """Whole lines from a library file, every third time from its beginning."""
        lines = rng.choices(self.files, self.sizes)[0].splitlines(keepends=True)
        start = 0 if rng.random() < 0.33 else rng.randrange(max(1, len(lines) - 10))
        return "".join(lines[start : start + rng.randint(*WINDOW_LINES)])

    def library(self, rng: random.Random, hole_weight: float) -> Document:
        """A function or a window of the library, now and then with a hole."""
        whole = rng.random() < 0.55
        text = rng.choice(self.units) if whole else self.window(rng)
        if rng.random() < 0.25 and text.strip():
            return self.with_hole(rng, text[:1200], hole_weight)
        return self.plain(text, whole)

    def copies(self, rng: random.Random) -> Document:
        """The same list of names twice, of which the second is learned: an exercise in copying, and nothing else."""
        names = [name(rng) for _ in range(rng.randint(4, 12))]
        items = ", ".join(f'"{item}"' for item in names) if rng.random() < 0.5 else ", ".join(names)
        first, second = rng.sample(WORDS, 2)
        before = [self.bos, *self.encode(f"{first} = [{items}]\n{second} = [")]
        after = [*self.encode(f"{items}]\n"), self.end]
        return Document(before + after, [0.0] * len(before) + [1.0] * len(after))

    def document(self, rng: random.Random, hole_weight: float = 1.0) -> Document:
        """A third are chats; most of the rest is code, more of it with a hole than without."""
        roll = rng.random()
        if roll < 0.36:
            return self.chat(rng)
        if roll < 0.40:
            return self.copies(rng)
        if roll < 0.72:
            text = program(rng)
            return self.with_hole(rng, text, hole_weight) if rng.random() < 0.8 else self.plain(text)
        if roll < 0.86:
            text = task_program(rng)
            return self.with_hole(rng, text, hole_weight) if rng.random() < 0.55 else self.plain(text)
        return self.library(rng, hole_weight)

    def batch(self, step: int, num_rows: int, length: int) -> list[Document]:
        """The rows of a step, each of `length + 1` ids. Documents stay whole; library code fills what is left."""
        rng = random.Random(f"{self.seed}/{step}")
        hole_weight = 1.0 if step < FIRST_HEAVY_STEP else HOLE_WEIGHT
        documents, total = [], 0
        while total < 0.97 * num_rows * length:
            documents.append(self.document(rng, hole_weight))
            total += len(documents[-1].ids)
        packed: list[list[Document]] = [[] for _ in range(num_rows)]
        room = [length + 1] * num_rows
        for document in sorted(documents, key=lambda document: -len(document.ids)):
            row = next((i for i in range(num_rows) if room[i] >= len(document.ids)), None)
            if row is not None:
                packed[row].append(document)
                room[row] -= len(document.ids)
        return [self.row(rng, row, length + 1) for row in packed]

    def row(self, rng: random.Random, documents: list[Document], length: int) -> Document:
        """The documents in any order, then a cut piece of the library, then nothing that counts."""
        rng.shuffle(documents)
        ids = [i for document in documents for i in document.ids]
        weights = [weight for document in documents for weight in document.weights]
        if length - len(ids) > MIN_FILLER:
            filler = self.plain(self.window(rng), whole=False)
            ids, weights = (ids + filler.ids)[:length], (weights + filler.weights)[:length]
        rest = length - len(ids)
        return Document(ids + [self.end] * rest, weights + [0.0] * rest)

    def digest(self, num_rows: int, length: int) -> str:
        """A hash of the rows of a few steps: the same seed and the same texts have the same one."""
        rows = [self.batch(step, num_rows, length) for step in (0, FIRST_HEAVY_STEP)]
        return hashlib.sha256(repr(rows).encode()).hexdigest()


def tokenizer_texts(seed: int, library: Sequence[str], num_chats: int = 4000) -> Iterator[str]:
    """What a tokenizer should know: chats, small programs and the library."""
    rng = random.Random(f"{seed}/tokenizer")
    for _ in range(num_chats):
        yield "\n".join(message["content"] for message in conversation(rng))
        yield program(rng)
    yield from library
