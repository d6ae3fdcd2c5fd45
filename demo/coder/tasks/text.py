"""Tasks on strings."""

from demo.coder.tasks.task import Task

TEXT = (
    Task(
        asks=(
            "reverse a string",
            "reverse a word",
            "reverse text",
            "reverse the characters of a string",
            "turn a string backwards",
            "print a string backwards",
        ),
        held_out="reverse the letters of a string",
        solutions=(
            """
def reverse_string(text):
    return text[::-1]
""",
            """
def reverse_string(text):
    result = ""
    for character in text:
        result = character + result
    return result
""",
        ),
        checks=("reverse_string('hello') == 'olleh'", "reverse_string('') == ''"),
    ),
    Task(
        asks=(
            "check if a string is a palindrome",
            "check for palindromes",
            "test whether a word is a palindrome",
            "detect a palindrome",
            "find out if a string is a palindrome",
        ),
        held_out="check whether a string is a palindrome",
        solutions=(
            """
def is_palindrome(text):
    letters = [c.lower() for c in text if c.isalnum()]
    return letters == letters[::-1]
""",
        ),
        checks=("is_palindrome('Never odd or even') == True", "is_palindrome('hello') == False"),
    ),
    Task(
        asks=(
            "count the vowels in a string",
            "count vowels",
            "find the number of vowels in a string",
            "count how many vowels a word has",
        ),
        held_out="count the number of vowels in a string",
        solutions=(
            """
def count_vowels(text):
    return sum(1 for c in text.lower() if c in "aeiou")
""",
        ),
        checks=("count_vowels('Programming') == 3", "count_vowels('') == 0"),
    ),
    Task(
        asks=(
            "count the words in a string",
            "count words",
            "count the number of words in a sentence",
            "find how many words a text has",
        ),
        held_out="count the words in a sentence",
        solutions=(
            """
def count_words(text):
    return len(text.split())
""",
        ),
        checks=("count_words('the quick brown fox') == 4", "count_words('') == 0"),
    ),
    Task(
        asks=(
            "count how often each word occurs in a text",
            "count word frequencies",
            "calculate the frequency of words in a string",
            "count the frequency of each word",
        ),
        held_out="count the word frequencies in a text",
        solutions=(
            """
def word_frequency(text):
    counts = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return counts
""",
        ),
        checks=("word_frequency('to be or not to be') == {'to': 2, 'be': 2, 'or': 1, 'not': 1}",),
    ),
    Task(
        asks=(
            "count how often each character occurs in a string",
            "count the characters in a string",
            "count character frequencies",
            "count the frequency of each letter in a word",
        ),
        held_out="count the frequency of each character in a string",
        solutions=(
            """
def count_characters(text):
    counts = {}
    for character in text:
        counts[character] = counts.get(character, 0) + 1
    return counts
""",
        ),
        checks=("count_characters('hello') == {'h': 1, 'e': 1, 'l': 2, 'o': 1}",),
    ),
    Task(
        asks=(
            "check if two strings are anagrams",
            "check whether two words are anagrams",
            "test for anagrams",
            "detect anagrams",
        ),
        held_out="test if two words are anagrams",
        solutions=(
            """
def are_anagrams(first, second):
    return sorted(first.lower()) == sorted(second.lower())
""",
        ),
        checks=("are_anagrams('Listen', 'silent') == True", "are_anagrams('ab', 'abb') == False"),
    ),
    Task(
        asks=(
            "capitalize the first letter of each word",
            "capitalize every word in a string",
            "convert a string to title case",
            "make each word start with a capital letter",
        ),
        held_out="capitalize each word in a string",
        solutions=(
            """
def capitalize_words(text):
    return " ".join(word.capitalize() for word in text.split())
""",
        ),
        checks=("capitalize_words('hello big world') == 'Hello Big World'",),
    ),
    Task(
        asks=(
            "convert a string to uppercase",
            "convert text to upper case",
            "make a string uppercase",
            "turn a string into capital letters",
        ),
        held_out="change a string to uppercase",
        solutions=(
            """
def to_uppercase(text):
    return text.upper()
""",
        ),
        checks=("to_uppercase('hello') == 'HELLO'",),
    ),
    Task(
        asks=(
            "convert a string to lowercase",
            "convert text to lower case",
            "make a string lowercase",
            "turn a string into small letters",
        ),
        held_out="change a string to lowercase",
        solutions=(
            """
def to_lowercase(text):
    return text.lower()
""",
        ),
        checks=("to_lowercase('Hello') == 'hello'",),
    ),
    Task(
        asks=(
            "remove punctuation from a string",
            "strip punctuation from text",
            "delete all punctuation marks in a string",
        ),
        held_out="remove all punctuation from a text",
        solutions=(
            """
import string

def remove_punctuation(text):
    return "".join(c for c in text if c not in string.punctuation)
""",
        ),
        checks=("remove_punctuation('Hi, you!') == 'Hi you'",),
    ),
    Task(
        asks=(
            "remove spaces from a string",
            "remove all whitespace from a string",
            "delete the spaces in a text",
            "strip all spaces from a string",
        ),
        held_out="remove the spaces in a string",
        solutions=(
            """
def remove_spaces(text):
    return "".join(text.split())
""",
        ),
        checks=("remove_spaces('a b  c') == 'abc'",),
    ),
    Task(
        asks=(
            "find the longest word in a sentence",
            "get the longest word of a string",
            "return the longest word in a text",
        ),
        held_out="find the longest word in a string",
        solutions=(
            """
def longest_word(text):
    return max(text.split(), key=len)
""",
        ),
        checks=("longest_word('a quick elephant') == 'elephant'",),
    ),
    Task(
        asks=(
            "find the first non-repeating character in a string",
            "find the first unique character of a string",
            "get the first character that does not repeat",
        ),
        held_out="find the first unique character in a string",
        solutions=(
            """
def first_unique(text):
    for character in text:
        if text.count(character) == 1:
            return character
    return None
""",
        ),
        checks=("first_unique('swiss') == 'w'", "first_unique('aa') == None"),
    ),
    Task(
        asks=(
            "encrypt text with a Caesar cipher",
            "implement a Caesar cipher",
            "shift the letters of a string",
            "encode a message with the Caesar cipher",
        ),
        held_out="encrypt a string with the Caesar cipher",
        solutions=(
            """
def caesar_cipher(text, shift):
    result = ""
    for c in text:
        if c.isalpha():
            base = ord("A") if c.isupper() else ord("a")
            result += chr((ord(c) - base + shift) % 26 + base)
        else:
            result += c
    return result
""",
        ),
        checks=("caesar_cipher('Hello', 3) == 'Khoor'", "caesar_cipher('xyz!', 3) == 'abc!'"),
    ),
    Task(
        asks=(
            "join a list of strings",
            "join words with spaces",
            "convert a list to a string",
            "concatenate a list of strings",
        ),
        held_out="join a list of words",
        solutions=(
            """
def join_words(words):
    return " ".join(words)
""",
        ),
        checks=("join_words(['big', 'red', 'car']) == 'big red car'",),
    ),
)
