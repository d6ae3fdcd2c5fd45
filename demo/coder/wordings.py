"""How people ask for a task: templates around its phrases, and how it is typed."""

import random
import zlib

from demo.coder.tasks import Task

# {do} is a task's phrase ("sort a list"), {does} the same in the third person ("sorts a list").
TEMPLATES = (
    "Write a Python function to {do}",
    "Write a Python function that {does}",
    "Write a function to {do}",
    "Write a function that {does} in Python",
    "Write a Python program to {do}",
    "Write a Python script that {does}",
    "Write Python code to {do}",
    "Write code to {do}",
    "Write me a function to {do}",
    "Write a short Python function to {do}",
    "Please write a Python function to {do}",
    "Please write Python code that {does}",
    "Can you write a Python function to {do}?",
    "Can you write a function that {does}?",
    "Can you implement a function to {do}?",
    "Can you show me how to {do} in Python?",
    "Could you write a function to {do} in Python?",
    "Could you please show me Python code to {do}?",
    "How do I {do} in Python?",
    "How can I {do} in Python?",
    "How can I {do} using Python?",
    "How would you {do} in Python?",
    "How to {do} in Python",
    "how to {do} with python?",
    "What is the best way to {do} in Python?",
    "Is there a way to {do} in Python?",
    "Show me how to {do} in Python",
    "Show me a Python function that {does}",
    "Give me a Python function to {do}",
    "Give me code to {do}",
    "I need a Python function to {do}",
    "I need a function that {does}",
    "I want to {do} in Python",
    "I am learning Python. How do I {do}?",
    "Help me {do} in Python",
    "Create a Python function to {do}",
    "Create a function that {does}",
    "Implement a Python function to {do}",
    "Implement a function that {does}",
    "Define a function to {do}",
    "Make a Python function that {does}",
    "Generate Python code to {do}",
    "Using Python, {do}",
    "In Python, {do}",
    "python code for this: {do}",
    "python function to {do}",
    "python {do}",
    "{do} in Python",
    "{do} using python",
    "{do}",
    "Hi! Can you write a function to {do}?",
    "Hello, please {do} in Python",
)
# Never trained on: the evaluation asks with them.
HELD_OUT_TEMPLATES = (
    "I would like a Python function to {do}",
    "Please give me a Python program that {does}",
)


def third_person(phrase: str) -> str:
    """'sort a list' → 'sorts a list'."""
    verb, _, rest = phrase.partition(" ")
    if verb.endswith("y") and verb[-2] not in "aeiou":
        verb = verb[:-1] + "ies"
    elif verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        verb += "es"
    else:
        verb += "s"
    return f"{verb} {rest}".rstrip()


def ask(template: str, phrase: str) -> str:
    """The question, its first letter a capital one."""
    text = template.format(do=phrase, does=third_person(phrase))
    return text[0].upper() + text[1:]


def is_held_out(template: str, phrase: str) -> bool:
    """About one pairing of template and phrase in eight is kept for the evaluation, never one of the first template."""
    return template != TEMPLATES[0] and zlib.crc32(f"{template}|{phrase}".encode()) % 8 == 0


def vary(rng: random.Random, text: str) -> str:
    """The same question as somebody else would type it: case, full stop, politeness, now and then a typo."""
    if rng.random() < 0.5:
        text = text.rstrip("?.!")
        text += rng.choice(("", "", ".", ".", "!", "?", " please", ", please.", ". Thanks!", " ", "\n"))
    roll = rng.random()
    if roll < 0.25:
        text = text.lower()
    elif roll < 0.28:
        text = text.upper()
    elif roll < 0.38:
        text = text.replace("Python", "python")
    if rng.random() < 0.04 and len(text) > 12:
        at = rng.randrange(1, len(text) - 2)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


def task_question(rng: random.Random, task: Task) -> str:
    """A question for `task` that is not held out."""
    while True:
        template = TEMPLATES[0] if rng.random() < 0.06 else rng.choice(TEMPLATES)
        phrase = rng.choice(task.asks)
        if not is_held_out(template, phrase):
            return vary(rng, ask(template, phrase))
