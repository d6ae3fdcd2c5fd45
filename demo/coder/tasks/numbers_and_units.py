"""More tasks on numbers: recursion, units, number theory and geometry."""

from demo.coder.tasks.task import Task

NUMBERS_AND_UNITS = (
    Task(
        asks=(
            "compute the factorial recursively",
            "write a recursive factorial",
            "calculate a factorial with recursion",
        ),
        held_out="find the factorial recursively",
        solutions=(
            """
def factorial(n):
    if n <= 1:
        return 1
    return n * factorial(n - 1)
""",
        ),
        checks=("factorial(5) == 120", "factorial(0) == 1"),
    ),
    Task(
        asks=(
            "compute Fibonacci numbers recursively",
            "write a recursive Fibonacci",
            "calculate Fibonacci with recursion",
            "compute fibonacci with memoization",
        ),
        held_out="find Fibonacci numbers recursively",
        solutions=(
            """
from functools import lru_cache

@lru_cache(maxsize=None)
def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)
""",
        ),
        checks=("fibonacci(10) == 55", "fibonacci(1) == 1"),
    ),
    Task(
        asks=(
            "convert Fahrenheit to Celsius",
            "convert a temperature from Fahrenheit to Celsius",
            "turn Fahrenheit into Celsius",
        ),
        held_out="convert temperatures from Fahrenheit to Celsius",
        solutions=(
            """
def fahrenheit_to_celsius(fahrenheit):
    return (fahrenheit - 32) * 5 / 9
""",
        ),
        checks=("fahrenheit_to_celsius(212) == 100.0", "fahrenheit_to_celsius(32) == 0"),
        hints={"fahrenheit": "float"},
    ),
    Task(
        asks=(
            "calculate the body mass index",
            "compute the BMI",
            "calculate BMI from weight and height",
            "make a BMI calculator",
        ),
        held_out="calculate the BMI of a person",
        solutions=(
            """
def bmi(weight_kg, height_m):
    return weight_kg / height_m ** 2
""",
        ),
        checks=("round(bmi(70, 1.75), 1) == 22.9",),
        hints={"weight_kg": "float"},
    ),
    Task(
        asks=("find the prime factors of a number", "factorize a number", "compute the prime factorization"),
        held_out="get the prime factors of a number",
        solutions=(
            """
def prime_factors(n):
    factors = []
    divisor = 2
    while n > 1:
        while n % divisor == 0:
            factors.append(divisor)
            n //= divisor
        divisor += 1
    return factors
""",
        ),
        checks=("prime_factors(60) == [2, 2, 3, 5]", "prime_factors(1) == []"),
    ),
    Task(
        asks=("find the divisors of a number", "list all divisors of a number", "get the factors of a number"),
        held_out="find all divisors of an integer",
        solutions=(
            """
def divisors(n):
    return [i for i in range(1, n + 1) if n % i == 0]
""",
        ),
        checks=("divisors(12) == [1, 2, 3, 4, 6, 12]",),
    ),
    Task(
        asks=("check if a number is perfect", "test for perfect numbers", "determine if a number is a perfect number"),
        held_out="check whether a number is perfect",
        solutions=(
            """
def is_perfect(n):
    return n > 1 and sum(i for i in range(1, n) if n % i == 0) == n
""",
        ),
        checks=("is_perfect(28) == True", "is_perfect(12) == False"),
    ),
    Task(
        asks=("check if a number is an Armstrong number", "test for Armstrong numbers", "detect armstrong numbers"),
        held_out="check whether a number is an Armstrong number",
        solutions=(
            """
def is_armstrong(n):
    digits = str(n)
    return n == sum(int(digit) ** len(digits) for digit in digits)
""",
        ),
        checks=("is_armstrong(153) == True", "is_armstrong(123) == False"),
    ),
    Task(
        asks=("compute the Collatz sequence", "generate the Collatz sequence", "list the Collatz steps of a number"),
        held_out="calculate the Collatz sequence of a number",
        solutions=(
            """
def collatz(n):
    sequence = [n]
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        sequence.append(n)
    return sequence
""",
        ),
        checks=("collatz(6) == [6, 3, 10, 5, 16, 8, 4, 2, 1]", "collatz(1) == [1]"),
    ),
    Task(
        asks=("check if a number is a power of two", "test for powers of two", "determine if n is a power of 2"),
        held_out="check whether a number is a power of two",
        solutions=(
            """
def is_power_of_two(n):
    return n > 0 and n & (n - 1) == 0
""",
        ),
        checks=("is_power_of_two(16) == True", "is_power_of_two(12) == False"),
    ),
    Task(
        asks=("reverse the digits of a number", "reverse an integer", "reverse a number"),
        held_out="reverse the digits of an integer",
        solutions=(
            """
def reverse_number(n):
    digits = int(str(abs(n))[::-1])
    return -digits if n < 0 else digits
""",
        ),
        checks=("reverse_number(123) == 321", "reverse_number(-45) == -54"),
    ),
    Task(
        asks=(
            "convert seconds to hours, minutes and seconds",
            "convert seconds to a time",
            "format seconds as hours and minutes",
        ),
        held_out="convert a number of seconds to hours and minutes",
        solutions=(
            """
def format_seconds(seconds):
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"
""",
        ),
        checks=("format_seconds(3661) == '01:01:01'", "format_seconds(59) == '00:00:59'"),
    ),
    Task(
        asks=(
            "calculate the distance between two points",
            "compute the Euclidean distance",
            "find the distance of two points",
        ),
        held_out="compute the distance between two points",
        solutions=(
            """
import math

def distance(first, second):
    return math.hypot(second[0] - first[0], second[1] - first[1])
""",
        ),
        checks=("distance((0, 0), (3, 4)) == 5.0",),
        hints={"first": "tuple[float, float]", "second": "tuple[float, float]"},
    ),
    Task(
        asks=("clamp a number between two values", "limit a number to a range", "clamp a value"),
        held_out="clamp a number to a range",
        solutions=(
            """
def clamp(value, low, high):
    return max(low, min(value, high))
""",
        ),
        checks=("clamp(15, 0, 10) == 10", "clamp(-1, 0, 10) == 0", "clamp(5, 0, 10) == 5"),
    ),
    Task(
        asks=("convert a number to hexadecimal", "convert an integer to hex", "get the hex representation of a number"),
        held_out="convert a decimal number to hex",
        solutions=(
            """
def to_hex(n):
    return format(n, "x")
""",
        ),
        checks=("to_hex(255) == 'ff'",),
    ),
    Task(
        asks=("convert a number to any base", "convert an integer to another base", "change the base of a number"),
        held_out="convert a number to a given base",
        solutions=(
            """
def to_base(n, base):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    result = ""
    while n:
        n, remainder = divmod(n, base)
        result = digits[remainder] + result
    return result or "0"
""",
        ),
        checks=("to_base(255, 16) == 'ff'", "to_base(0, 2) == '0'"),
    ),
    Task(
        asks=("roll a dice", "simulate a dice roll", "roll a six-sided die", "simulate rolling dice"),
        held_out="simulate the roll of a dice",
        solutions=(
            """
import random

def roll_dice(sides=6):
    return random.randint(1, sides)
""",
        ),
        checks=("1 <= roll_dice() <= 6", "roll_dice(1) == 1"),
        example=False,
    ),
    Task(
        asks=(
            "solve a quadratic equation",
            "find the roots of a quadratic equation",
            "compute the roots of a quadratic",
        ),
        held_out="solve quadratic equations",
        solutions=(
            """
import math

def solve_quadratic(a, b, c):
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return None
    root = math.sqrt(discriminant)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)
""",
        ),
        checks=("solve_quadratic(1, -3, 2) == (1.0, 2.0)", "solve_quadratic(1, 0, 1) == None"),
        hints={"a": "float", "b": "float", "c": "float"},
    ),
    Task(
        asks=(
            "compute a square root with Newton's method",
            "calculate a square root",
            "find the square root of a number",
        ),
        held_out="compute the square root of a number",
        solutions=(
            """
def square_root(number):
    guess = number / 2 or 1.0
    for _ in range(50):
        guess = (guess + number / guess) / 2
    return guess
""",
        ),
        checks=("round(square_root(2), 4) == 1.4142", "round(square_root(9), 4) == 3"),
        hints={"number": "float"},
    ),
    Task(
        asks=(
            "calculate the standard deviation",
            "compute the standard deviation of a list",
            "find the standard deviation",
        ),
        held_out="calculate the standard deviation of a list",
        solutions=(
            """
def standard_deviation(numbers):
    mean = sum(numbers) / len(numbers)
    variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
    return variance ** 0.5
""",
        ),
        checks=("standard_deviation([2, 4, 4, 4, 5, 5, 7, 9]) == 2.0",),
        hints={"numbers": "list[float]"},
    ),
    Task(
        asks=("solve the tower of Hanoi", "solve the towers of hanoi", "implement the Tower of Hanoi"),
        held_out="play the tower of Hanoi",
        solutions=(
            """
def hanoi(n, source="A", target="C", spare="B"):
    if n == 0:
        return []
    before = hanoi(n - 1, source, spare, target)
    after = hanoi(n - 1, spare, target, source)
    return before + [(source, target)] + after
""",
        ),
        checks=("hanoi(2) == [('A', 'B'), ('A', 'C'), ('B', 'C')]", "len(hanoi(5)) == 31"),
    ),
)
