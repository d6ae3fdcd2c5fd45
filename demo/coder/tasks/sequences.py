"""Tasks on lists, matrices and what can be made of their elements."""

from demo.coder.tasks.task import Task

SEQUENCES = (
    Task(
        asks=("rotate a list", "rotate a list to the right", "rotate an array by k steps", "shift a list in a circle"),
        held_out="rotate the elements of a list",
        solutions=(
            """
def rotate(items, steps):
    if not items:
        return []
    steps %= len(items)
    return items[-steps:] + items[:-steps]
""",
        ),
        checks=("rotate([1, 2, 3, 4], 1) == [4, 1, 2, 3]", "rotate([1, 2], 0) == [1, 2]", "rotate([], 3) == []"),
    ),
    Task(
        asks=("multiply two matrices", "compute a matrix product", "do matrix multiplication", "multiply matrices"),
        held_out="calculate the product of two matrices",
        solutions=(
            """
def matrix_multiply(a, b):
    columns = list(zip(*b))
    return [[sum(x * y for x, y in zip(row, column)) for column in columns] for row in a]
""",
        ),
        checks=("matrix_multiply([[1, 2], [3, 4]], [[5, 6], [7, 8]]) == [[19, 22], [43, 50]]",),
    ),
    Task(
        asks=(
            "find the most common element of a list",
            "find the mode of a list",
            "get the most frequent item of a list",
            "find the most frequent value",
        ),
        held_out="find the most common value in a list",
        solutions=(
            """
from collections import Counter

def most_common(items):
    return Counter(items).most_common(1)[0][0]
""",
        ),
        checks=("most_common([1, 3, 3, 2]) == 3", "most_common([7]) == 7"),
    ),
    Task(
        asks=(
            "compute the running total of a list",
            "calculate cumulative sums",
            "get the prefix sums of a list",
            "compute a cumulative sum",
        ),
        held_out="calculate the running totals of a list",
        solutions=(
            """
def running_total(numbers):
    totals = []
    total = 0
    for number in numbers:
        total += number
        totals.append(total)
    return totals
""",
        ),
        checks=("running_total([1, 2, 3]) == [1, 3, 6]", "running_total([]) == []"),
    ),
    Task(
        asks=("move zeros to the end of a list", "move all zeroes to the end", "push the zeros to the end of an array"),
        held_out="move the zeros of a list to its end",
        solutions=(
            """
def move_zeros(numbers):
    others = [number for number in numbers if number != 0]
    return others + [0] * (len(numbers) - len(others))
""",
        ),
        checks=("move_zeros([0, 1, 0, 3]) == [1, 3, 0, 0]", "move_zeros([]) == []"),
    ),
    Task(
        asks=("merge overlapping intervals", "merge intervals", "combine overlapping ranges", "join intervals"),
        held_out="merge all overlapping intervals",
        solutions=(
            """
def merge_intervals(intervals):
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
""",
        ),
        checks=("merge_intervals([[1, 3], [2, 6], [8, 9]]) == [[1, 6], [8, 9]]", "merge_intervals([]) == []"),
    ),
    Task(
        asks=(
            "find the maximum subarray sum",
            "implement Kadane's algorithm",
            "find the largest sum of a subarray",
            "solve the maximum subarray problem",
        ),
        held_out="compute the maximum sum of a subarray",
        solutions=(
            """
def max_subarray(numbers):
    best = current = numbers[0]
    for number in numbers[1:]:
        current = max(number, current + number)
        best = max(best, current)
    return best
""",
        ),
        checks=("max_subarray([-2, 1, -3, 4, -1, 2, 1, -5, 4]) == 6", "max_subarray([-1]) == -1"),
    ),
    Task(
        asks=("interleave two lists", "alternate the elements of two lists", "zip two lists into one flat list"),
        held_out="interleave the items of two lists",
        solutions=(
            """
def interleave(first, second):
    return [item for pair in zip(first, second) for item in pair]
""",
        ),
        checks=("interleave([1, 2], [3, 4]) == [1, 3, 2, 4]", "interleave([], []) == []"),
    ),
    Task(
        asks=(
            "group words by their first letter",
            "group strings by first letter",
            "sort words into groups by initial letter",
        ),
        held_out="group a list of words by first letter",
        solutions=(
            """
def group_by_letter(words):
    groups = {}
    for word in words:
        groups.setdefault(word[0], []).append(word)
    return groups
""",
        ),
        checks=("group_by_letter(['ant', 'bee', 'ape']) == {'a': ['ant', 'ape'], 'b': ['bee']}",),
    ),
    Task(
        asks=(
            "generate all permutations of a list",
            "list the permutations",
            "compute all permutations",
            "permute a list",
        ),
        held_out="find all permutations of a list",
        solutions=(
            """
def permutations(items):
    if not items:
        return [[]]
    result = []
    for i, item in enumerate(items):
        for rest in permutations(items[:i] + items[i + 1:]):
            result.append([item] + rest)
    return result
""",
        ),
        checks=(
            "permutations([1, 2, 3]) == [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]]",
            "permutations([]) == [[]]",
        ),
    ),
    Task(
        asks=(
            "generate all subsets of a list",
            "compute the power set",
            "list all subsets of a set",
            "find all subsets",
        ),
        held_out="get every subset of a list",
        solutions=(
            """
def subsets(items):
    result = [[]]
    for item in items:
        result += [subset + [item] for subset in result]
    return result
""",
        ),
        checks=("subsets([1, 2]) == [[], [1], [2], [1, 2]]", "subsets([]) == [[]]"),
    ),
    Task(
        asks=("generate Pascal's triangle", "print Pascal's triangle", "compute the rows of Pascal's triangle"),
        held_out="create Pascal's triangle",
        solutions=(
            """
def pascal_triangle(rows):
    triangle = []
    row = [1]
    for _ in range(rows):
        triangle.append(row)
        row = [a + b for a, b in zip([0] + row, row + [0])]
    return triangle
""",
        ),
        checks=("pascal_triangle(4) == [[1], [1, 1], [1, 2, 1], [1, 3, 3, 1]]", "pascal_triangle(0) == []"),
    ),
    Task(
        asks=("find the missing number in a list", "find the missing number from 1 to n", "get the missing integer"),
        held_out="find the number that is missing in a list",
        solutions=(
            """
def missing_number(numbers):
    n = len(numbers) + 1
    return n * (n + 1) // 2 - sum(numbers)
""",
        ),
        checks=("missing_number([1, 2, 4]) == 3", "missing_number([2]) == 1"),
    ),
    Task(
        asks=("print a multiplication table", "create a multiplication table", "generate the times table"),
        held_out="make a multiplication table",
        solutions=(
            """
def multiplication_table(size):
    return [[row * column for column in range(1, size + 1)] for row in range(1, size + 1)]
""",
        ),
        checks=("multiplication_table(3) == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]",),
    ),
    Task(
        asks=("create an identity matrix", "build the identity matrix", "generate an n by n identity matrix"),
        held_out="make an identity matrix",
        solutions=(
            """
def identity_matrix(size):
    return [[1 if row == column else 0 for column in range(size)] for row in range(size)]
""",
        ),
        checks=("identity_matrix(2) == [[1, 0], [0, 1]]",),
    ),
    Task(
        asks=("find the duplicates in a list", "list the repeated elements of a list", "find duplicate values"),
        held_out="find all duplicates of a list",
        solutions=(
            """
def find_duplicates(items):
    seen = set()
    duplicates = []
    for item in items:
        if item in seen and item not in duplicates:
            duplicates.append(item)
        seen.add(item)
    return duplicates
""",
        ),
        checks=("find_duplicates([1, 2, 1, 3, 1]) == [1]", "find_duplicates([1, 2]) == []"),
    ),
    Task(
        asks=(
            "find the difference of two lists",
            "get the items of one list that are not in another",
            "subtract two lists",
        ),
        held_out="compute the difference between two lists",
        solutions=(
            """
def list_difference(first, second):
    return [item for item in first if item not in second]
""",
        ),
        checks=("list_difference([1, 2, 3], [2]) == [1, 3]", "list_difference([], [1]) == []"),
    ),
    Task(
        asks=("shuffle a list", "shuffle a deck of cards", "put a list in random order", "randomize a list"),
        held_out="shuffle the elements of a list",
        solutions=(
            """
import random

def shuffle(items):
    result = list(items)
    random.shuffle(result)
    return result
""",
        ),
        checks=("sorted(shuffle([3, 1, 2])) == [1, 2, 3]", "shuffle([]) == []"),
        example=False,
    ),
)
