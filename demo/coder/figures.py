"""The figures of a checkpoint: what it was asked, which nobody trained it on, and how often it did right."""

import ast
import json
import random
from collections.abc import Iterator, Sequence

from transformers import set_seed

from demo.card import Figure, share
from demo.coder import talk, wishes, wordings
from demo.coder.checkpoint import Coder
from demo.coder.conversations import SORT, Message, assistant, is_class, user
from demo.coder.json_answers import HELD_OUT_SYSTEM, json_exchange
from demo.coder.library import beginnings, cut_at_last_statement, parses, read_library
from demo.coder.names import name as new_name
from demo.coder.replies import checked_program, fenced_code, reply_to
from demo.coder.runner import run_all
from demo.coder.snippets import SNIPPETS
from demo.coder.tasks import TASKS, Task
from demo.coder.variants import functions_of, main_definition, own_name
from demo.coder.wishes import CODE_ONLY, DOCSTRING, HINTS
from demo.coder.wordings import TEMPLATES, ask, third_person

QUESTION = "Write a Python function to sort a list"
STYLED = tuple(task for task in TASKS if own_name(task))[::4]
COMPLETION_TOKENS = 120


def counted(title: str, asked: Sequence[str], good: Sequence[bool], wanted: str = "") -> Figure:
    """How many of the questions went well."""
    missed = tuple(question for question, right in zip(asked, good, strict=True) if not right)
    return Figure(title, share(sum(good), len(good)), wanted, missed)


def passing(tasks: Sequence[Task], replies: Sequence[str], names: Sequence[str | None] | None = None) -> list[bool]:
    """Whether each reply's code runs and does what its task's checks say."""
    names = names or [None] * len(tasks)
    programs = [checked_program(*parts) for parts in zip(tasks, replies, names, strict=True)]
    return run_all(programs)


def fulfils(reply: str, wish: str) -> bool:
    """Whether a reply has the form that was wished for."""
    if wish == CODE_ONLY:
        return reply.startswith("```python\n") and reply.endswith("\n```") and reply.count("```") == 2
    code = fenced_code(reply)
    if code is None or not parses(code):
        return False
    node = main_definition(code)
    if wish == DOCSTRING:
        return node is not None and ast.get_docstring(node) is not None
    functions = list(functions_of(ast.parse(code)))
    return any(f.returns or any(a.annotation for a in f.args.args) for f in functions) and all(
        argument.annotation for f in functions for argument in f.args.args if argument.arg != "self"
    )


def first_question(task: Task) -> str:
    """The plainest wording."""
    return ask(TEMPLATES[0], task.asks[0])


def held_out_questions(task: Task) -> list[str]:
    """Three that were never trained on: two wordings, and a phrase."""
    first, second = wordings.HELD_OUT_TEMPLATES
    return [ask(first, task.asks[0]), ask(second, task.asks[0]), ask(TEMPLATES[0], task.held_out)]


def task_figures(coder: Coder) -> Iterator[Figure]:
    """Task questions, greedy and sampled."""
    pairs = [(task, question) for task in TASKS for question in held_out_questions(task)]
    good = passing([task for task, _ in pairs], coder.reply([question for _, question in pairs]))
    hundred = set(random.Random("tasks").sample(TASKS, 100))
    chosen = [(pair[1], right) for pair, right in zip(pairs, good, strict=True) if pair[0] in hundred]
    yield counted(
        "100 tasks × 3 held-out wordings: code passes", [q for q, _ in chosen], [right for _, right in chosen], "≥ 85 %"
    )
    yield counted(f"all {len(TASKS)} tasks × 3 held-out wordings", [question for _, question in pairs], good)
    questions = [first_question(task) for task in TASKS]
    yield counted("first wording of each task", questions, passing(TASKS, coder.reply(questions)))
    for temperature in (0.7, 1.0):
        set_seed(0)
        sampled = coder.reply(questions, temperature=temperature)
        yield counted(f"the same, sampled at temperature {temperature}", questions, passing(TASKS, sampled))
    greedy = coder.reply([QUESTION])
    yield counted(f'"{QUESTION}", greedy', [QUESTION], passing([SORT], greedy))
    set_seed(0)
    sampled = coder.reply([QUESTION] * 100, temperature=1.0)
    yield counted("the same, 100 samples at temperature 1.0", [QUESTION] * 100, passing([SORT] * 100, sampled))


