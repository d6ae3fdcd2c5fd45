"""Python source that an installation carries: the interpreter's standard library and the installed dependencies.

Which files are taken, and which are kept for the evaluation, follows from their paths alone.
"""

import ast
import builtins
import io
import keyword
import random
import re
import sysconfig
import textwrap
import tokenize
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    "transformers", "numpy", "fastapi", "pydantic", "starlette", "uvicorn", "huggingface_hub", "tokenizers", "httpx",
    "openai", "click", "typer", "rich", "requests", "urllib3", "anyio", "tqdm", "packaging", "jinja2", "pypdfium2",
)  # fmt: skip
LEFT_OUT = {
    "test", "tests", "testing", "idlelib", "lib2to3", "site-packages", "encodings", "pydoc_data", "turtledemo", "types",
    "ensurepip", "_vendor", "f2py", "distutils", "__pycache__",
}  # fmt: skip
HELD_OUT_FILE = 25  # one file in so many is kept for the evaluation
MAX_FILE = 100_000  # characters
MAX_STANDARD, MAX_PACKAGES = 8_000_000, 6_000_000  # characters in all
MAX_PROMPT = 600  # characters of a held-out beginning
WORD, MIN_COUNT = re.compile(r"(?<![A-Za-z])[a-z]{3,10}(?![A-Za-z])"), 10
MIN_UNIT, MAX_UNIT = 80, 1500  # characters of a function or class


@dataclass(frozen=True)
class Library:
    """Whole files, by what they are for."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]


def digest(path: str) -> int:
    """A number that looks random, the same on every machine."""
    return zlib.crc32(path.encode())


def files_under(root: Path) -> list[tuple[str, Path]]:
    """(relative path, path) of the modules under `root`, in order of the digest of the relative path."""
    found = [(path.relative_to(root).as_posix(), path) for path in root.rglob("*.py")]
    kept = [(name, path) for name, path in found if not LEFT_OUT.intersection(Path(name).parts)]
    return sorted(kept, key=lambda pair: (digest(pair[0]), pair[0]))


def readable(path: Path) -> str | None:
    """The file's text, if it is plain Python of a usual length."""
    text = path.read_text(encoding="utf-8", errors="ignore")
    if not 300 < len(text) < MAX_FILE or not text.isascii() or "\t" in text or "\r" in text or "\f" in text:
        return None
    lines = text.splitlines()
    if max(map(len, lines)) > 200:
        return None
    return text if parses(text) else None


def parse(code: str) -> ast.Module:
    """`ast.parse` without a word about backslashes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def without_head_comment(text: str) -> str:
    """The file without the licence and the like above its first statement."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    return "\n".join(lines[first:])


def take(files: list[tuple[str, Path]], max_characters: int) -> Iterator[tuple[str, str]]:
    """(relative path, text) of readable files until the limit is reached."""
    total = 0
    for name, path in files:
        text = readable(path)
        if text and total < max_characters:
            total += len(text)
            yield name, without_head_comment(text)


def read_library() -> Library:
    """The files of this installation."""
    paths = sysconfig.get_paths()
    packages = [
        (f"{package}/{name}", path)
        for package in PACKAGES
        for name, path in files_under(Path(paths["purelib"]) / package)
    ]
    packages.sort(key=lambda pair: (digest(pair[0]), pair[0]))
    chosen = [*take(files_under(Path(paths["stdlib"])), MAX_STANDARD), *take(packages, MAX_PACKAGES)]
    held_out = [text for name, text in chosen if digest(f"held out {name}") % HELD_OUT_FILE == 0]
    trained = [text for name, text in chosen if digest(f"held out {name}") % HELD_OUT_FILE]
    return Library(tuple(trained), tuple(held_out))


def units_of(text: str) -> list[str]:
    """The functions, methods and short classes of a file, each from its own margin."""
    lines = text.split("\n")
    units = []
    for node in ast.walk(parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.end_lineno:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            unit = textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])) + "\n"
            if MIN_UNIT <= len(unit) <= MAX_UNIT:
                units.append(unit)
    return units


def words_of(texts: Sequence[str]) -> list[str]:
    """Words that names are made of, and prose too; none that means something to Python."""
    counts = Counter(word for text in texts for word in WORD.findall(text))
    known = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins)}
    return sorted(word for word, count in counts.items() if count >= MIN_COUNT and word not in known)


def statement_ends(text: str) -> list[int]:
    """Offsets behind each line that ends a simple statement, as far as `text` can be cut into tokens.

    Raises IndentationError where a line stands at a margin that no block has.

    A block's header (`if x:`) and a decorator are no full statements: what belongs to them is still to come.
    """
    offsets = [0]
    for line in text.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    ends: list[int] = []
    first, last = "", ""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    while True:
        try:
            token = next(tokens)
        except (StopIteration, tokenize.TokenError):
            return ends
        if token.type == tokenize.NEWLINE:
            if token.string and last != ":" and first != "@":
                ends.append(offsets[token.end[0] - 1] + token.end[1])
            first, last = "", ""
        elif token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT):
            first, last = first or token.string, token.string


def beginning(rng: random.Random, text: str) -> str | None:
    """The first statements, two lines or more; None where they are too long for a prompt."""
    ends = [end for end in statement_ends(text) if text.count("\n", 0, end) >= 2 and end < MAX_PROMPT]
    return text[: rng.choice(ends[:3])] if ends else None


def beginnings(texts: tuple[str, ...], count: int) -> list[str]:
    """The first lines of held-out files and of their functions, half of each."""
    rng = random.Random("beginnings")
    units = sorted({unit for text in texts for unit in units_of(text) if unit.count("\n") > 6})
    files = [prefix for text in texts if (prefix := beginning(rng, text))]
    functions = [prefix for text in units if (prefix := beginning(rng, text))]
    chosen = rng.sample(files, min(len(files), count // 2))
    return chosen + rng.sample(functions, count - len(chosen))


def cut_at_last_statement(prefix: str, completion: str) -> str | None:
    """Prefix and completion up to the completion's last full statement; None where there is none.

    The cut is behind the last NEWLINE token, which Python's tokenizer gives only where all brackets and strings are
    closed, of a line that is neither a block's header nor a decorator.
    """
    try:
        ends = [end for end in statement_ends(prefix + completion) if end > len(prefix)]
    except IndentationError:
        return None
    return (prefix + completion)[: ends[-1]] if ends else None


def parses(code: str) -> bool:
    """Whether `ast.parse` accepts it."""
    try:
        parse(code)
    except (SyntaxError, ValueError):
        return False
    return True
