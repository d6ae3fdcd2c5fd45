"""Classes, decorators, sorting by hand and walks through graphs."""

from demo.coder.tasks.task import Task

CLASSES = (
    Task(
        asks=("implement a linked list", "create a linked list class", "build a singly linked list"),
        held_out="write a linked list class",
        intro="Here is a small linked list class:",
        solutions=(
            """
class Node:
    def __init__(self, value, following=None):
        self.value = value
        self.following = following

class LinkedList:
    def __init__(self):
        self.head = None

    def push(self, value):
        self.head = Node(value, self.head)

    def to_list(self):
        values = []
        node = self.head
        while node:
            values.append(node.value)
            node = node.following
        return values
""",
        ),
        setup="numbers = LinkedList()\nnumbers.push(2)\nnumbers.push(1)",
        checks=("numbers.to_list() == [1, 2]", "LinkedList().to_list() == []"),
        example=False,
        hints={"following": '"Node | None"'},
    ),
    Task(
        asks=("implement insertion sort", "sort a list with insertion sort", "write insertion sort"),
        held_out="sort numbers with insertion sort",
        solutions=(
            """
def insertion_sort(items):
    items = list(items)
    for i in range(1, len(items)):
        item = items[i]
        while i > 0 and items[i - 1] > item:
            items[i] = items[i - 1]
            i -= 1
        items[i] = item
    return items
""",
        ),
        checks=("insertion_sort([3, 1, 2]) == [1, 2, 3]", "insertion_sort([]) == []"),
    ),
    Task(
        asks=("implement selection sort", "sort a list with selection sort", "write selection sort"),
        held_out="sort numbers with selection sort",
        solutions=(
            """
def selection_sort(items):
    items = list(items)
    for i in range(len(items)):
        smallest = min(range(i, len(items)), key=items.__getitem__)
        items[i], items[smallest] = items[smallest], items[i]
    return items
""",
        ),
        checks=("selection_sort([3, 1, 2]) == [1, 2, 3]", "selection_sort([]) == []"),
    ),
    Task(
        asks=(
            "traverse a graph breadth first",
            "implement breadth-first search",
            "implement BFS",
            "write a breadth first search",
        ),
        held_out="do a breadth-first search",
        solutions=(
            """
from collections import deque

def bfs(graph, start):
    seen = [start]
    queue = deque([start])
    while queue:
        for neighbor in graph[queue.popleft()]:
            if neighbor not in seen:
                seen.append(neighbor)
                queue.append(neighbor)
    return seen
""",
        ),
        checks=("bfs({'a': ['b', 'c'], 'b': ['d'], 'c': [], 'd': []}, 'a') == ['a', 'b', 'c', 'd']",),
        hints={"graph": "dict[str, list[str]]"},
    ),
    Task(
        asks=(
            "traverse a graph depth first",
            "implement depth-first search",
            "implement DFS",
            "write a depth first search",
        ),
        held_out="do a depth-first search",
        solutions=(
            """
def dfs(graph, node, seen=None):
    seen = seen or []
    seen.append(node)
    for neighbor in graph[node]:
        if neighbor not in seen:
            dfs(graph, neighbor, seen)
    return seen
""",
        ),
        checks=("dfs({'a': ['b', 'c'], 'b': ['d'], 'c': [], 'd': []}, 'a') == ['a', 'b', 'd', 'c']",),
        hints={"graph": "dict[str, list[str]]"},
    ),
    Task(
        asks=("create a bank account class", "write a class for a bank account", "model a bank account"),
        held_out="implement a bank account class",
        intro="Here is a small bank account class:",
        solutions=(
            """
class BankAccount:
    def __init__(self, balance=0):
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount
""",
        ),
        setup="account = BankAccount(10)\naccount.deposit(5)\naccount.withdraw(3)",
        checks=("account.balance == 12", "BankAccount().balance == 0"),
        example=False,
    ),
    Task(
        asks=(
            "create a dataclass for a point",
            "write a point class",
            "define a dataclass",
            "show a dataclass example",
        ),
        held_out="make a dataclass for points",
        intro="Here is a dataclass for points:",
        solutions=(
            """
from dataclasses import dataclass

@dataclass
class Point:
    x: float
    y: float

    def distance_to(self, other):
        return ((self.x - other.x) ** 2 + (self.y - other.y) ** 2) ** 0.5
""",
        ),
        checks=("Point(0, 0).distance_to(Point(3, 4)) == 5.0", "Point(1, 2) == Point(1, 2)"),
        example=False,
        hints={"other": '"Point"'},
    ),
    Task(
        asks=(
            "write a timer decorator",
            "measure the time of a function with a decorator",
            "create a timing decorator",
        ),
        held_out="make a timer decorator",
        intro="Here is a decorator that prints how long a function takes:",
        solutions=(
            """
import time
from functools import wraps

def timer(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        print(f"{function.__name__}: {time.perf_counter() - start:.3f} s")
        return result
    return wrapper
""",
        ),
        checks=("timer(len)([1, 2]) == 2",),
        example=False,
        hints={"function": "Callable", "timer()": "Callable"},
    ),
    Task(
        asks=("write a retry decorator", "retry a function that fails", "create a decorator that retries a function"),
        held_out="make a retry decorator",
        intro="Here is a decorator that tries a function again when it fails:",
        solutions=(
            """
from functools import wraps

def retry(times):
    def decorator(function):
        @wraps(function)
        def wrapper(*args, **kwargs):
            for attempt in range(times):
                try:
                    return function(*args, **kwargs)
                except Exception:
                    if attempt == times - 1:
                        raise
        return wrapper
    return decorator
""",
        ),
        setup="numbers = [0, 1]\ndef first():\n    return 1 / numbers.pop(0)",
        checks=("retry(2)(first)() == 1.0",),
        example=False,
        hints={"retry()": "Callable"},
    ),
    Task(
        asks=(
            "write a memoize decorator",
            "cache the results of a function",
            "implement memoization",
            "memoize a function",
        ),
        held_out="make a memoize decorator",
        intro="Here is a decorator that remembers the results of a function:",
        solutions=(
            """
from functools import wraps

def memoize(function):
    cache = {}

    @wraps(function)
    def wrapper(*args):
        if args not in cache:
            cache[args] = function(*args)
        return cache[args]
    return wrapper
""",
        ),
        setup="calls = []\ndouble = memoize(lambda x: calls.append(x) or 2 * x)",
        checks=("double(3) == 6", "double(3) == 6 and calls == [3]"),
        example=False,
        hints={"function": "Callable", "memoize()": "Callable"},
    ),
    Task(
        asks=("write a context manager", "create a context manager", "measure time with a context manager"),
        held_out="make a context manager",
        intro="Here is a context manager that measures time:",
        solutions=(
            """
import time

class Timer:
    def __enter__(self):
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error):
        self.seconds = time.perf_counter() - self.start
""",
        ),
        setup="with Timer() as watch:\n    pass",
        checks=("0 <= watch.seconds < 5",),
        example=False,
        hints={"__enter__()": '"Timer"', "error": "object", "__exit__()": "None"},
    ),
    Task(
        asks=("implement an LRU cache", "create an LRU cache class", "build a least recently used cache"),
        held_out="write an LRU cache class",
        intro="Here is a small LRU cache class:",
        solutions=(
            """
from collections import OrderedDict

class LRUCache:
    def __init__(self, capacity):
        self.capacity = capacity
        self.items = OrderedDict()

    def get(self, key):
        if key not in self.items:
            return None
        self.items.move_to_end(key)
        return self.items[key]

    def put(self, key, value):
        self.items[key] = value
        self.items.move_to_end(key)
        if len(self.items) > self.capacity:
            self.items.popitem(last=False)
""",
        ),
        setup="cache = LRUCache(2)\ncache.put('a', 1)\ncache.put('b', 2)\ncache.get('a')\ncache.put('c', 3)",
        checks=("cache.get('b') is None", "cache.get('a') == 1", "cache.get('c') == 3"),
        example=False,
        hints={"get()": "int | None"},
    ),
    Task(
        asks=(
            "create a rectangle class",
            "write a class for a rectangle",
            "compute the area of a rectangle with a class",
        ),
        held_out="implement a rectangle class",
        intro="Here is a small rectangle class:",
        solutions=(
            """
class Rectangle:
    def __init__(self, width, height):
        self.width = width
        self.height = height

    def area(self):
        return self.width * self.height

    def perimeter(self):
        return 2 * (self.width + self.height)
""",
        ),
        setup="shape = Rectangle(3, 4)",
        checks=("shape.area() == 12", "shape.perimeter() == 14"),
        example=False,
    ),
    Task(
        asks=("show an example of inheritance", "write a class that inherits from another", "create a subclass"),
        held_out="give an example of inheritance",
        intro="Here is a small example of inheritance:",
        solutions=(
            """
class Animal:
    def __init__(self, name):
        self.name = name

    def speak(self):
        return f"{self.name} makes a sound"

class Dog(Animal):
    def speak(self):
        return f"{self.name} barks"
""",
        ),
        checks=("Animal('Kit').speak() == 'Kit makes a sound'", "Dog('Rex').speak() == 'Rex barks'"),
        example=False,
    ),
    Task(
        asks=("implement a binary search tree", "create a binary search tree class", "build a binary search tree"),
        held_out="write a binary search tree class",
        intro="Here is a small binary search tree class:",
        solutions=(
            """
class Tree:
    def __init__(self, value):
        self.value = value
        self.left = None
        self.right = None

    def insert(self, value):
        side = "left" if value < self.value else "right"
        if getattr(self, side) is None:
            setattr(self, side, Tree(value))
        else:
            getattr(self, side).insert(value)

    def values(self):
        left = self.left.values() if self.left else []
        right = self.right.values() if self.right else []
        return left + [self.value] + right
""",
        ),
        setup="tree = Tree(5)\nfor number in (3, 8, 4):\n    tree.insert(number)",
        checks=("tree.values() == [3, 4, 5, 8]",),
        example=False,
    ),
)
