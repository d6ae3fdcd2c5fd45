"""How people wish for the form of an answer: in a system prompt, in the question, or in the next turn.

Lists that begin with HELD_OUT are never trained on.
"""

import random
from collections.abc import Mapping, Sequence

from demo.coder.variants import Style

DOCSTRING, HINTS, CODE_ONLY = "docstring", "hints", "code_only"

SYSTEM_WISHES: Mapping[str, Sequence[str]] = {
    DOCSTRING: (
        "Always add a docstring.", "Add a docstring.", "Include a docstring in every function.", "Use docstrings.",
        "Every function must have a docstring.", "Document your code with docstrings.", "Write docstrings.",
        "Please add docstrings to all code.", "Your functions have a docstring.", "Always write a docstring.",
        "Add docstrings to your functions.", "Always include docstrings.", "Put a docstring in each function.",
        "Document every function with a docstring.", "Give each function a docstring.", "All code needs docstrings.",
    ),
    HINTS: (
        "Use type hints.", "Always use type hints.", "Add type hints.", "Include type hints in every function.",
        "Use type annotations.", "Every function must have type hints.", "Annotate all parameters with types.",
        "Your code is fully typed.", "Write typed Python.", "Always add type annotations.", "Please use type hints.",
        "All functions need type hints.", "Annotate your functions.", "Give every parameter a type hint.",
        "Always include type hints.", "Write Python with type hints.",
    ),
    CODE_ONLY: (
        "Answer with code only.", "Reply with code only.", "Only output code.", "Respond only with code.", "Code only.",
        "Answer with nothing but code.", "No explanations, only code.", "Do not explain anything.", "Just the code.",
        "Give only the code.", "Output only Python code.", "Never explain, only write code.", "Return only code.",
        "Answer only with code, without any text.", "Don't write any text besides the code.", "No prose.",
        "Your answers consist of code alone.", "Reply with just the code.",
    ),
}  # fmt: skip
HELD_OUT_SYSTEM_WISHES: Mapping[str, str] = {
    DOCSTRING: "Always include a docstring in your functions.",
    HINTS: "Please always use type hints in your code.",
    CODE_ONLY: "Please answer with code only.",
}
PERSONAS = (
    "You are a helpful assistant.", "You are a helpful coding assistant.", "You are an expert Python programmer.",
    "You are a Python tutor.", "Answer briefly.", "You write clean Python code.", "You are a careful engineer.",
    "You are an AI programming assistant.", "You are a senior software engineer.", "Be polite.", "Use Python.",
)  # fmt: skip
PERSONA_PARTS = (
    ("You are a", "You are my", "Act as a", "Be a"),
    ("helpful", "friendly", "careful", "concise", "senior", "patient", "skilled"),
    ("assistant", "programmer", "Python expert", "coding tutor", "software engineer", "code generator", "developer"),
    (".", ". Answer briefly.", ". Use Python.", ". Be polite.", ", and you write short functions.", ". Think first."),
)
HELD_OUT_PERSONA = "You are a friendly pirate who likes to write programs."

# What is set behind a question without its full stop.
QUESTION_WISHES: Mapping[str, Sequence[str]] = {
    DOCSTRING: (
        " with a docstring", ". Add a docstring.", ". Include a docstring.", ", with docstring",
        ". Write a docstring too.",
        ". Please add a docstring.", ". Document it with a docstring.", " and add a docstring", ". Docstring please",
        " that has a docstring", ". It needs a docstring.", ". Use a docstring.",
    ),
    HINTS: (
        " with type hints", ", with type hints", ". Use type hints.", ". Please add type hints.",
        ". Add type annotations.",
        " using type hints", " using type annotations", ". Include type hints.", " and use type hints",
        ". Type hints please",
        ". It should be typed.", ", fully typed",
    ),
    CODE_ONLY: (
        ". Only the code, please.", ". Code only.", ", code only", ". Just the code.", ". No explanation.",
        " (code only)",
        ". Answer with code only.", ". No text, only code.", ". Just code please", ". Don't explain it.", ", only code",
        ". I only want the code.",
    ),
}  # fmt: skip
HELD_OUT_QUESTION_WISHES: Mapping[str, Sequence[str]] = {
    DOCSTRING: (". It should have a docstring.", ", including a docstring"),
    HINTS: (". Please use type hints.", ", including type hints"),
    CODE_ONLY: (". Give me only the code.", ". Just give me the code."),
}
BOTH_QUESTION_WISHES = (
    " with type hints and a docstring", " with a docstring and type hints", ". Add a docstring and type hints.",
    ". Use type hints and a docstring.", ", with type hints and docstring", ". Include type hints and a docstring.",
)  # fmt: skip

NAMED_TEMPLATES = (
    "Write a function called {name} that {does}", "Write a Python function called {name} that {does}",
    "Write a function named {name} that {does}", "Write a Python function named {name} to {do}",
    "Create a function {name} that {does}", "Implement a function {name} to {do}", "Write a function {name} to {do}",
    "I need a function called {name} that {does}", "Write {name}, a function that {does}", "Define {name} to {do}",
    "Give me a function called {name} that {does}", "Can you write a function called {name} that {does}?",
)  # fmt: skip
HELD_OUT_NAMED_TEMPLATES = (
    "Please write a Python function called {name} that {does}",
    "Make a function named {name} to {do}",
)
NAME_WISHES = (
    " and call it {name}", ". Call it {name}.", ". Name it {name}.", ", named {name}", ". The name should be {name}.",
    ". It should be called {name}.", " called {name}", " and name it {name}",
)  # fmt: skip

