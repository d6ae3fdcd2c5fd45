"""What the pages say: English sentences, code, numbers and made-up words, in printable ASCII."""

from __future__ import annotations

import ast
import random
import re
import string
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PRINTABLE = "".join(map(chr, range(32, 127)))
_HELD_OUT_FILES = """
    __future__ _pydecimal asynchat asyncio/futures asyncio/subprocess bdb collections/__init__ contextvars ctypes/util
    dbm/ndbm distutils/command/bdist_dumb distutils/command/install_egg_info distutils/dir_util distutils/text_file
    email/charset email/mime/audio ensurepip/__main__ gettext http/cookiejar importlib/metadata/__init__
    importlib/resources/_legacy json/scanner modulefinder multiprocessing/popen_spawn_posix netrc pickletools pyclbr
    runpy socket stringprep threading tkinter/scrolledtext tracemalloc unittest/mock uu wsgiref/types
    xml/dom/xmlbuilder xml/sax/saxutils
    """
HELD_OUT_FILES = frozenset(_HELD_OUT_FILES.split())
"""Of the standard library, kept for the evaluation's texts: one file in twelve of Python 3.11's."""
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "encodings", "pydoc_data", "turtledemo"}
_MAX_RUNS = 40
"""Of one file, so that no table of constants fills the pages."""
_SYLLABLES = (
    *("ba", "be", "bor", "ca", "cor", "da", "del", "do", "en", "er", "fa", "fin", "ga", "go", "ha", "hel", "in", "jo"),
    *("ka", "ki", "la", "len", "lo", "ma", "mi", "mor", "na", "ni", "no", "ol", "or", "pa", "pe", "per", "qui", "ra"),
    *("ri", "ro", "sa", "se", "so", "sta", "ta", "te", "tor", "tri", "u", "va", "vi", "wa", "wen", "xi", "ya", "ze"),
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_TITLES = (
    *("Invoice", "Report", "Summary", "Chapter", "Results", "Minutes", "Order", "Receipt", "Overview", "Letter"),
    *("Introduction", "Appendix", "Schedule", "Price List", "Annual Report", "Shopping List", "Notes", "Contents"),
)
_GOODS = (
    *("paper", "pens", "boxes of paper", "apples", "coffee", "tea", "bread", "cables", "screws", "lamps", "chairs"),
    *("desks", "books", "stamps", "envelopes", "batteries", "monitors", "keyboards", "milk", "rice", "glue", "paint"),
)
_COLUMNS = (
    *("Name", "Item", "Price", "Total", "Date", "City", "Quantity", "Amount", "Year", "Score", "Country", "Unit"),
    *("Size", "Weight", "Code", "Color", "Type", "Status", "Qty", "No.", "Team", "Points", "Rank", "Age", "Hours"),
)


@dataclass(frozen=True)
class Library:
    """What the standard library's modules hold: lines of prose from docstrings, and lines of code."""

    prose: list[str]
    code: list[list[str]]
    """Runs of lines without a common indent, of one function or block each."""


@cache
def library(held_out: bool) -> Library:
    """The running interpreter's own modules, in order of path; the training never reads the held-out ones."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.rglob("*.py") if not _LEFT_OUT.intersection(path.relative_to(root).parts))
    prose: list[str] = []
    code: list[list[str]] = []
    for path in paths:
        if (str(path.relative_to(root).with_suffix("")) in HELD_OUT_FILES) != held_out:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if not 200 < len(text) < 200_000 or not text.isascii():
            continue
        prose += _docstrings(text)
        code += _runs(text)[:_MAX_RUNS]
    return Library(prose, code)


def _docstrings(text: str) -> list[str]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    strings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    paragraphs = (re.sub(r"\s+", " ", part) for string in strings for part in string.split("\n\n"))
    return [part for part in paragraphs if len(part.split()) > 3 and set(part) <= set(PRINTABLE) and "__" not in part]


def _runs(text: str) -> list[list[str]]:
    lines = text.split("\n")
    runs = []
    for start in range(0, len(lines) - 3, 8):
        run = [line.rstrip() for line in lines[start : start + 12] if line.strip()]
        indent = min((len(line) - len(line.lstrip()) for line in run), default=0)
        run = [line[indent:] for line in run]
        if len(run) > 2 and all(len(line) <= 60 and set(line) <= set(PRINTABLE) for line in run):
            runs.append(run)
    return runs


class Writer:
    """Makes texts up; the same seed makes the same ones."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng = rng
        self._library = library(held_out)

    def prose(self, num_characters: int) -> str:
        """Words of about so many characters together."""
        words: list[str] = []
        while sum(map(len, words)) + len(words) < num_characters:
            roll = self.rng.random()
            if roll < 0.75:
                paragraph = self.rng.choice(self._library.prose).split()
                start = self.rng.randrange(len(paragraph))
                words += paragraph[start : start + self.rng.randint(3, 14)]
            else:
                words.append(self.token())
        words[0] = words[0][:1].upper() + words[0][1:]
        return " ".join(words)

    def code(self, max_lines: int) -> list[str]:
        run = self.rng.choice(self._library.code)
        length = self.rng.randint(1, min(max_lines, len(run)))
        start = self.rng.randrange(len(run) - length + 1)
        lines = run[start : start + length]
        indent = min(len(line) - len(line.lstrip()) for line in lines)
        return [line[indent:] for line in lines]

    def token(self) -> str:
        """One word that no sentence foretells: a name, a number, a price, a date, an address, a code."""
        rng = self.rng
        kind = rng.randrange(14)
        if kind < 4:
            return self.name()
        if kind < 7:
            return self.number()
        if kind == 7:
            return f"{rng.choice('$$')}{rng.randint(0, 9999)}.{rng.randint(0, 99):02d}"
        if kind == 8:
            return f"{rng.randint(1, 28)} {rng.choice(_MONTHS)} {rng.randint(1900, 2099)}"
        if kind == 9:
            return f"{rng.randint(1990, 2039)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        if kind == 10:
            return f"{self.name().lower()}@{self.name().lower()}.{rng.choice(('com', 'org', 'net', 'de'))}"
        if kind == 11:
            return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(2, 8)))
        if kind == 12:
            return "".join(rng.choices(PRINTABLE[1:], k=rng.randint(1, 6)))
        return self.punctuated(self.name())

    def name(self) -> str:
        word = "".join(self.rng.choices(_SYLLABLES, k=self.rng.randint(1, 4)))
        return self.rng.choice((word, word.capitalize(), word.capitalize(), word.upper()))

    def number(self) -> str:
        rng = self.rng
        whole = str(rng.randrange(10 ** rng.randint(1, 6)))
        return rng.choice(
            (
                whole,
                whole,
                f"{whole}.{rng.randint(0, 99):02d}",
                f"{whole}%",
                f"{rng.randint(1, 999)},{rng.randint(0, 999):03d}",
            )
        )

    def punctuated(self, word: str) -> str:
        before, after = self.rng.choice(
            (
                ("(", ")"),
                ('"', '"'),
                ("'", "'"),
                ("", ","),
                ("", "."),
                ("", ":"),
                ("", ";"),
                ("", "!"),
                ("", "?"),
                ("[", "]"),
            )
        )
        return f"{before}{word}{after}"

    def heading(self) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return f"{rng.choice(_TITLES)} {rng.randint(1, 9999)}"
        words = [word for word in self.prose(rng.randint(6, 24)).split() if word.isalpha()] or [self.name()]
        numbered = f"{rng.randint(1, 9)}. " if rng.random() < 0.2 else ""
        return numbered + " ".join(word.capitalize() for word in words[:4])

    def item(self) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return f"{rng.randint(1, 99)} {rng.choice(_GOODS)}"
        return self.prose(rng.randint(4, 30))

    def pair(self) -> str:
        """A line such as `Total: 37.80`."""
        rng = self.rng
        left = rng.choice((*_COLUMNS, self.name(), f"{rng.randint(1, 20)} {rng.choice(_GOODS)}"))
        return f"{left}{rng.choice((':', ':', ''))} {rng.choice((self.number(), self.token(), self.name()))}"

    def table(self, rows: int, columns: int) -> list[list[str]]:
        """Cells of a table whose first row names the columns."""
        rng = self.rng
        head = rng.sample(_COLUMNS, columns)
        kinds = [rng.choice(("number", "name", "goods", "token")) for _ in range(columns)]
        return [head, *([self._cell(kind) for kind in kinds] for _ in range(rows - 1))]

    def _cell(self, kind: str) -> str:
        if kind == "number":
            return self.number()
        if kind == "goods":
            return self.rng.choice(_GOODS)
        return self.name() if kind == "name" else self.token()[:12].strip() or "-"
