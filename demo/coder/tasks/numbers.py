"""Tasks on numbers."""

from demo.coder.tasks.task import Task

NUMBERS = (
    Task(
        asks=("add two numbers", "calculate the sum of two numbers", "return the sum of two numbers", "add a and b"),
        held_out="compute the sum of two numbers",
        solutions=(
            """
def add(a, b):
    return a + b
""",
        ),
        checks=("add(2, 3) == 5", "add(-1, 1) == 0"),
    ),
    Task(
        asks=(
            "calculate the factorial of a number",
            "compute the factorial",
            "find the factorial of a number",
            "calculate n factorial",
            "get the factorial of n",
        ),
        held_out="compute the factorial of a number",
        solutions=(
            """
def factorial(n):
    result = 1
    for i in range(2, n + 1):
        result *= i
    return result
""",
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
            "calculate the nth Fibonacci number",
            "compute Fibonacci numbers",
            "find the nth Fibonacci number",
            "calculate the fibonacci of n",
            "get a Fibonacci number",
        ),
        held_out="compute the nth Fibonacci number",
        solutions=(
            """
def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
""",
        ),
        checks=("fibonacci(10) == 55", "fibonacci(0) == 0", "fibonacci(1) == 1"),
    ),
    Task(
        asks=(
            "generate the Fibonacci sequence",
            "list the first n Fibonacci numbers",
            "print the Fibonacci series",
            "generate the first n fibonacci numbers",
        ),
        held_out="print the Fibonacci sequence",
        solutions=(
            """
def fibonacci_sequence(n):
    numbers = []
    a, b = 0, 1
    for _ in range(n):
        numbers.append(a)
        a, b = b, a + b
    return numbers
""",
        ),
        checks=("fibonacci_sequence(6) == [0, 1, 1, 2, 3, 5]", "fibonacci_sequence(0) == []"),
    ),
    Task(
        asks=(
            "check if a number is prime",
            "test whether a number is prime",
            "check for prime numbers",
            "determine if n is a prime number",
            "find out if a number is prime",
        ),
        held_out="check whether a number is prime",
        solutions=(
            """
def is_prime(n):
    if n < 2:
        return False
    for i in range(2, int(n ** 0.5) + 1):
        if n % i == 0:
            return False
    return True
""",
        ),
        checks=("is_prime(7) == True", "is_prime(9) == False", "is_prime(1) == False", "is_prime(2) == True"),
    ),
    Task(
        asks=(
            "find all prime numbers up to n",
            "list the primes up to a limit",
            "generate prime numbers",
            "print all primes below n",
            "implement the sieve of Eratosthenes",
        ),
        held_out="list all prime numbers up to n",
        solutions=(
            """
def primes_up_to(n):
    sieve = [True] * (n + 1)
    primes = []
    for i in range(2, n + 1):
        if sieve[i]:
            primes.append(i)
            for j in range(i * i, n + 1, i):
                sieve[j] = False
    return primes
""",
        ),
        checks=("primes_up_to(20) == [2, 3, 5, 7, 11, 13, 17, 19]", "primes_up_to(1) == []"),
    ),
    Task(
        asks=(
            "find the greatest common divisor of two numbers",
            "compute the gcd of two numbers",
            "calculate the greatest common divisor",
            "find the gcd",
        ),
        held_out="find the gcd of two numbers",
        solutions=(
            """
def gcd(a, b):
    while b:
        a, b = b, a % b
    return a
""",
        ),
        checks=("gcd(12, 18) == 6", "gcd(7, 3) == 1"),
    ),
    Task(
        asks=(
            "find the least common multiple of two numbers",
            "compute the lcm of two numbers",
            "calculate the least common multiple",
            "find the lcm",
        ),
        held_out="find the lcm of two numbers",
        solutions=(
            """
import math

def lcm(a, b):
    return a * b // math.gcd(a, b)
""",
        ),
        checks=("lcm(4, 6) == 12", "lcm(3, 5) == 15"),
    ),
    Task(
        asks=(
            "check if a number is even",
            "test whether a number is even",
            "check if a number is even or odd",
            "determine if a number is even",
        ),
        held_out="check whether a number is even",
        solutions=(
            """
def is_even(n):
    return n % 2 == 0
""",
        ),
        checks=("is_even(4) == True", "is_even(7) == False"),
    ),
    Task(
        asks=(
            "calculate the power of a number",
            "raise a number to a power",
            "compute x to the power of n",
            "calculate an exponent",
        ),
        held_out="compute the power of a number",
        solutions=(
            """
def power(base, exponent):
    result = 1
    for _ in range(exponent):
        result *= base
    return result
""",
        ),
        checks=("power(2, 10) == 1024", "power(5, 0) == 1"),
    ),
    Task(
        asks=(
            "calculate the sum of the digits of a number",
            "sum the digits of a number",
            "add the digits of an integer",
            "compute the digit sum",
        ),
        held_out="find the sum of the digits of a number",
        solutions=(
            """
def sum_of_digits(n):
    return sum(int(digit) for digit in str(abs(n)))
""",
        ),
        checks=("sum_of_digits(1234) == 10", "sum_of_digits(0) == 0"),
    ),
    Task(
        asks=("solve FizzBuzz", "implement FizzBuzz", "print fizzbuzz", "write fizz buzz", "play FizzBuzz"),
        held_out="generate fizzbuzz",
        solutions=(
            """
def fizzbuzz(n):
    result = []
    for i in range(1, n + 1):
        if i % 15 == 0:
            result.append("FizzBuzz")
        elif i % 3 == 0:
            result.append("Fizz")
        elif i % 5 == 0:
            result.append("Buzz")
        else:
            result.append(str(i))
    return result
""",
        ),
        checks=("fizzbuzz(5) == ['1', '2', 'Fizz', '4', 'Buzz']", "fizzbuzz(15)[-1] == 'FizzBuzz'"),
    ),
    Task(
        asks=(
            "convert Celsius to Fahrenheit",
            "convert a temperature from Celsius to Fahrenheit",
            "turn degrees Celsius into Fahrenheit",
        ),
        held_out="convert temperatures from Celsius to Fahrenheit",
        solutions=(
            """
def celsius_to_fahrenheit(celsius):
    return celsius * 9 / 5 + 32
""",
        ),
        checks=("celsius_to_fahrenheit(100) == 212.0", "celsius_to_fahrenheit(0) == 32"),
        hints={"celsius": "float"},
    ),
    Task(
        asks=(
            "check if a year is a leap year",
            "test for leap years",
            "determine whether a year is a leap year",
        ),
        held_out="check whether a year is a leap year",
        solutions=(
            """
def is_leap_year(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
""",
        ),
        checks=("is_leap_year(2024) == True", "is_leap_year(1900) == False", "is_leap_year(2000) == True"),
    ),
    Task(
        asks=(
            "convert a decimal number to binary",
            "convert an integer to binary",
            "get the binary representation of a number",
            "convert decimal to binary",
        ),
        held_out="convert a number to binary",
        solutions=(
            """
def to_binary(n):
    return bin(n)[2:]
""",
            """
def to_binary(n):
    digits = ""
    while n > 0:
        digits = str(n % 2) + digits
        n //= 2
    return digits or "0"
""",
        ),
        checks=("to_binary(10) == '1010'", "to_binary(0) == '0'"),
    ),
    Task(
        asks=(
            "convert a binary string to a decimal number",
            "convert binary to decimal",
            "convert binary to an integer",
            "parse a binary number",
        ),
        held_out="convert a binary number to decimal",
        solutions=(
            """
def to_decimal(binary):
    return int(binary, 2)
""",
        ),
        checks=("to_decimal('1010') == 10", "to_decimal('0') == 0"),
    ),
    Task(
        asks=(
            "calculate the area of a circle",
            "compute the area of a circle",
            "find the area of a circle from its radius",
        ),
        held_out="find the area of a circle",
        solutions=(
            """
import math

def circle_area(radius):
    return math.pi * radius ** 2
""",
        ),
        checks=("round(circle_area(2), 2) == 12.57", "circle_area(0) == 0"),
        hints={"radius": "float"},
    ),
    Task(
        asks=(
            "find the largest of three numbers",
            "find the maximum of three numbers",
            "return the biggest of three numbers",
        ),
        held_out="get the largest of three numbers",
        solutions=(
            """
def max_of_three(a, b, c):
    return max(a, b, c)
""",
        ),
        checks=("max_of_three(3, 9, 4) == 9",),
    ),
    Task(
        asks=("swap two variables", "swap two values", "swap two numbers", "exchange two variables"),
        held_out="swap the values of two variables",
        solutions=(
            """
def swap(a, b):
    return b, a
""",
        ),
        checks=("swap(1, 2) == (2, 1)",),
    ),
    Task(
        asks=("generate a random number", "get a random integer", "pick a random number between two values"),
        held_out="generate a random integer",
        solutions=(
            """
import random

def random_number(low, high):
    return random.randint(low, high)
""",
        ),
        checks=("1 <= random_number(1, 6) <= 6", "random_number(3, 3) == 3"),
        example=False,
    ),
    Task(
        asks=("calculate compound interest", "compute compound interest"),
        held_out="find the compound interest",
        solutions=(
            """
def compound_interest(principal, rate, years):
    return principal * (1 + rate) ** years
""",
        ),
        checks=("round(compound_interest(1000, 0.05, 2), 2) == 1102.5", "compound_interest(100, 0, 5) == 100"),
    ),
)
