"""Tasks on lists."""

from demo.coder.tasks.task import Task

LISTS = (
    Task(
        asks=(
            "sort a list",
            "sort a list of numbers",
            "sort a list of integers",
            "sort an array",
            "sort numbers",
            "sort a list in ascending order",
            "sort the elements of a list",
            "order a list from smallest to largest",
        ),
        held_out="sort the numbers in a list",
        solutions=(
            """
def sort_list(items):
    return sorted(items)
""",
            """
def sort_list(items):
    result = list(items)
    result.sort()
    return result
""",
        ),
        checks=("sort_list([3, 1, 2]) == [1, 2, 3]", "sort_list([]) == []", "sort_list(['b', 'a']) == ['a', 'b']"),
    ),
    Task(
        asks=(
            "sort a list in descending order",
            "sort a list in reverse order",
            "sort numbers from largest to smallest",
            "sort an array in descending order",
            "sort a list from high to low",
        ),
        held_out="sort a list of numbers in descending order",
        solutions=(
            """
def sort_descending(items):
    return sorted(items, reverse=True)
""",
        ),
        checks=("sort_descending([3, 1, 2]) == [3, 2, 1]", "sort_descending([]) == []"),
    ),
    Task(
        asks=(
            "sort a list of strings by length",
            "sort words by length",
            "sort strings by their length",
            "order words from shortest to longest",
        ),
        held_out="sort a list of words by length",
        solutions=(
            """
def sort_by_length(words):
    return sorted(words, key=len)
""",
        ),
        checks=("sort_by_length(['pear', 'fig', 'banana']) == ['fig', 'pear', 'banana']",),
    ),
    Task(
        asks=(
            "reverse a list",
            "reverse an array",
            "reverse the order of a list",
            "turn a list around",
            "return a list in reverse",
        ),
        held_out="reverse the elements of a list",
        solutions=(
            """
def reverse_list(items):
    return items[::-1]
""",
            """
def reverse_list(items):
    return list(reversed(items))
""",
        ),
        checks=("reverse_list([1, 2, 3]) == [3, 2, 1]", "reverse_list([]) == []"),
    ),
    Task(
        asks=(
            "find the maximum of a list",
            "find the largest number in a list",
            "find the max value in a list",
            "get the biggest element of a list",
            "return the largest element in an array",
            "find the maximum",
        ),
        held_out="find the biggest number in a list",
        solutions=(
            """
def find_max(numbers):
    largest = numbers[0]
    for number in numbers[1:]:
        if number > largest:
            largest = number
    return largest
""",
            """
def find_max(numbers):
    return max(numbers)
""",
        ),
        checks=("find_max([4, 9, 2]) == 9", "find_max([-3, -1]) == -1"),
    ),
    Task(
        asks=(
            "find the minimum of a list",
            "find the smallest number in a list",
            "find the min value in a list",
            "get the lowest element of a list",
            "return the smallest element in an array",
        ),
        held_out="find the lowest number in a list",
        solutions=(
            """
def find_min(numbers):
    smallest = numbers[0]
    for number in numbers[1:]:
        if number < smallest:
            smallest = number
    return smallest
""",
            """
def find_min(numbers):
    return min(numbers)
""",
        ),
        checks=("find_min([4, 9, 2]) == 2", "find_min([-3, -1]) == -3"),
    ),
    Task(
        asks=(
            "find the second largest number in a list",
            "get the second largest element of a list",
            "find the second biggest number",
            "return the second highest value in a list",
        ),
        held_out="find the second largest element in an array",
        solutions=(
            """
def second_largest(numbers):
    return sorted(set(numbers))[-2]
""",
        ),
        checks=("second_largest([4, 9, 2]) == 4", "second_largest([5, 5, 1]) == 1"),
    ),
    Task(
        asks=(
            "sum a list of numbers",
            "add up the numbers in a list",
            "calculate the sum of a list",
            "find the sum of all elements in a list",
            "compute the total of a list",
            "sum the elements of an array",
        ),
        held_out="calculate the sum of all numbers in a list",
        solutions=(
            """
def sum_list(numbers):
    total = 0
    for number in numbers:
        total += number
    return total
""",
            """
def sum_list(numbers):
    return sum(numbers)
""",
        ),
        checks=("sum_list([1, 2, 3]) == 6", "sum_list([]) == 0"),
    ),
    Task(
        asks=(
            "multiply all numbers in a list",
            "calculate the product of a list",
            "compute the product of all elements in a list",
            "multiply the elements of a list",
        ),
        held_out="find the product of the numbers in a list",
        solutions=(
            """
def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result
""",
        ),
        checks=("product([2, 3, 4]) == 24", "product([]) == 1"),
    ),
    Task(
        asks=(
            "calculate the average of a list",
            "find the average of a list of numbers",
            "compute the mean of a list",
            "calculate the mean",
            "get the average of some numbers",
        ),
        held_out="calculate the average of the numbers in a list",
        solutions=(
            """
def average(numbers):
    return sum(numbers) / len(numbers)
""",
        ),
        checks=("average([1, 2, 3]) == 2.0", "average([5]) == 5"),
    ),
    Task(
        asks=(
            "find the median of a list",
            "calculate the median",
            "compute the median of a list of numbers",
            "get the median value of a list",
        ),
        held_out="calculate the median of a list",
        solutions=(
            """
def median(numbers):
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
""",
        ),
        checks=("median([5, 1, 3]) == 3", "median([4, 1, 3, 2]) == 2.5"),
    ),
    Task(
        asks=(
            "remove duplicates from a list",
            "remove duplicate elements from a list",
            "delete repeated items in a list",
            "get the unique elements of a list",
            "keep only unique values of a list",
        ),
        held_out="remove duplicate values from a list",
        solutions=(
            """
def remove_duplicates(items):
    result = []
    for item in items:
        if item not in result:
            result.append(item)
    return result
""",
            """
def remove_duplicates(items):
    return list(dict.fromkeys(items))
""",
        ),
        checks=("remove_duplicates([1, 2, 2, 3, 1]) == [1, 2, 3]", "remove_duplicates([]) == []"),
    ),
    Task(
        asks=(
            "flatten a list",
            "flatten a nested list",
            "flatten a list of lists",
            "turn nested lists into one flat list",
        ),
        held_out="flatten nested lists",
        solutions=(
            """
def flatten(items):
    result = []
    for item in items:
        if isinstance(item, list):
            result.extend(flatten(item))
        else:
            result.append(item)
    return result
""",
        ),
        checks=("flatten([1, [2, [3, 4]]]) == [1, 2, 3, 4]", "flatten([]) == []"),
    ),
    Task(
        asks=(
            "count how often an item occurs in a list",
            "count the occurrences of a value in a list",
            "count occurrences of an element in a list",
            "find how many times a value appears in a list",
        ),
        held_out="count how many times an item occurs in a list",
        solutions=(
            """
def count_occurrences(items, value):
    return sum(1 for item in items if item == value)
""",
            """
def count_occurrences(items, value):
    return items.count(value)
""",
        ),
        checks=("count_occurrences([1, 2, 1], 1) == 2", "count_occurrences([], 1) == 0"),
    ),
    Task(
        asks=(
            "filter the even numbers of a list",
            "get the even numbers from a list",
            "find all even numbers in a list",
            "keep only even numbers in a list",
            "return the even numbers",
        ),
        held_out="get all even numbers in a list",
        solutions=(
            """
def even_numbers(numbers):
    return [number for number in numbers if number % 2 == 0]
""",
        ),
        checks=("even_numbers([1, 2, 3, 4]) == [2, 4]", "even_numbers([1]) == []"),
    ),
    Task(
        asks=(
            "square every number in a list",
            "compute the squares of a list",
            "get the square of each number in a list",
            "create a list of squares",
        ),
        held_out="square all numbers in a list",
        solutions=(
            """
def squares(numbers):
    return [number ** 2 for number in numbers]
""",
        ),
        checks=("squares([1, 2, 3]) == [1, 4, 9]", "squares([]) == []"),
    ),
    Task(
        asks=(
            "split a list into chunks",
            "split a list into parts of equal size",
            "divide a list into chunks of size n",
            "chunk a list",
        ),
        held_out="divide a list into chunks",
        solutions=(
            """
def chunks(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]
""",
        ),
        checks=("chunks([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]", "chunks([], 3) == []"),
    ),
    Task(
        asks=(
            "find the common elements of two lists",
            "find the intersection of two lists",
            "get the items that two lists share",
            "return the elements in both lists",
        ),
        held_out="find common elements in two lists",
        solutions=(
            """
def common_elements(first, second):
    return [item for item in first if item in second]
""",
        ),
        checks=("common_elements([1, 2, 3], [2, 3, 4]) == [2, 3]", "common_elements([1], []) == []"),
    ),
    Task(
        asks=(
            "transpose a matrix",
            "swap the rows and columns of a matrix",
            "compute the transpose of a matrix",
        ),
        held_out="transpose a 2D list",
        solutions=(
            """
def transpose(matrix):
    return [list(row) for row in zip(*matrix)]
""",
        ),
        checks=("transpose([[1, 2], [3, 4]]) == [[1, 3], [2, 4]]", "transpose([[1, 2, 3]]) == [[1], [2], [3]]"),
    ),
    Task(
        asks=(
            "check if a list is sorted",
            "test whether a list is sorted",
            "check whether a list is in order",
        ),
        held_out="check if an array is sorted",
        solutions=(
            """
def is_sorted(items):
    return all(a <= b for a, b in zip(items, items[1:]))
""",
        ),
        checks=("is_sorted([1, 2, 3]) == True", "is_sorted([2, 1]) == False", "is_sorted([]) == True"),
    ),
)
