"""The JSON of the `chat` input."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import InvalidRequest

MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_TOOLS = 128
MAX_CALLS = 128
_UNION_TAGS = ("str", "list[Part]", "literal['none','auto','required']", "NamedTool")
"""What pydantic adds to a field's place for the members of a union."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Part(_Strict):
    """A piece of a message: a text, or the place of the next image."""

    type: Literal["text", "image"]
    text: str = ""

    @model_validator(mode="after")
    def _an_image_has_no_text(self) -> Part:
        if self.type == "image" and self.text:
            raise ValueError("an image has no text; send it as a part of its own")
        return self


class Call(_Strict):
    """A function and its arguments, a JSON object's text."""

    name: str
    arguments: str

    @model_validator(mode="after")
    def _arguments_are_an_object(self) -> Call:
        try:
            is_object = isinstance(json.loads(self.arguments or "{}"), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise ValueError("arguments must be the text of a JSON object")
        return self


class ToolCall(_Strict):
    """A call in an assistant's message."""

    id: str = ""
    type: Literal["function"] = "function"
    function: Call


Parts = Annotated[list[Part], Field(max_length=MAX_PARTS, fail_fast=True)]


class Message(_Strict):
    """One message of a chat, as the checkpoint's template gets it."""

    role: str
    content: str | Parts
    name: str | None = None
    reasoning_content: str | None = None
    """What an assistant thought before it said `content`."""
    tool_calls: list[ToolCall] | None = Field(None, max_length=MAX_CALLS, fail_fast=True)
    tool_call_id: str | None = None


class Function(_Strict):
    """A function that answers may call."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema; None: no arguments."""
    strict: bool | None = None
    """Whether the arguments are held to the schema where the model calls it by its own choice, too."""

    @model_validator(mode="after")
    def _arguments_are_an_object(self) -> Function:
        if self.parameters and self.parameters.get("type", "object") != "object":
            raise ValueError('parameters must be a schema of the type "object"')
        return self


class Tool(_Strict):
    type: Literal["function"]
    function: Function


class NamedTool(_Strict):
    name: str


class Chat(_Strict):
    """Unknown keys are refused."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    continue_final_message: bool = False
    """Whether the answer goes on with the last message, which is the assistant's, instead of following it."""
    tools: list[Tool] = Field([], max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    thinking: bool | None = None
    """None: as the checkpoint's template has it."""
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] = {}
    """Further variables for the template."""

    @model_validator(mode="after")
    def _only_an_assistants_message_goes_on(self) -> Chat:
        last = self.messages[-1]
        says_something = last.content or last.reasoning_content
        if self.continue_final_message and (last.role != "assistant" or not says_something):
            raise ValueError("continue_final_message: the last message must be the assistant's, and say something")
        return self

    @model_validator(mode="after")
    def _only_tools_that_are_given_are_chosen(self) -> Chat:
        names = [tool.function.name for tool in self.tools]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"tools: two of them are named {doubled}")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.name not in names:
            raise ValueError(f"tool_choice: there is no tool {self.tool_choice.name}; give one of tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: required needs tools")
        return self


def parse_chat(chat_json: bytes) -> Chat:
    """Read the `chat` input.

    Raises:
        InvalidRequest: the JSON is not a chat.
    """
    try:
        return Chat.model_validate_json(chat_json)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error" and not first["loc"]:
            field, _, sentence = str(first["ctx"]["error"]).partition(": ")
            raise InvalidRequest(field, sentence) from error
        place = [str(part) for part in first["loc"] if part not in _UNION_TAGS]
        raise InvalidRequest(".".join(place) or "chat", first["msg"]) from error
