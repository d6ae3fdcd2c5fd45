"""Thousands of small programs from patterns: random names, operations and values, with asserts found by running them.

The patterns stand in programs.txt: in their code `$XS` and `$X` are a plural and its singular, other `$NAMES`
identifiers of one kind, and `⟨a|b⟩` is a choice. The words behind a function's `@` are the kinds of its arguments.
"""

import ast
import builtins
import keyword
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.coder.names import WORDS, name, word
from demo.coder.snippets import SNIPPETS

PLURAL_LIST = (
    "numbers values items scores prices points ages sizes lengths amounts totals weights levels marks "
    "costs grades readings temperatures words names lines letters tokens parts keys titles cities colors "
    "files users orders rows records nodes tasks players books songs steps days years results labels tags "
    "messages events elements entries objects choices"
)
PLURALS = PLURAL_LIST.split()
KINDS: dict[str, tuple[str, ...]] = {
    "ACC": ("total", "result", "sum_", "amount", "acc", "count", "score", "value", "s", "total_sum", "answer", "t"),
    "BEST": ("best", "largest", "smallest", "top", "current", "longest", "winner", "chosen", "maximum", "found", "m"),
    "OUT": (
        "result",
        "output",
        "kept",
        "found",
        "collected",
        "selected",
        "new_list",
        "out",
        "filtered",
        "answer",
        "res",
    ),
    "D": ("counts", "table", "mapping", "groups", "lookup", "index", "result", "totals", "data", "d", "cache", "seen"),
    "N": ("n", "limit", "size", "k", "times", "count", "start", "end", "width", "num", "length", "step", "maximum"),
    "M": ("m", "b", "y", "other", "factor", "amount", "offset", "height", "base", "rate"),
    "S": ("text", "s", "word", "string", "line", "sentence", "name", "message", "phrase", "title", "content", "value"),
    "C": ("c", "char", "letter", "character", "ch", "symbol", "x"),
    "I": ("i", "index", "j", "position", "k", "idx"),
    "P": ("key", "name", "k", "word", "label", "field", "a", "left"),
    "V": ("value", "amount", "v", "number", "count", "b", "right", "price"),
    "A": ("first", "a", "x", "left", "one", "old", "front", "xs"),
    "B": ("second", "b", "y", "right", "two", "new", "back", "ys"),
}
SINGULAR_NAMES = ("x", "item", "n", "value", "element")
MAX_EVENTS = 10_000
"""Lines, calls and returns after which a program is given up."""
PATTERNS_FILE = Path(__file__).with_name("programs.txt")


@dataclass(frozen=True)
class Taste:
    """What programs are like."""

    plain_share: float = 0.4
    """Choices that fall on the plainest."""
    telling_share: float = 0.65
    """Functions whose name says what they do."""
    words: Sequence[str] = ()
    """What half of the variables' names are made of, where there are any: a name has to be read, not guessed."""


@dataclass(frozen=True)
class Pattern:
    """What a program is made from: its code, and the kinds of arguments of a function; a class or script has none."""

    code: str
    arguments: tuple[str, ...]


def read_patterns() -> Iterator[tuple[str, Pattern]]:
    """(function, class or script; pattern), as the file has them."""
    for section in PATTERNS_FILE.read_text().rstrip("\n").split("\n---\n"):
        head, _, code = section.partition("\n")
        if head.startswith("@@ "):
            yield head[3:], Pattern(code, ())
        else:
            yield "function", Pattern(code, tuple(head[2:].split()))


PATTERNS: dict[str, list[Pattern]] = {"function": [], "class": [], "script": []}
for section_kind, section_pattern in read_patterns():
    PATTERNS[section_kind].append(section_pattern)
