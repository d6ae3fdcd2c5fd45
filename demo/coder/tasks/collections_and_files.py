"""Tasks on dictionaries and files, and the first program of all."""

from demo.coder.tasks.task import Task

COLLECTIONS_AND_FILES = (
    Task(
        asks=("print hello world", "say hello world", "write hello world", "output Hello, World!"),
        held_out="show Hello World",
        intro="Here is the classic first program:",
        solutions=(
            """
print("Hello, World!")
""",
        ),
        checks=("True",),
        example=False,
    ),
    Task(
        asks=("merge two dictionaries", "merge dicts", "combine two dictionaries", "join two dicts into one"),
        held_out="merge two dicts",
        solutions=(
            """
def merge_dicts(first, second):
    return {**first, **second}
""",
            """
def merge_dicts(first, second):
    result = dict(first)
    result.update(second)
    return result
""",
        ),
        checks=("merge_dicts({'a': 1}, {'b': 2}) == {'a': 1, 'b': 2}", "merge_dicts({}, {}) == {}"),
    ),
    Task(
        asks=("invert a dictionary", "swap the keys and values of a dictionary", "reverse a dictionary"),
        held_out="swap keys and values in a dictionary",
        solutions=(
            """
def invert_dict(mapping):
    return {value: key for key, value in mapping.items()}
""",
        ),
        checks=("invert_dict({'a': 1, 'b': 2}) == {1: 'a', 2: 'b'}",),
    ),
    Task(
        asks=("sort a dictionary by value", "sort a dict by its values", "order a dictionary by value"),
        held_out="sort a dictionary by its values",
        solutions=(
            """
def sort_by_value(mapping):
    return dict(sorted(mapping.items(), key=lambda item: item[1]))
""",
        ),
        checks=("list(sort_by_value({'a': 3, 'b': 1})) == ['b', 'a']",),
    ),
    Task(
        asks=("create a dictionary from two lists", "zip two lists into a dictionary", "convert two lists to a dict"),
        held_out="make a dictionary from two lists",
        solutions=(
            """
def lists_to_dict(keys, values):
    return dict(zip(keys, values))
""",
        ),
        checks=("lists_to_dict(['a', 'b'], [1, 2]) == {'a': 1, 'b': 2}",),
    ),
    Task(
        asks=(
            "read a file",
            "read a text file",
            "open and read a file",
            "get the content of a file",
            "load a text file",
        ),
        held_out="read the contents of a file",
        solutions=(
            """
def read_file(path):
    with open(path, encoding="utf-8") as file:
        return file.read()
""",
        ),
        setup="with open('note.txt', 'w') as file:\n    file.write('one two')",
        checks=("read_file('note.txt') == 'one two'",),
        example=False,
    ),
    Task(
        asks=("write text to a file", "save a string to a file", "write to a file", "write a text file"),
        held_out="save text to a file",
        solutions=(
            """
def write_file(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
""",
        ),
        setup="write_file('note.txt', 'hello')",
        checks=("open('note.txt').read() == 'hello'",),
        example=False,
    ),
    Task(
        asks=("count the lines in a file", "count lines of a text file", "find the number of lines in a file"),
        held_out="count the number of lines in a file",
        solutions=(
            """
def count_lines(path):
    with open(path, encoding="utf-8") as file:
        return sum(1 for line in file)
""",
        ),
        setup="with open('note.txt', 'w') as file:\n    file.write('one\\ntwo\\n')",
        checks=("count_lines('note.txt') == 2",),
        example=False,
    ),
    Task(
        asks=("read a JSON file", "load a json file", "parse a JSON file", "read json data from a file"),
        held_out="load JSON from a file",
        solutions=(
            """
import json

def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)
""",
        ),
        setup="with open('data.json', 'w') as file:\n    file.write('{\"a\": [1]}')",
        checks=("read_json('data.json') == {'a': [1]}",),
        example=False,
        hints={"read_json()": "dict"},
    ),
    Task(
        asks=("read a CSV file", "load a csv file", "parse a CSV file", "read the rows of a csv file"),
        held_out="read csv data from a file",
        solutions=(
            """
import csv

def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
""",
        ),
        setup="with open('data.csv', 'w') as file:\n    file.write('a,b\\n1,2\\n')",
        checks=("read_csv('data.csv') == [{'a': '1', 'b': '2'}]",),
        example=False,
    ),
    Task(
        asks=("list the files in a folder", "list all files in a directory", "get the files of a directory"),
        held_out="list all files in a folder",
        solutions=(
            """
from pathlib import Path

def list_files(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file())
""",
        ),
        setup="open('b.txt', 'w').close()\nopen('a.txt', 'w').close()",
        checks=("{'a.txt', 'b.txt'} <= set(list_files('.'))",),
        example=False,
    ),
    Task(
        asks=("get today's date", "print the current date", "get the current date", "show the date of today"),
        held_out="print today's date",
        solutions=(
            """
from datetime import date

def today():
    return date.today().isoformat()
""",
        ),
        checks=("len(today()) == 10",),
        example=False,
    ),
)
