"""Questions that are answered with bare JSON, whose values are copied from the question."""

import json
import random

from demo.coder.names import is_held_out, word

Value = str | int | bool

KEY_LIST = (
    "name age city country email color price title author year id size count width height score level street code "
    "language species weight model brand user team rank total status kind label unit date time speed type owner page "
    "active"
)
KEYS = KEY_LIST.split()
NUMBER_KEYS = {
    "age", "price", "year", "id", "size", "count", "width", "height", "score", "level", "weight", "rank",
    "total", "speed",
    "page", "code",
}  # fmt: skip
_BEFORE = ("", "", "", "please ", "can you ", "could you please ", "I want you to ", "now ")
_VERBS = ("return", "give me", "write", "create", "make", "generate", "produce", "print", "show me", "output", "send")
OBJECT_TEMPLATES = (
    "JSON with {pairs}", "json object: {pairs}", "Answer in JSON: {pairs}", "Convert to JSON: {pairs}",
    "I need JSON with {pairs}", "Turn this into JSON: {pairs}", "{pairs} as JSON", "Put this into JSON: {pairs}",
    "I need a JSON object with {pairs}", "In JSON: {pairs}",
)  # fmt: skip
HELD_OUT_OBJECT_TEMPLATES = ("Please give me a JSON object with {pairs}", "Build a JSON object with {pairs}")
LIST_TEMPLATES = (
    "JSON list: {items}", "Convert to a JSON list: {items}", "{items} as a JSON list", "JSON array: {items}",
    "I need a JSON array of {items}", "Turn into a JSON array: {items}",
)  # fmt: skip
HELD_OUT_LIST_TEMPLATES = ("Please return a JSON array of {items}",)
SYSTEM = (
    "Answer in JSON.", "Always answer in JSON.", "Reply in JSON.", "Reply with JSON only.", "Output JSON.", "Use JSON.",
    "Respond in JSON format.", "Answer only with JSON.", "You return JSON objects.", "All answers are JSON.",
    "JSON only.",
)  # fmt: skip
HELD_OUT_SYSTEM = "Please answer in JSON."
# With such a system text, the pairs alone are a question.
PLAIN_TEMPLATES = (
    "{pairs}",
    "The {pairs}",
    "A record with {pairs}",
    "Someone with {pairs}",
    "Store {pairs}",
    "I have {pairs}",
)


def composed(rng: random.Random, templates: tuple[str, ...], kinds: tuple[str, ...], held_out: tuple[str, ...]) -> str:
    """A template, or one put together from its parts, but none that is held out."""
    if rng.random() < 0.35:
        return rng.choice(templates)
    while True:
        text = f"{rng.choice(_BEFORE)}{rng.choice(_VERBS)} {rng.choice(kinds)}"
        if text.lower() not in map(str.lower, held_out):
            return text


def some_word(rng: random.Random, held_out: bool) -> str:
    """A word to copy, of those that are trained or of those kept for the evaluation."""
    while True:
        text = word(rng)
        if is_held_out(text) == held_out:
            return text


def value_for(rng: random.Random, key: str, held_out: bool) -> Value:
    """A number, a truth or a made-up word, as the key asks for."""
    if key == "active":
        return rng.random() < 0.5
    if key in NUMBER_KEYS or rng.random() < 0.05:
        return rng.randint(0, rng.choice((9, 99, 999, 9999)))
    text = some_word(rng, held_out)
    return text.capitalize() if rng.random() < 0.6 else text


def spelled(rng: random.Random, key: str, value: Value, link: str) -> str:
    """'name Ada', 'name = Ada', 'name: Ada'."""
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    return f"{key}{link}{text}"


def listed(parts: list[str], link: str) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return f"{', '.join(parts[:-1])}{link}{parts[-1]}" if len(parts) > 1 else parts[0]


def json_exchange(rng: random.Random, asked_by_system: bool = False, held_out: bool = False) -> tuple[str, str]:
    """(question, answer): an object of one to four pairs, or a list."""
    if not asked_by_system and rng.random() < 0.2:
        numbers = rng.random() < 0.5
        items = [rng.randint(0, 999) if numbers else some_word(rng, held_out) for _ in range(rng.randint(2, 5))]
        if held_out:
            template = rng.choice(HELD_OUT_LIST_TEMPLATES)
        else:
            kinds = ("a JSON list of {items}", "a JSON array of {items}", "a JSON array with {items}", "JSON: {items}")
            template = composed(rng, LIST_TEMPLATES, kinds, HELD_OUT_LIST_TEMPLATES)
            template = template[0].upper() + template[1:] if template[0] != "{" else template
        return template.format(items=listed(list(map(str, items)), rng.choice((", ", " and ")))), json.dumps(items)
    keys = rng.sample(KEYS, rng.choices((1, 2, 3, 4), (15, 45, 30, 10))[0])
    values: dict[str, Value] = {key: value_for(rng, key, held_out) for key in keys}
    link = rng.choices((" ", ": ", "=", " = ", " is "), (50, 15, 15, 5, 15))[0]
    pairs = listed([spelled(rng, key, value, link) for key, value in values.items()], rng.choice((" and ", ", ")))
    if asked_by_system:
        template = rng.choice(PLAIN_TEMPLATES)
    elif held_out:
        template = rng.choice(HELD_OUT_OBJECT_TEMPLATES)
    else:
        kinds = ("a JSON object with {pairs}", "a JSON object for {pairs}", "JSON with {pairs}", "{pairs} as JSON")
        template = composed(rng, OBJECT_TEMPLATES, kinds, HELD_OUT_OBJECT_TEMPLATES)
    question = template.format(pairs=pairs)
    return question[0].upper() + question[1:] if not question.startswith(pairs) else question, json.dumps(values)
