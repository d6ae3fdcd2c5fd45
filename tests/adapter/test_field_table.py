"""README's table of fields: all that is documented elsewhere is in it, and it says what happens."""

from __future__ import annotations

import re
import typing
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from adapter.chat.messages import Message
from adapter.chat.schemas import ChatRequest
from adapter.completions.schemas import CompletionRequest
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.test_sampling_fields import ARRIVE, INERT
from tests.adapter.test_tools import CALL, RESULT

COLUMNS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", ChatRequest, {"messages": [{"role": "user", "content": "hi"}]}),
    "completions": ("/v1/completions", CompletionRequest, {"prompt": "once"}),
}
DEEPSEEK = {
    "chat": "messages model thinking reasoning_effort frequency_penalty max_tokens presence_penalty response_format "
    "stop stream stream_options temperature top_p tools tool_choice logprobs top_logprobs",
    "completions": "model prompt echo frequency_penalty logprobs max_tokens presence_penalty stop stream "
    "stream_options suffix temperature top_p",
    "messages": "role content name prefix reasoning_content tool_call_id tool_calls",
}
"""Of https://api-docs.deepseek.com: chat completions, FIM completions, and the former's messages."""

USER: dict[str, Any] = {"role": "user", "content": "hi"}
BEGUN = [USER, {"role": "assistant", "content": "Well"}]
TOOL = {"type": "function", "function": {"name": "f"}}
CALLED = {"role": "assistant", "tool_calls": [CALL, CALL | {"id": "call_2"}]}

# Values that change something; of those of both endpoints most are in ARRIVE.
OF_BOTH: dict[str, Any] = {field: value for field, value, arrives in ARRIVE if arrives is not None}
OF_BOTH |= {"model": "deepseek-ocr", "stream": True, "n": 2, "vllm_xargs": {"ngram_size": 3}}
OF_ONE: dict[str, dict[str, Any]] = {
    "chat": {
        "messages": [USER | {"content": "bye"}],
        "max_completion_tokens": 9,
        "logprobs": True,
        "response_format": {"type": "json_object"},
        "tools": [TOOL],
        "thinking": {"type": "disabled"},
        "reasoning_effort": "high",
        "chat_template_kwargs": {"a": 1},
        "thinking_token_budget": 5,
    },
    "completions": {"prompt": "twice", "suffix": "end", "echo": True, "logprobs": 0},
}
# With it and without, where it needs another field.
EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stream_options": ({"stream_options": {"include_usage": True}}, {"stream": True}),
    "top_logprobs": ({"top_logprobs": 2}, {"logprobs": True}),
    "tool_choice": ({"tool_choice": "required"}, {"tools": [TOOL]}),
    "parallel_tool_calls": ({"parallel_tool_calls": False}, {"tools": [TOOL]}),
    "continue_final_message": ({"continue_final_message": True}, {"messages": BEGUN}),
}
# Messages with it and without.
MESSAGES: dict[str, tuple[list[Any], list[Any]]] = {
    "role": ([USER | {"role": "system"}, USER], [USER, USER]),
    "content": ([USER | {"content": "bye"}], [USER]),
    "prefix": ([USER, BEGUN[1] | {"prefix": True}], BEGUN),
    "reasoning_content": ([USER, BEGUN[1] | {"reasoning_content": "Hm"}], BEGUN),
    "tool_calls": ([USER, BEGUN[1] | {"tool_calls": [CALL]}], BEGUN),
    "tool_call_id": ([USER, CALLED, RESULT | {"tool_call_id": "call_2"}], [USER, CALLED, RESULT]),
}
ASSERTS = {"name", "add_generation_prompt"}
"""Their values say what is so in any case; others are refused."""