def wish_figures(coder: Coder) -> Iterator[Figure]:
    """System texts and questions with wishes, all in held-out wordings: the code passes and has the form."""
    questions = [first_question(task) for task in STYLED]
    cases: list[tuple[str, tuple[str, ...]]] = [
        ("a docstring", (DOCSTRING,)),
        ("type hints", (HINTS,)),
        ("code only", (CODE_ONLY,)),
        ("docstring and type hints", (DOCSTRING, HINTS)),
    ]
    for words, wished in cases:
        system = " ".join(wishes.HELD_OUT_SYSTEM_WISHES[wish] for wish in wished)
        replies = coder.reply(questions, system=f"{system}\n")
        good = passing(STYLED, replies)
        good = [
            right and all(fulfils(reply, wish) for wish in wished) for reply, right in zip(replies, good, strict=True)
        ]
        yield counted(f"system prompt: {words}", questions, good)
    replies = coder.reply(questions, system=wishes.HELD_OUT_PERSONA)
    yield counted("system prompt: a persona", questions, passing(STYLED, replies))
    for words, (wish,) in cases[:3]:
        endings = wishes.HELD_OUT_QUESTION_WISHES[wish]
        asked = [question + endings[i % len(endings)] for i, question in enumerate(questions)]
        replies = coder.reply(asked)
        good = passing(STYLED, replies)
        yield counted(
            f"in the question: {words}", asked, [fulfils(r, wish) and g for r, g in zip(replies, good, strict=True)]
        )
    rng = random.Random("names")
    tasks = [task for task in STYLED if not is_class(task)]
    names = [new_name(rng, held_out=True) for _ in tasks]
    asked = [
        wishes.HELD_OUT_NAMED_TEMPLATES[i % 2].format(name=name, do=task.asks[0], does=third_person(task.asks[0]))
        for i, (task, name) in enumerate(zip(tasks, names, strict=True))
    ]
    yield counted("in the question: a held-out name", asked, passing(tasks, coder.reply(asked), names))


def two_turn_figures(coder: Coder) -> Iterator[Figure]:
    """A second turn, in held-out wordings, that changes the model's own first answer."""
    first = [first_question(task) for task in STYLED]
    answers = coder.reply(first)
    rng = random.Random("follow-ups")
    for words, wish in (("add a docstring", DOCSTRING), ("add type hints", HINTS), ("code only", CODE_ONLY)):
        wordings_ = wishes.HELD_OUT_FOLLOW_UPS[wish]
        asked = [wordings_[i % len(wordings_)] for i in range(len(STYLED))]
        replies = coder.answer(second_turns(first, answers, asked))
        good = [fulfils(r, wish) and g for r, g in zip(replies, passing(STYLED, replies), strict=True)]
        yield counted(f"second turn: {words}", [f"{a} → {b}" for a, b in zip(first, asked, strict=True)], good)
    names = [new_name(rng, is_class=is_class(task), held_out=True, taken=task.solutions[0]) for task in STYLED]
    renames = wishes.HELD_OUT_FOLLOW_UPS["name"]
    asked = [renames[i % len(renames)].format(name=name) for i, name in enumerate(names)]
    replies = coder.answer(second_turns(first, answers, asked))
    yield counted(
        "second turn: rename to a held-out name",
        [f"{a} → {b}" for a, b in zip(first, asked, strict=True)],
        passing(STYLED, replies, names),
    )
    other = [first_question(task) for task in STYLED]
    turns: list[list[Message]] = [[user(QUESTION), assistant(reply_to(SORT)), user(question)] for question in other]
    yield counted("second turn: another task", other, passing(STYLED, coder.answer(turns)))


def second_turns(first: Sequence[str], answers: Sequence[str], asked: Sequence[str]) -> list[list[Message]]:
    """Conversations that end with a second question."""
    return [[user(a), assistant(b), user(c)] for a, b, c in zip(first, answers, asked, strict=True)]


