"""How people ask: templates around a task's phrases, small talk, and what the model does not know."""

import random
import zlib
from collections.abc import Iterator

from demo.coder.tasks import TASKS, Task

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
    "Would you write Python code that {does}?",
    "I would like a Python function to {do}",
    "Please give me a Python program that {does}",
    "Hey, how do I {do} in Python 3?",
)

GREETING = (
    "Hello! I am the small demo model of DeepSeek on Triton. "
    "Ask me for a short Python function, such as one that sorts a list."
)
IDENTITY = (
    "I am the small demo model of DeepSeek on Triton, trained from scratch on a few dozen short Python tasks. "
    "I am not one of DeepSeek's own models."
)
ABILITY = (
    "I can write short Python functions: sort a list, reverse a string, check if a number is prime, "
    "read a file and a few dozen more."
)
OTHER_LANGUAGE = "Sorry, I only know Python, and only short tasks, such as sorting a list or reversing a string."
NOT_LEARNED = (
    "Sorry, I have not learned that one. "
    "I am a small demo model and know a few dozen short Python tasks, such as sorting a list."
)
OUTSIDE = "Sorry, I can only help with short Python tasks, such as sorting a list or reversing a string."

SMALL_TALK: dict[str, tuple[str, ...]] = {
    GREETING: (
        "Hello", "Hi", "Hey", "Hello!", "Hi there", "Good morning", "Good evening", "hey there", "Hello, how are you?",
        "How are you?", "Are you there?", "Hi, can you help me?", "ping", "test", "Greetings",
    ),
    IDENTITY: (
        "Who are you?", "What are you?", "What is your name?", "Which model are you?", "What model is this?",
        "Are you DeepSeek?", "Are you DeepSeek Coder?", "Are you ChatGPT?", "Who made you?", "Who trained you?",
        "Tell me about yourself", "Introduce yourself", "Are you a human?", "Are you an AI?", "How large are you?",
    ),
    ABILITY: (
        "What can you do?", "Help", "How can you help me?", "What do you know?", "What tasks can you do?",
        "What should I ask you?", "Which functions can you write?", "What are you good at?", "Can you code?",
        "Can you write Python?", "Do you know Python?",
    ),
    "You are welcome!": ("Thanks", "Thank you", "Thank you!", "thanks a lot", "Great, thanks", "Perfect", "Nice work"),
    "Goodbye!": ("Bye", "Goodbye", "See you", "See you later", "Good night"),
}  # fmt: skip

