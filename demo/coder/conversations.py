"""The chats that the model learns: questions, wishes, follow-up turns, and what it says to each."""

import random
from dataclasses import dataclass

from demo.coder import json_answers, wishes
from demo.coder.names import name as new_name
from demo.coder.replies import fenced, reply_to
from demo.coder.talk import WELCOME, other_question
from demo.coder.tasks import TASKS, Task
from demo.coder.variants import Style, own_name, styled
from demo.coder.wishes import CODE_ONLY, DOCSTRING, HINTS
from demo.coder.wordings import task_question, third_person, vary

Message = dict[str, str]
SORT = TASKS[0]
GAP = "\0"  # stands for a name while the question around it is varied
LONG_CODE = 900  # characters; longer answers get no follow-up turn, which would not fit into a row


@dataclass(frozen=True)
class Answer:
    """What the last reply showed, so that the next turn can change it."""

    task: Task
    solution: int
    style: Style


def user(content: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """The model's message."""
    return {"role": "assistant", "content": content}


def is_class(task: Task) -> bool:
    """Whether the task's solution is a class."""
    name = own_name(task)
    return name is not None and name[0].isupper()


def pick_task(rng: random.Random) -> Task:
    """Any task; sorting a list, which everybody asks for first, more often."""
    return SORT if rng.random() < 0.03 else rng.choice(TASKS)


def some_wishes(rng: random.Random) -> list[str]:
    """One wish, or two or three that go together."""
    return rng.sample((DOCSTRING, HINTS, CODE_ONLY), rng.choices((1, 2, 3), (70, 25, 5))[0])


def styled_question(rng: random.Random, task: Task, style: Style) -> tuple[str, Style]:
    """A question for a task that may carry wishes or a name, and the style that it and `style` make."""
    roll = rng.random()
    if own_name(task) is None or roll < 0.6:
        return task_question(rng, task), style
    if roll < 0.78:
        extra = some_wishes(rng)
        wished = wishes.style_of(extra)
        merged = Style(
            docstring=style.docstring or wished.docstring,
            hints=style.hints or wished.hints,
            code_only=style.code_only or wished.code_only,
        )
        question = wishes.wish_in_question(rng, task_question(rng, task), extra)
        return question.lower() if rng.random() < 0.1 else question, merged
    name = new_name(rng, is_class=is_class(task), taken=styled(task, 0, style))
    if is_class(task) or rng.random() < 0.35:
        question = task_question(rng, task).rstrip("?.! \n") + rng.choice(wishes.NAME_WISHES).replace("{name}", GAP)
    else:
        phrase = rng.choice(task.asks)
        template = rng.choice(wishes.NAMED_TEMPLATES)
        question = vary(rng, template.format(name=GAP, do=phrase, does=third_person(phrase)))
    if GAP not in question:
        return task_question(rng, task), style
    return question.replace(GAP, wishes.quoted(rng, name)), style.with_(name=name)


def follow_up(rng: random.Random, answer: Answer, bare: bool) -> tuple[str, str, Answer]:
    """(question, reply, what it shows then): one wish more for the code that stands in the last reply."""
    style = answer.style
    options = ["name", "name"]
    options += [DOCSTRING] * 2 * (not style.docstring) + [HINTS] * 2 * (not style.hints)
    options += ["both"] * (not style.docstring and not style.hints) + [CODE_ONLY] * (not style.code_only)
    wish = rng.choice(options)
    question = rng.choice(wishes.FOLLOW_UPS[wish])
    if wish == "name":
        taken = styled(answer.task, answer.solution, style)
        name = new_name(rng, is_class=is_class(answer.task) and rng.random() < 0.8, taken=taken)
        question = vary(rng, question.replace("{name}", GAP)).replace(GAP, wishes.quoted(rng, name))
        style, said = style.with_(name=name), wishes.SAID_NAME.format(name=name)
    else:
        question = vary(rng, question)
        style, said = changed(style, wish)
    code = fenced(styled(answer.task, answer.solution, style))
    reply = code if bare or wish == CODE_ONLY else f"{said}\n\n{code}"
    return question, reply, Answer(answer.task, answer.solution, style)


def changed(style: Style, wish: str) -> tuple[Style, str]:
    """The style with a wish that needs no name fulfilled, and the sentence that says so."""
    if wish == "both":
        return style.with_(docstring=True, hints=True), wishes.SAID_BOTH
    if wish == CODE_ONLY:
        return style, ""
    return style.with_(**{wish: True}), wishes.SAID[wish]


def first_exchange(rng: random.Random, style: Style) -> tuple[list[Message], Answer | None]:
    """A task and its solution, in the style that the system text and the question make."""
    task = pick_task(rng)
    if own_name(task) is None:
        style = Style(code_only=style.code_only)
    question, style = styled_question(rng, task, style)
    solution = rng.randrange(len(task.solutions))
    reply = reply_to(task, solution, style)
    answer = Answer(task, solution, style) if own_name(task) and len(reply) < LONG_CODE else None
    return [user(question), assistant(reply)], answer


def task_turns(rng: random.Random, style: Style, follow: float) -> list[Message]:
    """A task, and with the chance `follow` one or two turns that change its answer."""
    messages, answer = first_exchange(rng, style)
    bare = style.code_only
    if answer and rng.random() < follow:
        for _ in range(rng.choices((1, 2), (75, 25))[0]):
            question, reply, answer = follow_up(rng, answer, bare)
            messages += [user(question), assistant(reply)]
    if rng.random() < 0.04:
        messages += [user(vary(rng, rng.choice(wishes.THANKS))), assistant(WELCOME)]
    return messages


def json_turns(rng: random.Random, asked_by_system: bool) -> list[Message]:
    """One exchange that ends in JSON."""
    question, reply = json_answers.json_exchange(rng, asked_by_system and rng.random() < 0.7)
    return [user(question), assistant(reply)]


def conversation(rng: random.Random) -> list[Message]:
    """One to three questions with their replies, at times behind a system text."""
    roll = rng.random()
    if roll < 0.08:
        system = rng.choice(json_answers.SYSTEM)
        if rng.random() < 0.3:
            system = f"{wishes.persona(rng)} {system}"
        return [{"role": "system", "content": system + rng.choice(("", "\n"))}, *json_turns(rng, asked_by_system=True)]
    wished: list[str] = []
    messages: list[Message] = []
    if roll < 0.28:
        wished = some_wishes(rng)
        messages.append({"role": "system", "content": wishes.system_text(rng, wished)})
    elif roll < 0.42:
        messages.append({"role": "system", "content": wishes.system_text(rng, [])})
    style = wishes.style_of(wished)
    for _ in range(rng.choices((1, 2), (88, 12))[0]):
        kind = rng.random()
        if kind < 0.22:
            question, reply = other_question(rng)
            messages += [user(question), assistant(reply)]
        elif kind < 0.34:
            messages += json_turns(rng, asked_by_system=False)
        else:
            messages += task_turns(rng, style, follow=0.4)
    return messages