# What a function's code does, and how a person would call it then.
VERBS = (
    ("% 2", "even odd halves parity"),
    ("/ len(", "average mean"),
    ("[::-1]", "reverse flip backwards mirror"),
    (".upper()", "upper shout loud capitals"),
    (".lower()", "lower quiet small_letters"),
    ("[0]", "first initial start head"),
    ("[-1]", "last final end tail"),
    ("*= ", "product multiply factorial multiply_all"),
    ("sorted(", "sorted order arrange sort"),
    ("max(", "highest largest maximum biggest"),
    ("min(", "lowest smallest minimum"),
    (".get(", "count tally frequency lookup merge"),
    ("len(", "length size lengths longest"),
    ("sum(", "total sum add_up sum_of"),
    ("in 'aeiou'", "vowels vowel is_vowel count_vowels"),
    ("+= 1", "count how_many count_of num number_of"),
    ("True", "has contains is check any"),
    ("in 'aeiou'", "vowels"),
    (".split", "split words parse words_of"),
    (" ** 2", "square squares power"),
    ("* $X\n", "sum_of_squares squares"),
    ("] = ", "index_of make_table group map build collect"),
    ("+= $X", "total sum add_up sum_of total_of"),
    ("if $X", "filter select keep only remove without"),
    ("append", "collect make list_of convert change get all"),
    ("+ $B", "add plus join combine"),
    ("* $B", "multiply times area scale"),
    ("- $B", "difference subtract minus"),
    ("if ", "check choose pick clean safe"),
)
BUILTINS = frozenset(dir(builtins))
METHODS = frozenset(name for kind in (str, list, dict, set, tuple) for name in dir(kind))
NAME = re.compile(r"(\.?)\b([a-zA-Z_]\w*)")
CHOICE = re.compile(r"⟨([^⟨⟩]*)⟩")
SLOT = re.compile(r"\$([A-Z]+1?)")


def plural(rng: random.Random, words: Sequence[str]) -> tuple[str, str]:
    """A plural and its singular."""
    if words and rng.random() < 0.5:
        one = rng.choice(words)
        return f"{one}s", one
    many = rng.choice(PLURALS) if rng.random() < 0.7 else rng.choice(WORDS) + "s"
    one = many[:-3] + "y" if many.endswith("ies") else many[:-1]
    return many, one if rng.random() < 0.75 else rng.choice((*SINGULAR_NAMES, one[0]))


def function_name(rng: random.Random, pattern: str, many: str, taste: Taste) -> str:
    """A name, more often than not one that says what the code does."""
    if rng.random() < 1 - taste.telling_share:
        return name(rng)
    fitting = [verbs for part, verbs in VERBS if part in pattern]
    verb = rng.choice(rng.choice(fitting).split()) if fitting else rng.choice(WORDS)
    return rng.choices(
        (f"{verb}_{many}", verb, f"{verb}_{rng.choice(WORDS)}", f"{rng.choice(WORDS)}_{verb}"), (40, 15, 25, 20)
    )[0]


def literal(rng: random.Random, kind: str) -> object:
    """An argument."""
    small = rng.randint(1, 7)
    ints = [rng.randint(-5, 20) for _ in range(rng.randint(2, 5))]
    words = [word(rng) for _ in range(rng.randint(2, 4))]
    if kind == "words" and rng.random() < 0.4:
        words.append(words[0])
    made: dict[str, object] = {
        "ints": ints,
        "words": words,
        "text": " ".join(words[: rng.randint(1, 3)]),
        "int": rng.randint(0, 100),
        "small": small,
        "zero": 0,
        "dict": {key: rng.randint(0, 20) for key in words},
        "key": words[0],
        "pairs": [(key, rng.randint(1, 9)) for key in words],
        "rows": [[rng.randint(0, 9) for _ in range(2)] for _ in range(rng.randint(2, 3))],
        "numeral": rng.choice((str(small), "x", words[0], str(small * 11))),
        "split": words[0] + rng.choice("=:,-") + words[1],
    }
    return made[kind]


def fill(rng: random.Random, pattern: str, taste: Taste) -> str:
    """The pattern with its choices made and its names set in."""
    while found := CHOICE.search(pattern):
        options = found[1].split("|")
        chosen = options[0] if rng.random() < taste.plain_share else rng.choice(options)  # the plainest stands first
        pattern = pattern[: found.start()] + chosen + pattern[found.end() :]
    many, one = plural(rng, taste.words)
    taken: dict[str, str] = {
        "XS": many,
        "X": one,
        "F": function_name(rng, pattern, many, taste),
        "G": name(rng),
        "W": word(rng),
        "TEXT": "",
        "K1": "",
    }
    taken |= {"K": str(rng.randint(2, 9)), "J": str(rng.randint(1, 20))}
    taken["K1"], taken["I1"] = name(rng, is_class=True), rng.choice(("thing", "x", "obj", one, "box", "instance"))
    taken["TEXT"] = str(literal(rng, "text"))
    taken |= {"LIST": repr(literal(rng, "ints")), "WORDLIST": repr(literal(rng, "words"))}
    taken["DICT"] = repr(literal(rng, "dict"))
    for kind in SLOT.findall(pattern):
        used = set(taken.values())
        while kind not in taken or (kind in KINDS and taken[kind] in used):
            if taste.words and rng.random() < 0.5:
                taken[kind] = rng.choice(taste.words)
            else:
                taken[kind] = rng.choice(KINDS[kind]) if rng.random() < 0.85 else rng.choice(WORDS)
            used = {value for key, value in taken.items() if key != kind}
    return SLOT.sub(lambda found: taken[found[1]], pattern)