LANGUAGES = (
    "Java", "JavaScript", "C", "C++", "C#", "Rust", "Go", "Ruby", "PHP", "Swift", "Kotlin", "TypeScript", "Haskell",
    "Perl", "Scala", "SQL", "Bash", "R", "Lua", "assembly",
)  # fmt: skip
LANGUAGE_TEMPLATES = (
    "Write a {language} function to {do}", "How do I {do} in {language}?", "{language} code to {do}",
    "Can you write a {language} program that {does}?", "{do} in {language}", "Show me how to {do} using {language}",
)  # fmt: skip
UNKNOWN_TASKS = (
    "train a neural network", "build a website", "send an email", "scrape a web page", "connect to a database",
    "parse an XML document", "draw a chart", "create a snake game", "write a web server", "resize an image",
    "play a sound", "call a REST API", "encrypt a file with AES", "solve a differential equation", "make a chat bot",
    "parse command line arguments", "download a video", "recognize faces", "plot a histogram", "invert a matrix",
    "solve sudoku", "find the shortest path in a graph", "build a binary tree", "train a random forest",
    "start a thread", "open a socket", "read an Excel sheet", "create a PDF", "compress a folder", "log in to a site",
    "control a robot", "measure the memory of a process", "write a compiler", "tokenize a sentence",
    "translate a document", "record audio", "show a window with a button", "simulate a pendulum", "mine a bitcoin",
    "query an API with a token",
)  # fmt: skip
UNKNOWN_PARTS = (
    (
        "train", "build", "send", "draw", "download", "encrypt", "simulate", "plot", "install", "deploy", "record",
        "design", "host", "connect to", "compile", "play", "monitor", "schedule", "crawl", "visualize", "scan", "sell",
    ),
    (
        "a website", "a picture", "an email", "a video", "a database", "a server", "a robot", "a song", "a web page",
        "a cloud service", "a phone app", "a spreadsheet", "a model", "the network", "a map", "a calendar", "a shop",
        "a camera", "a printer", "a planet", "a virtual machine", "a Docker image", "a game", "a neural network",
    ),
)  # fmt: skip
HELD_OUT_UNKNOWN_TASKS = ("build a search engine", "send a text message", "train a language model", "draw a fractal")
OUTSIDE_TEMPLATES = (
    "What is the capital of {thing}?", "Who is the president of {thing}?", "Tell me a joke about {thing}",
    "Write a poem about {thing}", "What is the weather in {thing}?", "Translate {thing} into French",
    "How do I cook {thing}?", "Tell me about {thing}", "Who won the {thing} cup?", "What do you think about {thing}?",
    "What is {thing}?", "Explain {thing}", "Write a story about {thing}", "Where can I buy {thing}?",
    "Who invented {thing}?", "When did {thing} begin?", "Should I invest in {thing}?", "Write an essay on {thing}",
    "How old is {thing}?", "Is {thing} dangerous?", "Give me the news about {thing}", "Recommend a book on {thing}",
    "Sing a song about {thing}", "Tell me a joke", "What time is it?", "What is the meaning of life?",
)  # fmt: skip
THINGS = (
    "France", "Germany", "Japan", "Brazil", "Canada", "Kenya", "London", "Berlin", "Tokyo", "pasta", "rice", "soup",
    "love", "the sea", "cats", "dogs", "the moon", "physics", "history", "medicine", "gold", "football", "the world",
    "music", "politics", "religion", "war", "the internet", "coffee", "bread", "winter", "the sun", "chess", "money",
    "Napoleon", "Einstein", "art", "mathematics", "biology", "space travel", "taxes", "elections", "cancer", "China",
)  # fmt: skip
HELD_OUT_OUTSIDE = (
    "What is the capital of Italy?", "Tell me a story", "Write a poem about spring", "Who was Shakespeare?",
)  # fmt: skip

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are a helpful coding assistant.", "You are an expert Python programmer.",
    "You are a Python tutor. Answer with short code.", "Answer briefly.", "You write clean Python code.",
    "You are an AI programming assistant.", "You are a senior software engineer.", "Reply with code only.",
)  # fmt: skip
SYSTEM_PARTS = (
    ("You are a", "You are my", "Act as a", "Be a"),
    ("helpful", "friendly", "careful", "concise", "senior", "patient", "skilled"),
    ("assistant", "programmer", "Python expert", "coding tutor", "software engineer", "code generator", "developer"),
    (".", ". Answer briefly.", ". Use Python.", ". Be polite.", ", and you write short functions.", ". Think first."),
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


def held_out_pairings(task: Task) -> Iterator[str]:
    """Questions whose template and phrase were both trained on, but never together."""
    for phrase in task.asks:
        for template in TEMPLATES:
            if is_held_out(template, phrase):
                yield ask(template, phrase)


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


def other_question(rng: random.Random) -> tuple[str, str]:
    """(question, reply) outside the tasks: small talk, another language, a task not learned, another subject."""
    roll = rng.random()
    if roll < 0.35:
        reply = rng.choice(tuple(SMALL_TALK))
        question = rng.choice(SMALL_TALK[reply])
    elif roll < 0.5:
        template, language = rng.choice(LANGUAGE_TEMPLATES), rng.choice(LANGUAGES)
        phrase = rng.choice(rng.choice(TASKS).asks)
        question = template.format(language=language, do=phrase, does=third_person(phrase))
        reply = OTHER_LANGUAGE
    elif roll < 0.7:
        composed = " ".join(rng.choice(part) for part in UNKNOWN_PARTS)
        question, reply = ask(rng.choice(TEMPLATES), rng.choice((composed, rng.choice(UNKNOWN_TASKS)))), NOT_LEARNED
    else:
        question, reply = rng.choice(OUTSIDE_TEMPLATES).format(thing=rng.choice(THINGS)), OUTSIDE
    return vary(rng, question), reply


def system_prompt(rng: random.Random) -> str:
    """DeepSeek-Coder's template puts nothing between the system text and the first question, so half end in a line."""
    if rng.random() < 0.5:
        text = rng.choice(SYSTEM_PROMPTS)
    else:
        first, *rest, end = (rng.choice(part) for part in SYSTEM_PARTS)
        text = " ".join((first, *rest)) + end
    return text + rng.choice(("", "\n"))
