"""README's table of fields: all that is documented elsewhere is in it, and it says what happens."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from adapter.chat.messages import Message
from adapter.chat.schemas import ChatRequest
from adapter.completions.schemas import CompletionRequest
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.test_sampling_fields import INERT

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
        case "works":
            assert name in schema.model_fields
            assert name not in INERT or name in (
                "echo",
                "response_format",
                "tools",
                "tool_choice",
                "parallel_tool_calls",
            )
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


def test_nothing_else_is_taken() -> None:
    for _, schema, _ in COLUMNS.values():
        assert schema.model_fields.keys() <= TABLE["fields"].keys()
    inert = {"reasoning", "refusal", "annotations", "audio", "function_call"}
    assert Message.model_fields.keys() == TABLE["messages"].keys() | inert