def with_double_quotes(text: str) -> str:
    """Strings as most programs write them."""
    return text if '"' in text else text.replace("'", '"')


def outcome(code: str, expression: str) -> object:
    """The value of an expression behind the code.

    Raises:
        TimeoutError: it does not come to an end, as where two of its names became the same.
        Exception: whatever the code raises.
    """
    num_events = 0

    def count(*_: object) -> object:
        nonlocal num_events
        num_events += 1
        if num_events > MAX_EVENTS:
            raise TimeoutError(f"no end after {MAX_EVENTS} lines, calls and returns")
        return count

    scope: dict[str, object] = {"__name__": "program"}
    before = sys.gettrace()
    sys.settrace(count)
    try:
        exec(code, scope)
        return eval(expression, scope)
    finally:
        sys.settrace(before)


def function_program(rng: random.Random, taste: Taste) -> str | None:
    """A function with one to three asserts; None where it fails on its arguments."""
    pattern = rng.choice(PATTERNS["function"])
    code = fill(rng, pattern.code, taste)
    called = code[4 : code.index("(")]
    asserts: list[str] = []
    for _ in range(rng.choices((1, 2, 3), (50, 40, 10))[0]):
        call = f"{called}({', '.join(repr(literal(rng, kind)) for kind in pattern.arguments)})"
        try:
            value = outcome(code, call)
        except Exception:
            continue
        if isinstance(value, set):  # written in an order that differs from run to run
            return None
        if isinstance(value, bool) and rng.random() < 0.7:
            asserts.append(f"assert {'' if value else 'not '}{call}")
        elif value is None:
            asserts.append(f"assert {call} is None")
        else:
            asserts.append(f"assert {call} == {value!r}")
    text = f"{code}\n\n" + "\n".join(dict.fromkeys(asserts)) + "\n"
    return text if asserts and len(text) < 500 else None


def asserted_program(rng: random.Random, taste: Taste) -> str | None:
    """A class or a script whose last line's `?` is found by running what stands before it."""
    code = fill(rng, rng.choice(PATTERNS["class" if rng.random() < 0.6 else "script"]).code, taste)
    before, _, last = code.rpartition("\nassert ")
    expression = last.removesuffix(" == ?")
    try:
        value = outcome(before, expression)
    except Exception:
        return None
    if isinstance(value, set):
        return None
    return f"{before}\nassert {expression} == {value!r}\n"


def shape_of(program: str) -> str:
    """A program without its asserts and with its names numbered: equal for programs that differ in nothing else."""
    code = program.partition("\nassert")[0].strip().replace("'", '"')
    names, attributes = own_names(code)
    numbers: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        word = found[2]
        known = METHODS - attributes if found[1] else BUILTINS - names
        kept = keyword.iskeyword(word) or word in known
        return found[1] + (word if kept else numbers.setdefault(word, f"v{len(numbers)}"))

    return NAME.sub(numbered, code)


def own_names(code: str) -> tuple[set[str], set[str]]:
    """Names and attributes that the code itself gives, builtins' and methods' among them."""
    names, attributes = set(), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
        if isinstance(node, ast.ClassDef):
            attributes |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    return names, attributes


HELD_OUT_SHAPES = {shape_of(snippet.before + snippet.line + snippet.after) for snippet in SNIPPETS}


def program(rng: random.Random, taste: Taste = Taste()) -> str:
    """One program that runs, and is none of the held-out ones under other names."""
    while True:
        make = function_program if rng.random() < 0.85 else asserted_program
        made = make(rng, taste)
        if made and shape_of(made) not in HELD_OUT_SHAPES:
            return with_double_quotes(made) if rng.random() < 0.8 else made
