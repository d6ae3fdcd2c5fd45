"""Tasks on files, dates and dictionaries that classic programs begin or end with."""

from demo.coder.tasks.task import Task

DATA_FILES = (
    Task(
        asks=("write a JSON file", "save data as JSON", "save a dictionary to a json file", "dump data to a JSON file"),
        held_out="write data to a JSON file",
        solutions=(
            """
import json

def write_json(path, data):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
""",
        ),
        setup="import json\nwrite_json('data.json', {'a': [1]})",
        checks=("json.load(open('data.json')) == {'a': [1]}",),
        example=False,
        hints={"data": "dict"},
    ),
    Task(
        asks=("write a CSV file", "save rows to a csv file", "write rows to a CSV file", "export data as csv"),
        held_out="write data to a CSV file",
        solutions=(
            """
import csv

def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
""",
        ),
        setup="write_csv('data.csv', [['a', 'b'], ['c', 'd']])",
        checks=("open('data.csv').read().split() == ['a,b', 'c,d']",),
        example=False,
    ),
    Task(
        asks=("append text to a file", "add a line to a file", "append a line to a text file"),
        held_out="append a string to a file",
        solutions=(
            """
def append_line(path, line):
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\\n")
""",
        ),
        setup="append_line('log.txt', 'one')\nappend_line('log.txt', 'two')",
        checks=("open('log.txt').read() == 'one\\ntwo\\n'",),
        example=False,
    ),
    Task(
        asks=("check if a file exists", "test whether a file exists", "find out if a file exists"),
        held_out="check whether a file exists",
        solutions=(
            """
from pathlib import Path

def file_exists(path):
    return Path(path).is_file()
""",
        ),
        setup="open('note.txt', 'w').close()",
        checks=("file_exists('note.txt') == True", "file_exists('missing.txt') == False"),
        example=False,
    ),
    Task(
        asks=("parse a date", "parse a date string", "convert a string to a date", "read a date from a string"),
        held_out="turn a string into a date",
        solutions=(
            """
from datetime import datetime

def parse_date(text):
    return datetime.strptime(text, "%Y-%m-%d")
""",
        ),
        checks=("parse_date('2024-02-29').month == 2", "parse_date('2024-02-29').day == 29"),
        hints={"parse_date()": "datetime"},
    ),
    Task(
        asks=(
            "count the days between two dates",
            "calculate the difference between two dates",
            "find the days between dates",
        ),
        held_out="calculate the number of days between two dates",
        solutions=(
            """
from datetime import date

def days_between(first, second):
    return abs((date.fromisoformat(second) - date.fromisoformat(first)).days)
""",
        ),
        checks=("days_between('2024-01-01', '2024-03-01') == 60",),
    ),
    Task(
        asks=("get the weekday of a date", "find the day of the week", "get the day of the week of a date"),
        held_out="find the weekday of a date",
        solutions=(
            """
from datetime import date

def weekday(text):
    return date.fromisoformat(text).strftime("%A")
""",
        ),
        checks=("weekday('2024-01-01') == 'Monday'",),
    ),
    Task(
        asks=(
            "filter a dictionary by value",
            "keep the dictionary entries above a limit",
            "filter a dict by its values",
        ),
        held_out="filter the entries of a dictionary by value",
        solutions=(
            """
def filter_dict(mapping, limit):
    return {key: value for key, value in mapping.items() if value > limit}
""",
        ),
        checks=("filter_dict({'a': 1, 'b': 5}, 3) == {'b': 5}",),
    ),
    Task(
        asks=("sort a list of dictionaries by a key", "sort dictionaries by key", "order a list of dicts by a field"),
        held_out="sort a list of dicts by a key",
        solutions=(
            """
def sort_by_key(rows, key):
    return sorted(rows, key=lambda row: row[key])
""",
        ),
        checks=("sort_by_key([{'age': 40}, {'age': 25}], 'age') == [{'age': 25}, {'age': 40}]",),
    ),
    Task(
        asks=(
            "find the key with the largest value in a dictionary",
            "get the key of the maximum value",
            "find the best key of a dict",
        ),
        held_out="get the dictionary key with the largest value",
        solutions=(
            """
def key_of_max(mapping):
    return max(mapping, key=mapping.get)
""",
        ),
        checks=("key_of_max({'a': 3, 'b': 7}) == 'b'",),
    ),
    Task(
        asks=("find the most common words in a text", "get the top words of a text", "list the most frequent words"),
        held_out="find the most frequent words of a text",
        solutions=(
            """
from collections import Counter

def top_words(text, n):
    return [word for word, _ in Counter(text.lower().split()).most_common(n)]
""",
        ),
        checks=("top_words('a b a c a b', 2) == ['a', 'b']",),
    ),
)
