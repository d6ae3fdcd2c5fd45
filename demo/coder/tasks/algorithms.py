"""Classic algorithms and small classes."""

from demo.coder.tasks.task import Task

ALGORITHMS = (
    Task(
        asks=(
            "implement binary search",
            "do a binary search",
            "find a value with binary search",
            "write binary search",
        ),
        held_out="search a sorted list with binary search",
        solutions=(
            """
def binary_search(items, target):
    low, high = 0, len(items) - 1
    while low <= high:
        middle = (low + high) // 2
        if items[middle] == target:
            return middle
        if items[middle] < target:
            low = middle + 1
        else:
            high = middle - 1
    return -1
""",
        ),
        checks=("binary_search([1, 3, 5, 7], 5) == 2", "binary_search([1, 3], 4) == -1", "binary_search([], 1) == -1"),
    ),
    Task(
        asks=("implement linear search", "do a linear search", "find the index of a value in a list"),
        held_out="write a linear search",
        solutions=(
            """
def linear_search(items, target):
    for index, item in enumerate(items):
        if item == target:
            return index
    return -1
""",
        ),
        checks=("linear_search([4, 8, 6], 8) == 1", "linear_search([], 1) == -1"),
    ),
    Task(
        asks=("implement bubble sort", "sort a list with bubble sort", "write bubble sort", "do a bubble sort"),
        held_out="sort numbers with bubble sort",
        solutions=(
            """
def bubble_sort(items):
    items = list(items)
    for end in range(len(items) - 1, 0, -1):
        for i in range(end):
            if items[i] > items[i + 1]:
                items[i], items[i + 1] = items[i + 1], items[i]
    return items
""",
        ),
        checks=("bubble_sort([3, 1, 2]) == [1, 2, 3]", "bubble_sort([]) == []"),
    ),
    Task(
        asks=("implement quicksort", "sort a list with quicksort", "write quick sort", "implement quick sort"),
        held_out="sort numbers with quicksort",
        solutions=(
            """
def quick_sort(items):
    if len(items) <= 1:
        return items
    pivot = items[len(items) // 2]
    left = [x for x in items if x < pivot]
    middle = [x for x in items if x == pivot]
    right = [x for x in items if x > pivot]
    return quick_sort(left) + middle + quick_sort(right)
""",
        ),
        checks=("quick_sort([3, 1, 2]) == [1, 2, 3]", "quick_sort([2, 2]) == [2, 2]"),
    ),
    Task(
        asks=("implement merge sort", "sort a list with merge sort", "write merge sort", "implement mergesort"),
        held_out="sort numbers with merge sort",
        solutions=(
            """
def merge_sort(items):
    if len(items) <= 1:
        return items
    middle = len(items) // 2
    left = merge_sort(items[:middle])
    right = merge_sort(items[middle:])
    result = []
    while left and right:
        smaller = left if left[0] <= right[0] else right
        result.append(smaller.pop(0))
    return result + left + right
""",
        ),
        checks=("merge_sort([3, 1, 2]) == [1, 2, 3]", "merge_sort([]) == []"),
    ),
    Task(
        asks=("merge two sorted lists", "combine two sorted lists", "merge two sorted arrays into one"),
        held_out="merge two sorted lists into one",
        solutions=(
            """
def merge_sorted(first, second):
    return sorted(first + second)
""",
        ),
        checks=("merge_sorted([1, 4], [2, 3]) == [1, 2, 3, 4]", "merge_sorted([], []) == []"),
    ),
    Task(
        asks=("find two numbers in a list that add up to a target", "solve two sum", "solve the two sum problem"),
        held_out="find two numbers that add up to a target",
        solutions=(
            """
def two_sum(numbers, target):
    seen = {}
    for index, number in enumerate(numbers):
        if target - number in seen:
            return [seen[target - number], index]
        seen[number] = index
    return None
""",
        ),
        checks=("two_sum([2, 7, 11], 9) == [0, 1]", "two_sum([1], 5) == None"),
    ),
    Task(
        asks=("check if brackets are balanced", "check for balanced parentheses", "validate parentheses"),
        held_out="check if parentheses are balanced",
        solutions=(
            """
def is_balanced(text):
    pairs = {")": "(", "]": "[", "}": "{"}
    stack = []
    for c in text:
        if c in pairs.values():
            stack.append(c)
        elif c in pairs and (not stack or stack.pop() != pairs[c]):
            return False
    return not stack
""",
        ),
        checks=("is_balanced('([]{})') == True", "is_balanced('(]') == False", "is_balanced('(') == False"),
    ),
    Task(
        asks=("implement a stack", "create a stack class", "build a stack"),
        held_out="write a stack class",
        intro="Here is a small stack class:",
        solutions=(
            """
class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop()

    def is_empty(self):
        return not self.items
""",
        ),
        setup="stack = Stack()\nstack.push(1)\nstack.push(2)",
        checks=("stack.pop() == 2", "stack.pop() == 1", "stack.is_empty()"),
        example=False,
    ),
    Task(
        asks=("implement a queue", "create a queue class", "build a queue"),
        held_out="write a queue class",
        intro="Here is a small queue class:",
        solutions=(
            """
from collections import deque

class Queue:
    def __init__(self):
        self.items = deque()

    def enqueue(self, item):
        self.items.append(item)

    def dequeue(self):
        return self.items.popleft()

    def is_empty(self):
        return not self.items
""",
        ),
        setup="queue = Queue()\nqueue.enqueue(1)\nqueue.enqueue(2)",
        checks=("queue.dequeue() == 1", "queue.dequeue() == 2", "queue.is_empty()"),
        example=False,
    ),
)
