"""Identifiers that an asker might want: words joined by underscores, in camel case, or short."""

import keyword
import random
import zlib

WORD_LIST = (
    "add all apply area array back base best big bit blue box brand build bulk byte cache calc call card cat chain "
    "change char check chunk city clean click clock close cloud code coin cold col color compute convert cook copy "
    "core count cross cut cycle dark data date day deep delta depth dict diff dig do dog double down draw drop east "
    "edge end entry even extra fast fetch field fill filter final find first fish fix flag flat flip float fold foo "
    "form frame fresh from full fun func game gap gate get give go gold grab great green grid group hash head heap "
    "help hero high hint home hot idea index info inner input int item join jump keep key kind king lab land last "
    "late leaf left level light like limit line link list load local lock log long look loop low lucky magic main "
    "make many map mark mask match math max merge mid mini mix mode moon more move my name near neat new next nice "
    "node north note num number odd old one only open order out outer output own pack page pair parse part pass path "
    "peak pick pixel place plan plus point pool pop power pretty price prime print process pull pure push quick rain "
    "range rank rate raw read real red reduce result right ring river road robot root round row rule run safe save "
    "scale scan score search seed select send set shape share shift short show side sign silver simple size slow "
    "small smart snow soft solve some sort sound source south space speed split square stack star start state step "
    "stop store str strip strong sum sun super swap table tail take talk task temp test text thing tile time tiny "
    "token tool top total track tree trim true try turn two type under unit up use user util value view walk wave way "
    "west white wide wild win wind wise word work world wrap write yellow zen zero zip zone"
)
WORDS = WORD_LIST.split()
SHORT = (
    "f",
    "g",
    "fn",
    "go",
    "h",
    "foo",
    "bar",
    "baz",
    "run",
    "solve",
    "func",
    "main",
    "calc",
    "my",
    "do_it",
    "f1",
    "x2",
)
HELD_OUT = 8  # one name in eight is kept for the evaluation


def is_held_out(name: str) -> bool:
    """Whether a name is kept for the evaluation."""
    return zlib.crc32(name.encode()) % HELD_OUT == 0


def word(rng: random.Random) -> str:
    """A word of the list, or one that is none: syllables at random."""
    if rng.random() < 0.7:
        return rng.choice(WORDS)
    return "".join(
        rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3))
    ) + rng.choice(("", "n", "r", "x", "k", "t"))


def candidate(rng: random.Random, is_class: bool) -> str:
    """A name in one of the usual spellings."""
    words = [word(rng) for _ in range(rng.choices((1, 2, 3, 4), (20, 50, 25, 5))[0])]
    roll = rng.random()
    if is_class or roll < 0.08:
        return "".join(part.capitalize() for part in words)
    if roll < 0.25:
        return words[0] + "".join(part.capitalize() for part in words[1:])
    if roll < 0.33:
        return rng.choice(SHORT)
    name = "_".join(words)
    return f"{name}_{rng.randint(1, 9)}" if rng.random() < 0.05 else name


def name(rng: random.Random, is_class: bool = False, held_out: bool = False, taken: str = "") -> str:
    """An identifier that stands nowhere in `taken`, from the names that are trained or from those kept back."""
    while True:
        chosen = candidate(rng, is_class)
        if is_held_out(chosen) == held_out and chosen not in taken and not keyword.iskeyword(chosen):
            return chosen
