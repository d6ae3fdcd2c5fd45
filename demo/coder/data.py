"""Training text as rows of token ids: chats, plain code and code with a hole in it.

What a step trains on follows from the seed and the step's number alone, so that training can go on anywhere.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedTokenizerFast

from demo.coder.conversations import conversation, is_class
from demo.coder.library import units_of, words_of
from demo.coder.names import WORDS, name
from demo.coder.programs import Taste, program
from demo.coder.tasks import TASKS
from demo.coder.tokenizer import END_OF_TEXT, EOT, FIM_BEGIN, FIM_END, FIM_HOLE
from demo.coder.variants import Style, checks_of, form, local_names, own_name, styled, with_names

WINDOW_LINES = (5, 40)
MIN_FILLER = 8  # tokens; a shorter rest of a row stays empty
KINDS = ("chat", "copies", "program", "task", "library")


@dataclass(frozen=True)
class Mix:
    """What documents are drawn."""

    cumulative_shares: tuple[float, float, float, float, float]
    """Of `KINDS` among the documents, each with those before it."""
    hole_weight: float = 1.0
    """Of a token that stood in a hole: some eight of a document, which would else hardly count beside chats."""
    one_line_share: float = 0.6
    """Holes that are one line."""
    seldom: tuple[str, ...] = ("assert",)
    """Beginnings of lines that nobody could foresee: few of them become holes."""
    hole_share: float = 0.8
    """Programs with a hole."""
    taste: Taste = field(default_factory=Taste)
    """What programs are like."""
    library_names: bool = False
    """Whether programs take names from the library too."""


_HOLES = {"hole_weight": 5.0, "seldom": ("assert", "def ", "    def ", "class "), "library_names": True}
MIXES = {
    0: Mix((0.36, 0.40, 0.72, 0.86, 1.0)),
    1400: Mix(
        (0.32, 0.35, 0.75, 0.88, 1.0), one_line_share=0.8, hole_share=0.9,
        taste=Taste(plain_share=0.6, telling_share=0.8), **_HOLES,
    ),
    4500: Mix(
        (0.20, 0.22, 0.82, 0.92, 1.0), one_line_share=0.9, hole_share=0.95,
        taste=Taste(plain_share=0.75, telling_share=0.9), **_HOLES,
    ),
}  # fmt: skip
"""By the first step that draws them: while the language is learned, then with many holes, and mostly holes."""


def mix_of(step: int) -> Mix:
    return MIXES[max(first for first in MIXES if first <= step)]


@dataclass(frozen=True)
class Document:
    """Token ids, and for each how much the model is trained to say it. A row of them is one too."""

    ids: list[int]
    weights: list[float]


def one_line(rng: random.Random, text: str, seldom: tuple[str, ...]) -> tuple[int, int]:
    """A hole of one line, with or without its margin and line break."""
    lines, places, at = [], [], 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            lines.append((at, at + len(line.rstrip("\n")), at + len(line) - len(line.lstrip())))
            if not line.startswith(seldom) or rng.random() < 0.1:
                places.append(lines[-1])
        at += len(line)
    begin, end, inside = rng.choice(places or lines)
    roll = rng.random()
    if roll < 0.6:
        return begin, end
    return (inside, end) if roll < 0.85 else (begin, min(end + 1, len(text)))


def hole_in(rng: random.Random, text: str, mix: Mix) -> tuple[int, int]:
    """Where a hole begins and stops: one line more often than not, else some lines, the rest of a line, or any span."""
    roll = rng.random()
    if roll < mix.one_line_share:
        return one_line(rng, text, mix.seldom)
    roll = (roll - mix.one_line_share) / (1 - mix.one_line_share)
    starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]
    if roll < 0.3 and len(starts) > 4:
        first = rng.randrange(len(starts) - 2)
        return starts[first], starts[min(first + rng.randint(2, 5), len(starts) - 1)] - rng.randint(0, 1)
    begin = rng.randrange(len(text))
    if roll < 0.75:
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
        self.words = words_of(library)
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

    def with_hole(self, rng: random.Random, text: str, mix: Mix) -> Document:
        """Code rearranged around a hole, as a code editor asks for it; only what stood in the hole is said."""
        begin, stop = hole_in(rng, text, mix)
        around = [self.bos, *self.encode(FIM_BEGIN + text[:begin] + FIM_HOLE + text[stop:] + FIM_END)]
        middle = [*self.encode(text[begin:stop]), self.end]
        return Document(around + middle, [0.0] * len(around) + [mix.hole_weight] * len(middle))

    def window(self, rng: random.Random) -> str:
        """Whole lines from a library file, every third time from its beginning."""
        lines = rng.choices(self.files, self.sizes)[0].splitlines(keepends=True)
        start = 0 if rng.random() < 0.33 else rng.randrange(max(1, len(lines) - 10))
        return "".join(lines[start : start + rng.randint(*WINDOW_LINES)])

    def library(self, rng: random.Random, mix: Mix) -> Document:
        """A function or a window of the library, now and then with a hole."""
        whole = rng.random() < 0.55
        text = rng.choice(self.units) if whole else self.window(rng)
        if rng.random() < 0.25 and text.strip():
            return self.with_hole(rng, text[:1200], mix)
        return self.plain(text, whole)

    def copies(self, rng: random.Random) -> Document:
        """The same list of names twice, of which the second is learned: an exercise in copying, and nothing else."""
        names = [name(rng) for _ in range(rng.randint(4, 12))]
        items = ", ".join(f'"{item}"' for item in names) if rng.random() < 0.5 else ", ".join(names)
        first, second = rng.sample(WORDS, 2)
        before = [self.bos, *self.encode(f"{first} = [{items}]\n{second} = [")]
        after = [*self.encode(f"{items}]\n"), self.end]
        return Document(before + after, [0.0] * len(before) + [1.0] * len(after))

    def document(self, rng: random.Random, mix: Mix) -> Document:
        """One of `KINDS`."""
        kind = rng.choices(KINDS, cum_weights=mix.cumulative_shares)[0]
        if kind == "chat":
            return self.chat(rng)
        if kind == "copies":
            return self.copies(rng)
        if kind == "library":
            return self.library(rng, mix)
        if kind == "program":
            taste = replace(mix.taste, words=self.words) if mix.library_names else mix.taste
            text, share = program(rng, taste), mix.hole_share
        else:
            text, share = task_program(rng), 0.55
        return self.with_hole(rng, text, mix) if rng.random() < share else self.plain(text)

    def batch(self, step: int, num_rows: int, length: int) -> list[Document]:
        """The rows of a step, each of `length + 1` ids. Documents stay whole; library code fills what is left."""
        rng = random.Random(f"{self.seed}/{step}")
        mix = mix_of(step)
        documents, total = [], 0
        while total < 0.97 * num_rows * length:
            documents.append(self.document(rng, mix))
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
        rows = [self.batch(step, num_rows, length) for step in MIXES]
        return hashlib.sha256(repr(rows).encode()).hexdigest()


def tokenizer_texts(seed: int, library: Sequence[str], num_chats: int = 4000) -> Iterator[str]:
    """What a tokenizer should know: chats, small programs and the library."""
    rng = random.Random(f"{seed}/tokenizer")
    for _ in range(num_chats):
        yield "\n".join(message["content"] for message in conversation(rng))
        yield program(rng)
    yield from library