FOLLOW_UPS: Mapping[str, Sequence[str]] = {
    DOCSTRING: (
        "now add a docstring", "add a docstring", "Please add a docstring", "Can you add a docstring?",
        "Add a docstring to it",
        "Document it with a docstring", "It needs a docstring", "Could you include a docstring?",
        "Now with a docstring",
        "with docstring please", "Put a docstring in it", "Write a docstring for it", "Give it a docstring",
        "docstring please", "and a docstring?", "Add a docstring to the function", "Now add a docstring to it, please",
        "I want a docstring", "Can you write a docstring for it?", "Please include a docstring", "Add docstrings",
        "Where is the docstring?", "Document the function", "Please document it",
    ),
    HINTS: (
        "add type hints", "now add type hints", "Please add type hints", "Can you add type hints?", "Use type hints",
        "Add type annotations", "Now with type hints", "with type hints please", "It needs type hints", "Annotate it",
        "Could you add type annotations?", "Give it type hints", "type hints please", "Make it typed",
        "Annotate the types",
        "Add type hints to the function", "I want type hints", "Please use type hints", "Include type hints",
        "Now please annotate the parameters", "Can you type it?", "Add types", "and type hints?",
    ),
    CODE_ONLY: (
        "only the code please", "just the code", "code only", "Only code, no text", "Without the explanation, please",
        "Give me just the code", "Show only the code", "Only the code", "Just the code, please",
        "Can I have only the code?",
        "Please give me the code only", "No text, just code", "I only want the code", "only code",
    ),
    "both": (
        "add a docstring and type hints", "now add type hints and a docstring", "Add docstring and type hints",
        "Please add type hints and a docstring", "with type hints and a docstring please",
    ),
    "name": (
        "rename it to {name}", "Rename the function to {name}", "call it {name} instead", "Please rename it to {name}",
        "Can you call it {name}?", "change the name to {name}", "Name it {name}", "Use the name {name}",
        "rename to {name}",
        "It should be called {name}", "Change its name to {name}", "Now rename it to {name}", "Let's call it {name}",
        "Could you rename it to {name}?", "I want it to be called {name}", "The function should be named {name}",
        "call it {name}", "Can you rename it to {name}?", "Change the function name to {name}",
        "name it {name} instead",
        "The name should be {name}", "now call it {name}", "Rename this to {name}", "I prefer the name {name}",
    ),
}  # fmt: skip
HELD_OUT_FOLLOW_UPS: Mapping[str, Sequence[str]] = {
    DOCSTRING: (
        "Please add a docstring to the function",
        "Can you include a docstring?",
        "Now write a docstring for it",
    ),
    HINTS: ("Please add type hints to it", "Could you add type hints?", "Now use type annotations"),
    CODE_ONLY: ("Please show only the code", "Give me only the code", "Just code, no explanation"),
    "name": ("Please call it {name}", "Could you change the name to {name}?", "Rename the function, call it {name}"),
}
THANKS = (
    "thanks",
    "Thanks!",
    "Thank you",
    "thank you!",
    "Great, thanks",
    "Perfect",
    "Perfect, thank you",
    "Nice, thanks!",
)

SAID = {DOCSTRING: "Here it is with a docstring:", HINTS: "Here it is with type hints:"}
SAID_BOTH = "Here it is with a docstring and type hints:"
SAID_NAME = "Here it is as `{name}`:"


def persona(rng: random.Random) -> str:
    """A system text that wishes for nothing."""
    if rng.random() < 0.5:
        return rng.choice(PERSONAS)
    first, *rest, end = (rng.choice(part) for part in PERSONA_PARTS)
    return " ".join((first, *rest)) + end


def system_text(rng: random.Random, wishes: Sequence[str]) -> str:
    """A system text with these wishes, at times behind a persona.

    DeepSeek-Coder's template puts nothing between it and the first question, so half end in a line break.
    """
    parts = [rng.choice(SYSTEM_WISHES[wish]) for wish in wishes]
    rng.shuffle(parts)
    if not parts or rng.random() < 0.5:
        parts.insert(0, persona(rng))
    text = " ".join(parts)
    if rng.random() < 0.1:
        text = text.lower()
    return text + rng.choice(("", "\n"))


def style_of(wishes: Sequence[str]) -> Style:
    """The style that these wishes make."""
    return Style(docstring=DOCSTRING in wishes, hints=HINTS in wishes, code_only=CODE_ONLY in wishes)


def wish_in_question(rng: random.Random, question: str, wishes: Sequence[str]) -> str:
    """The question with the wishes behind it."""
    question = question.rstrip("?.! \n")
    if set(wishes) == {DOCSTRING, HINTS} and rng.random() < 0.7:
        return question + rng.choice(BOTH_QUESTION_WISHES)
    for wish in wishes:
        question = question.rstrip(".") + rng.choice(QUESTION_WISHES[wish])
    return question


def quoted(rng: random.Random, name: str) -> str:
    """A name as people set it into a sentence."""
    return rng.choices((name, f"`{name}`", f"'{name}'", f'"{name}"'), (80, 12, 4, 4))[0]
