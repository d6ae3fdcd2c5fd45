"""Tasks on strings that need a pattern, a table or an algorithm."""

from demo.coder.tasks.task import Task

PATTERNS = (
    Task(
        asks=(
            "convert a Roman numeral to an integer",
            "convert Roman numerals to numbers",
            "parse a Roman numeral",
            "turn a roman numeral into a number",
        ),
        held_out="convert a Roman numeral to a number",
        solutions=(
            """
def roman_to_int(roman):
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    total = 0
    for c, following in zip(roman, roman[1:] + "I"):
        if values[c] < values[following]:
            total -= values[c]
        else:
            total += values[c]
    return total
""",
        ),
        checks=("roman_to_int('XIV') == 14", "roman_to_int('MCMXC') == 1990", "roman_to_int('III') == 3"),
    ),
    Task(
        asks=(
            "convert an integer to a Roman numeral",
            "convert numbers to Roman numerals",
            "write a number as a Roman numeral",
        ),
        held_out="turn an integer into a Roman numeral",
        solutions=(
            """
def int_to_roman(number):
    values = [1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1]
    symbols = ["M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"]
    roman = ""
    for value, symbol in zip(values, symbols):
        while number >= value:
            roman += symbol
            number -= value
    return roman
""",
        ),
        checks=("int_to_roman(14) == 'XIV'", "int_to_roman(1990) == 'MCMXC'"),
    ),
    Task(
        asks=(
            "compute the Levenshtein distance",
            "calculate the edit distance of two strings",
            "implement the Levenshtein distance",
            "find the edit distance between two words",
        ),
        held_out="calculate the Levenshtein distance of two words",
        solutions=(
            """
def levenshtein(first, second):
    previous = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        current = [i]
        for j, b in enumerate(second, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a != b)))
        previous = current
    return previous[-1]
""",
        ),
        checks=("levenshtein('kitten', 'sitting') == 3", "levenshtein('', 'ab') == 2"),
    ),
    Task(
        asks=(
            "find the longest common prefix",
            "find the longest common prefix of a list of strings",
            "get the common prefix of some words",
        ),
        held_out="compute the longest common prefix of words",
        solutions=(
            """
def common_prefix(words):
    prefix = words[0] if words else ""
    for word in words:
        while not word.startswith(prefix):
            prefix = prefix[:-1]
    return prefix
""",
        ),
        checks=("common_prefix(['flower', 'flow', 'flight']) == 'fl'", "common_prefix([]) == ''"),
    ),
    Task(
        asks=(
            "compress a string with run-length encoding",
            "implement run-length encoding",
            "run-length encode a string",
            "do run length encoding",
        ),
        held_out="encode a string with run-length encoding",
        solutions=(
            """
from itertools import groupby

def run_length_encode(text):
    return "".join(c + str(len(list(group))) for c, group in groupby(text))
""",
        ),
        checks=("run_length_encode('aaabcc') == 'a3b1c2'", "run_length_encode('') == ''"),
    ),
    Task(
        asks=(
            "check if an email address is valid",
            "validate an email address",
            "check an email address with a regular expression",
            "validate emails with regex",
        ),
        held_out="test whether an email address is valid",
        solutions=(
            r"""
import re

def is_valid_email(email):
    return re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", email) is not None
""",
        ),
        checks=("is_valid_email('ada@example.com') == True", "is_valid_email('ada@') == False"),
    ),
    Task(
        asks=(
            "generate a random password",
            "create a password",
            "generate a secure password",
            "make a password generator",
        ),
        held_out="create a random password",
        solutions=(
            """
import secrets
import string

def generate_password(length=12):
    characters = string.ascii_letters + string.digits
    return "".join(secrets.choice(characters) for _ in range(length))
""",
        ),
        checks=("len(generate_password(16)) == 16", "generate_password().isalnum()"),
        example=False,
    ),
    Task(
        asks=(
            "extract all numbers from a string",
            "find the numbers in a text",
            "get the digits of a string as numbers",
        ),
        held_out="extract the numbers of a text",
        solutions=(
            r"""
import re

def extract_numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]
""",
        ),
        checks=("extract_numbers('3 cats and 12 dogs') == [3, 12]", "extract_numbers('none') == []"),
    ),
    Task(
        asks=("convert snake case to camel case", "convert snake_case to camelCase", "turn snake case into camel case"),
        held_out="change snake case to camel case",
        solutions=(
            """
def to_camel_case(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
""",
        ),
        checks=("to_camel_case('read_all_lines') == 'readAllLines'", "to_camel_case('name') == 'name'"),
    ),
    Task(
        asks=("convert camel case to snake case", "convert camelCase to snake_case", "turn camel case into snake case"),
        held_out="change camel case to snake case",
        solutions=(
            """
def to_snake_case(name):
    result = ""
    for c in name:
        if c.isupper():
            result += "_"
        result += c.lower()
    return result
""",
        ),
        checks=("to_snake_case('readAllLines') == 'read_all_lines'", "to_snake_case('name') == 'name'"),
    ),
    Task(
        asks=("check if a sentence is a pangram", "test for pangrams", "check whether a text has every letter"),
        held_out="check whether a sentence is a pangram",
        solutions=(
            """
import string

def is_pangram(text):
    return set(string.ascii_lowercase) <= set(text.lower())
""",
        ),
        checks=(
            "is_pangram('The quick brown fox jumps over the lazy dog') == True",
            "is_pangram('hello') == False",
        ),
    ),
    Task(
        asks=("make a URL slug from a title", "convert a title to a slug", "slugify a string", "create a slug"),
        held_out="turn a title into a slug",
        solutions=(
            r"""
import re

def slugify(title):
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
""",
        ),
        checks=("slugify('Hello, big World!') == 'hello-big-world'",),
    ),
    Task(
        asks=("remove the vowels from a string", "delete all vowels of a text", "strip vowels from a word"),
        held_out="remove all vowels in a string",
        solutions=(
            """
def remove_vowels(text):
    return "".join(c for c in text if c.lower() not in "aeiou")
""",
        ),
        checks=("remove_vowels('Programming') == 'Prgrmmng'",),
    ),
    Task(
        asks=(
            "reverse the words in a sentence",
            "reverse the order of words",
            "put the words of a string in reverse order",
        ),
        held_out="reverse the order of the words in a sentence",
        solutions=(
            """
def reverse_words(text):
    return " ".join(reversed(text.split()))
""",
        ),
        checks=("reverse_words('one two three') == 'three two one'",),
    ),
    Task(
        asks=("replace a word in a string", "replace all occurrences of a word", "substitute a word in a text"),
        held_out="replace a word in a text",
        solutions=(
            """
def replace_word(text, old, new):
    return " ".join(new if word == old else word for word in text.split())
""",
        ),
        checks=("replace_word('a red car', 'red', 'blue') == 'a blue car'",),
    ),
    Task(
        asks=("check the winner of tic-tac-toe", "find the winner of a tic tac toe board", "check who won tic-tac-toe"),
        held_out="determine the winner of tic-tac-toe",
        solutions=(
            """
def winner(board):
    lines = [*board, *zip(*board)]
    lines.append([board[i][i] for i in range(3)])
    lines.append([board[i][2 - i] for i in range(3)])
    for a, b, c in lines:
        if a == b == c and a != " ":
            return a
    return None
""",
        ),
        checks=("winner(['XXX', 'OO ', '   ']) == 'X'", "winner(['XO ', 'OX ', '   ']) == None"),
    ),
)