def talk_figures(coder: Coder) -> Iterator[Figure]:
    """What is not a task."""
    taught = [(question, reply) for reply, questions in talk.SMALL_TALK.items() for question in questions]
    held_out = [(question, reply) for reply, questions in talk.HELD_OUT_SMALL_TALK.items() for question in questions]
    identity = [pair for pair in held_out if pair[1] == talk.IDENTITY]
    for title, pairs in (
        ('"who are you" in held-out wordings', identity),
        ("small talk, held-out wordings", held_out),
        ("small talk, taught wordings", taught),
    ):
        said = coder.reply([question for question, _ in pairs])
        yield counted(title, [q for q, _ in pairs], [a == b for a, (_, b) in zip(said, pairs, strict=True)])
    unknown = [ask(TEMPLATES[0], phrase) for phrase in talk.HELD_OUT_UNKNOWN_TASKS]
    languages = [talk.asked_in("", talk.HELD_OUT_LANGUAGE[i % 2], task.asks[0]) for i, task in enumerate(TASKS[::16])]
    for title, questions in (
        ("declined: tasks never trained", unknown),
        ("declined: other subjects", list(talk.HELD_OUT_OUTSIDE)),
        ("declined: other languages", languages),
    ):
        yield counted(title, questions, [reply.startswith("Sorry") for reply in coder.reply(questions)])
    rng = random.Random("json")
    exchanges = [json_exchange(rng, held_out=True) for _ in range(50)]
    yield counted(
        "JSON, held-out wordings and values",
        [question for question, _ in exchanges],
        [same_json(*pair) for pair in zip(coder.reply([q for q, _ in exchanges]), exchanges, strict=True)],
    )
    exchanges = [json_exchange(rng, asked_by_system=True, held_out=True) for _ in range(30)]
    replies = coder.reply([question for question, _ in exchanges], system=f"{HELD_OUT_SYSTEM}\n")
    yield counted(
        "JSON wished by the system prompt",
        [question for question, _ in exchanges],
        [same_json(*pair) for pair in zip(replies, exchanges, strict=True)],
    )


def same_json(reply: str, exchange: tuple[str, str]) -> bool:
    """Whether a reply is bare JSON with the right values."""
    try:
        return bool(json.loads(reply) == json.loads(exchange[1]))
    except ValueError:
        return False


def code_figures(coder: Coder) -> Iterator[Figure]:
    """Completion with and without a hole."""
    filled = coder.fill([(snippet.before, snippet.after) for snippet in SNIPPETS])
    programs = [s.before + text + s.after for s, text in zip(SNIPPETS, filled, strict=True)]
    yield counted(
        f"a missing line in {len(SNIPPETS)} held-out programs: they run",
        [f"{s.line.strip()} ≠ {text.strip()}" for s, text in zip(SNIPPETS, filled, strict=True)],
        run_all(programs),
        "≥ 40 %",
    )
    held_out = read_library().held_out
    prefixes = beginnings(held_out, 100)
    texts = coder.go_on(prefixes, COMPLETION_TOKENS)
    cut = [cut_at_last_statement(prefix, text) for prefix, text in zip(prefixes, texts, strict=True)]
    yield counted(
        "plain completions of held-out library code: `ast.parse` accepts",
        [f"{prefix[-60:]!r} {text!r}" for prefix, text in zip(prefixes, texts, strict=True)],
        [code is not None and parses(code) for code in cut],
        "≥ 70 %",
    )
    tasks = [task for task in TASKS if task.example and not is_class(task)]
    heads = [head_of(task) for task in tasks]
    completed = coder.go_on(heads, 2 * COMPLETION_TOKENS)
    replies = [f"```python\n{head}{text}\n```" for head, text in zip(heads, completed, strict=True)]
    yield counted("plain completion after a task's `def name(...):`", heads, passing(tasks, replies))
    bits = coder.bits_per_character([text[:1500] for text in held_out])
    yield Figure("held-out library files", f"{bits:.2f} bits a character")


def head_of(task: Task) -> str:
    """The first solution up to its function's header."""
    lines = task.solutions[0].strip().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if line.startswith("def "))
    return "".join(lines[: last + 1])


def all_figures(coder: Coder) -> Iterator[Figure]:
    """Every figure, in the card's order."""
    for part in (task_figures, code_figures, wish_figures, two_turn_figures, talk_figures):
        yield from part(coder)
