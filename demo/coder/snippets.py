"""Fifty small programs, each with one line that the model has to fill in. Nothing is trained on them.

The missing line carries the mark. A program ends without an error if, and only if, something right stands there.
"""

from dataclasses import dataclass

MARK = "  # missing"


@dataclass(frozen=True)
class Snippet:
    """A program around a hole of one line: `before` ends and `after` begins with a line break."""

    before: str
    line: str
    after: str


PROGRAMS = """
def total_price(prices):
    total = 0
    for price in prices:
        total += price  # missing
    return total

assert total_price([3, 4, 5]) == 12
---
def longest(names):
    best = ""
    for name in names:
        if len(name) > len(best):
            best = name  # missing
    return best

assert longest(["Al", "Barbara", "Cleo"]) == "Barbara"
---
def count_passed(scores, limit):
    count = 0
    for score in scores:
        if score >= limit:
            count += 1  # missing
    return count

assert count_passed([40, 75, 60, 90], 60) == 3
---
def absolute(value):
    if value < 0:
        return -value  # missing
    return value

assert absolute(-5) == 5
assert absolute(7) == 7
---
def shout(words):
    result = []
    for word in words:
        result.append(word.upper())  # missing
    return result

assert shout(["hi", "you"]) == ["HI", "YOU"]
---
def letter_counts(text):
    counts = {}
    for letter in text:
        if letter not in counts:
            counts[letter] = 0  # missing
        counts[letter] += 1
    return counts

assert letter_counts("noon") == {"n": 2, "o": 2}
---
def full_name(first, last):
    return first + " " + last  # missing

assert full_name("Grace", "Hopper") == "Grace Hopper"
---
def average_temperature(readings):
    if not readings:
        return 0.0
    total = sum(readings)
    return total / len(readings)  # missing

assert average_temperature([10, 20]) == 15
assert average_temperature([]) == 0.0
---
def contains(items, wanted):
    for item in items:
        if item == wanted:
            return True  # missing
    return False

assert contains([1, 2, 3], 2)
assert not contains([1, 2, 3], 9)
---
def countdown(start):
    numbers = []
    while start > 0:
        numbers.append(start)
        start -= 1  # missing
        if len(numbers) > 100:
            break
    return numbers

assert countdown(4) == [4, 3, 2, 1]
---
def area(width, height):
    return width * height  # missing

assert area(3, 5) == 15
assert area(2, 2) == 4
---
def only_positive(values):
    kept = []
    for value in values:
        if value > 0:  # missing
            kept.append(value)
    return kept

assert only_positive([-1, 2, 0, 3]) == [2, 3]
---
def initials(full_name):
    letters = ""
    for part in full_name.split():
        letters += part[0]  # missing
    return letters

assert initials("Ada King Lovelace") == "AKL"
---
def lookup(table, key, default):
    if key in table:
        return table[key]  # missing
    return default

assert lookup({"a": 1}, "a", 0) == 1
assert lookup({"a": 1}, "b", 0) == 0
---
def index_of_smallest(values):
    smallest = 0
    for i in range(1, len(values)):
        if values[i] < values[smallest]:
            smallest = i  # missing
    return smallest

assert index_of_smallest([5, 2, 8]) == 1
---
class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1  # missing

counter = Counter()
counter.increment()
counter.increment()
assert counter.value == 2
---
class Person:
    def __init__(self, name, age):
        self.name = name
        self.age = age  # missing

    def greet(self):
        return f"I am {self.name}, {self.age}"

assert Person("Kim", 30).greet() == "I am Kim, 30"
---
def is_vowel(letter):
    return letter.lower() in "aeiou"  # missing

assert is_vowel("A") and is_vowel("e")
assert not is_vowel("k")
---
def double_all(numbers):
    return [number * 2 for number in numbers]  # missing

assert double_all([1, 5]) == [2, 10]
---
def smaller(a, b):
    if a < b:
        return a  # missing
    return b

assert smaller(2, 9) == 2
assert smaller(7, 1) == 1
---
def join_with_commas(parts):
    text = ", ".join(parts)  # missing
    return text

assert join_with_commas(["a", "b"]) == "a, b"
---
def repeat(text, times):
    result = ""
    for _ in range(times):  # missing
        result += text
    return result

assert repeat("ab", 3) == "ababab"
---
import math

def hypotenuse(a, b):
    return math.sqrt(a * a + b * b)  # missing

assert hypotenuse(3, 4) == 5
---
def grade(points):
    if points >= 90:
        return "A"
    elif points >= 70:
        return "B"
    else:
        return "C"  # missing

assert grade(95) == "A"
assert grade(10) == "C"
---
def pairs(names, ages):
    result = {}
    for name, age in zip(names, ages):
        result[name] = age  # missing
    return result

assert pairs(["a", "b"], [1, 2]) == {"a": 1, "b": 2}
---
def last_word(sentence):
    words = sentence.split()  # missing
    return words[-1]

assert last_word("the end") == "end"
---
def sum_of_squares(n):
    total = 0
    for i in range(1, n + 1):
        total += i * i  # missing
    return total

assert sum_of_squares(3) == 14
---
def has_negative(numbers):
    return any(number < 0 for number in numbers)  # missing

assert has_negative([1, -1])
assert not has_negative([1, 2])
---
def safe_divide(a, b):
    if b == 0:
        return None  # missing
    return a / b

assert safe_divide(6, 3) == 2
assert safe_divide(6, 0) is None
---
stock = {"apple": 3, "pear": 0}
available = []
for fruit, amount in stock.items():
    if amount > 0:
        available.append(fruit)  # missing
assert available == ["apple"]
---
def to_minutes(hours):
    return hours * 60  # missing

assert to_minutes(2) == 120
---
def strip_all(lines):
    cleaned = []
    for line in lines:
        cleaned.append(line.strip())  # missing
    return cleaned

assert strip_all([" a ", "b "]) == ["a", "b"]
---
def reverse_pairs(pairs):
    result = []
    for left, right in pairs:
        result.append((right, left))  # missing
    return result

assert reverse_pairs([(1, 2), (3, 4)]) == [(2, 1), (4, 3)]
---
class Basket:
    def __init__(self):
        self.items = []  # missing

    def add(self, item):
        self.items.append(item)

basket = Basket()
basket.add("egg")
assert basket.items == ["egg"]
---
def factorial_of(n):
    product = 1  # missing
    for i in range(1, n + 1):
        product *= i
    return product

assert factorial_of(4) == 24
---
def starts_with_capital(word):
    return word[0].isupper()  # missing

assert starts_with_capital("Paris")
assert not starts_with_capital("paris")
---
def column(rows, index):
    values = []
    for row in rows:
        values.append(row[index])  # missing
    return values

assert column([[1, 2], [3, 4]], 1) == [2, 4]
---
def first_even(numbers):
    for number in numbers:
        if number % 2 == 0:  # missing
            return number
    return None

assert first_even([3, 5, 8, 10]) == 8
---
def discount(price, percent):
    reduction = price * percent / 100  # missing
    return price - reduction

assert discount(200, 10) == 180
---
def unique_letters(word):
    seen = set()
    for letter in word:
        seen.add(letter)  # missing
    return len(seen)

assert unique_letters("banana") == 3
---
def parse_pair(text):
    key, value = text.split("=")  # missing
    return key, value

assert parse_pair("color=red") == ("color", "red")
---
def depth_sum(tree):
    total = tree["value"]
    for child in tree["children"]:
        total += depth_sum(child)  # missing
    return total

leaf = {"value": 2, "children": []}
assert depth_sum({"value": 1, "children": [leaf, leaf]}) == 5
---
def power_of(base, exponent):
    if exponent == 0:
        return 1  # missing
    return base * power_of(base, exponent - 1)

assert power_of(2, 5) == 32
---
def every_second(items):
    return items[::2]  # missing

assert every_second([1, 2, 3, 4, 5]) == [1, 3, 5]
---
def merge_totals(first, second):
    merged = dict(first)
    for key, amount in second.items():
        merged[key] = merged.get(key, 0) + amount  # missing
    return merged

assert merge_totals({"a": 1}, {"a": 2, "b": 3}) == {"a": 3, "b": 3}
---
def is_weekend(day):
    return day in ("Saturday", "Sunday")  # missing

assert is_weekend("Sunday")
assert is_weekend("Saturday")
assert not is_weekend("Monday")
---
def clean_number(text):
    try:
        return int(text)  # missing
    except ValueError:
        return None

assert clean_number("42") == 42
assert clean_number("x") is None
---
def highest(scores):
    top = scores[0]
    for score in scores:
        if score > top:
            top = score  # missing
    return top

assert highest([4, 9, 2]) == 9
---
def fill(size, value):
    cells = []
    while len(cells) < size:
        cells.append(value)  # missing
        if len(cells) > 1000:
            break
    return cells

assert fill(3, "x") == ["x", "x", "x"]
---
text = "one two three"
lengths = []
for word in text.split():
    lengths.append(len(word))  # missing
assert lengths == [3, 3, 5]
"""


def snippet_of(program: str) -> Snippet:
    """Cuts a program at its mark."""
    lines = program.strip().split("\n")
    (at,) = (i for i, line in enumerate(lines) if line.endswith(MARK))
    before, after = "\n".join([*lines[:at], ""]), "\n".join(["", *lines[at + 1 :], ""])
    return Snippet(before, lines[at].removesuffix(MARK), after)


SNIPPETS: tuple[Snippet, ...] = tuple(snippet_of(program) for program in PROGRAMS.split("\n---\n"))