def table() -> dict[str, dict[str, dict[str, str]]]:
    """What each column says of each field; a message's fields apart."""
    said: dict[str, dict[str, dict[str, str]]] = {"fields": {}, "messages": {}}
    _, _, rest = Path("README.md").read_text().partition("| fields | chat | completions |\n|---|---|---|\n")
    for line in rest.partition("\n\n")[0].splitlines():
        names, chat, completions = (cell.strip() for cell in line.strip("|").split("|"))
        part = said["messages" if names.startswith("in messages") else "fields"]
        for name in re.findall(r"`(\w+)`", names):
            assert name not in part, f"{name} is there twice"
            part[name] = {"chat": chat, "completions": completions}
    return said


TABLE = table()


@pytest.mark.parametrize("column", COLUMNS)
def test_all_that_is_documented_is_in_it(column: str) -> None:
    module: Any = {"chat": chat_create_params, "completions": completion_create_params}[column]
    documented = set(typing.get_type_hints(module.CompletionCreateParamsStreaming)) | set(DEEPSEEK[column].split())
    assert documented <= TABLE["fields"].keys()
    assert set(DEEPSEEK["messages"].split()) == TABLE["messages"].keys()


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", TABLE["fields"])
def test_it_says_what_happens(http: httpx.Client, triton: FakeTriton, name: str, column: str) -> None:
    path, schema, required = COLUMNS[column]
    match TABLE["fields"][name][column]:
        case "works" if name in ASSERTS:
            assert name in schema.model_fields
        case "works":
            assert name in schema.model_fields
            with_it, without = EFFECTS.get(name) or ({name: (OF_BOTH | OF_ONE[column])[name]}, {})
            has_an_effect(http, triton, path, required | without | with_it, required | without)
        case "400":
            response = http.post(path, json=required | {name: "x"})
            assert (response.status_code, response.json()["error"]["param"]) == (400, name)
        case "changes nothing":
            http.post(path, json=required)
            assert http.post(path, json=required | {name: INERT[name]}).status_code == 200
            assert triton.seen[0].inputs == triton.seen[1].inputs
        case _:  # one value alone
            assert http.post(path, json=required | {name: INERT[name]}).status_code == 200
            assert http.post(path, json=required | {name: ["x"]}).status_code == 400


@pytest.mark.parametrize("name", [name for name in TABLE["messages"] if name not in ASSERTS])
def test_it_says_what_happens_in_messages(http: httpx.Client, triton: FakeTriton, name: str) -> None:
    assert TABLE["messages"][name] == {"chat": "works", "completions": "400"}
    with_it, without = ({"messages": messages} for messages in MESSAGES[name])
    has_an_effect(http, triton, COLUMNS["chat"][0], with_it, without)


@pytest.mark.parametrize(
    ("refused", "param"),
    [
        ({"messages": [USER | {"name": "a"}, USER | {"name": "b"}]}, "messages.1.name"),
        ({"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
    ],
)
def test_what_only_says_what_is_so_is_refused_where_it_is_not(
    http: httpx.Client, refused: dict[str, Any], param: str
) -> None:
    response = http.post(COLUMNS["chat"][0], json=refused)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def has_an_effect(
    http: httpx.Client, triton: FakeTriton, path: str, with_it: dict[str, Any], without: dict[str, Any]
) -> None:
    """On what the model is asked, or on the answer."""
    triton.reply = reply
    answers = [http.post(path, json=body) for body in (with_it, without)]
    assert [given.status_code for given in answers] == [200, 200], answers[0].text
    asked = [(seen.model, seen.inputs) for seen in triton.seen]
    assert asked[0] != asked[1] or said(answers[0]) != said(answers[1])


def said(response: httpx.Response) -> str:
    """Without what no two answers have in common."""
    return re.sub(r'"(id|created)":("[^"]*"|\d+)', "", response.text)


async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
    num_choices = seen.sampling.get("n", 1)
    yield answer(*["Hi"] * num_choices, index=range(num_choices), finish=["stop"] * num_choices, usage=USAGE)


def test_nothing_else_is_taken() -> None:
    for _, schema, _ in COLUMNS.values():
        assert schema.model_fields.keys() <= TABLE["fields"].keys()
    inert = {"reasoning", "refusal", "annotations", "audio", "function_call"}
    assert Message.model_fields.keys() == TABLE["messages"].keys() | inert
