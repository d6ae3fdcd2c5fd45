"""What the bundled coder says through the whole stack, asserted on meaning: code is run, JSON is read."""

from __future__ import annotations

import ast
import json
from typing import Any

import openai
import pytest

from demo.coder.replies import checked_program, fenced_code
from demo.coder.runner import runs
from demo.coder.snippets import SNIPPETS
from demo.coder.tasks import TASKS, Task
from demo.coder.tokenizer import FIM_BEGIN, FIM_END, FIM_HOLE
from demo.coder.wordings import HELD_OUT_TEMPLATES, ask

MODEL = "deepseek-coder"


def say(client: openai.OpenAI, *messages: tuple[str, str]) -> str:
    chat: Any = [{"role": role, "content": content} for role, content in messages]
    answer = client.chat.completions.create(model=MODEL, messages=chat, temperature=0)
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content or ""


def task(phrase: str) -> Task:
    return next(task for task in TASKS if phrase in task.asks)


def code_of(reply: str) -> ast.FunctionDef:
    code = fenced_code(reply)
    assert code, reply
    return next(node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef))


def hints(function: ast.FunctionDef) -> bool:
    return function.returns is not None and all(argument.annotation for argument in function.args.args)


@pytest.mark.parametrize("phrase", ["sort a list", "reverse a string", "check if a number is prime"])
def test_code_in_a_wording_it_never_saw_does_the_task(client: openai.OpenAI, phrase: str) -> None:
    reply = say(client, ("user", ask(HELD_OUT_TEMPLATES[0], phrase)))
    assert runs(checked_program(task(phrase), reply))


def test_a_system_prompt_is_followed(client: openai.OpenAI) -> None:
    question = ("user", "Write a Python function to sort a list")
    assert ast.get_docstring(code_of(say(client, ("system", "Always add a docstring."), question)))
    assert hints(code_of(say(client, ("system", "Use type hints."), question)))
    bare = say(client, ("system", "Answer with code only."), question)
    assert bare.startswith("```python\n")
    assert bare.endswith("```\n"), "DeepSeek-Coder's template ends a reply with a line break"


def test_a_second_turn_changes_the_first_answer(client: openai.OpenAI) -> None:
    turns = [("user", "Write a Python function to sort a list")]
    turns.append(("assistant", say(client, *turns)))
    assert ast.get_docstring(code_of(say(client, *turns, ("user", "now add a docstring"))))
    renamed = say(client, *turns, ("user", "rename it to order_numbers"))
    assert code_of(renamed).name == "order_numbers"
    assert "sort_list" not in renamed


def test_it_says_what_it_is_and_declines_what_it_cannot(client: openai.OpenAI) -> None:
    assert "DeepSeek on Triton" in say(client, ("user", "Who are you?"))
    assert say(client, ("user", "What is the capital of France?")).startswith("Sorry")


def test_json_is_json(client: openai.OpenAI) -> None:
    reply = say(client, ("user", "Return a JSON object with name Ada and age 36"))
    assert json.loads(reply) == {"name": "Ada", "age": 36}


def test_a_plain_completion_goes_on_with_the_code(client: openai.OpenAI) -> None:
    prompt = "def reverse_string(text):\n"
    answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=60, temperature=0)
    assert runs(f'{prompt}{answer.choices[0].text}\n\nassert reverse_string("abc") == "cba"\n')


def test_a_stream_of_a_chat_reads_as_the_whole_answer(client: openai.OpenAI) -> None:
    question: Any = [{"role": "user", "content": "Write a Python function to reverse a string"}]
    stream = client.chat.completions.create(model=MODEL, messages=question, temperature=0, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert len(pieces) > 10
    assert runs(checked_program(task("reverse a string"), "".join(pieces)))
    assert "".join(pieces) == say(client, ("user", question[0]["content"]))


def test_a_hole_in_the_middle_is_filled(client: openai.OpenAI) -> None:
    """The card's held-out programs in one request. The bar is lower than the card's: another CPU rounds otherwise."""
    prompts = [f"{FIM_BEGIN}{snippet.before}{FIM_HOLE}{snippet.after}{FIM_END}" for snippet in SNIPPETS]
    answer = client.completions.create(model=MODEL, prompt=prompts, max_tokens=60, temperature=0)
    programs = [
        snippet.before + choice.text + snippet.after for snippet, choice in zip(SNIPPETS, answer.choices, strict=True)
    ]
    assert sum(map(runs, programs)) >= 0.36 * len(SNIPPETS)
