"""What a request for a message is as a chat."""

from collections.abc import Sequence
from typing import Any

import orjson

from adapter.chat.translation import Places, TranslatedChat
from adapter.errors import InvalidRequest
from adapter.messages.blocks import (
    AnyBlock,
    InputImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    TurnMessage,
)
from adapter.messages.schemas import ClientTool, MessagesPrompt, MessagesRequest, ToolChoice

_PLACES = {
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning_effort": "output_config.effort",
    "thinking_token_budget": "thinking.budget_tokens",
    "response_format": "output_config.format",
    "response_format.json_schema": "output_config.format",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_ROLES = {
    InputImageBlock: "user",
    ToolResultBlock: "user",
    ThinkingBlock: "assistant",
    ToolUseBlock: "assistant",
}
"""Who may say what is no text."""


def translated(body: MessagesPrompt) -> TranslatedChat:
    """Raises `ApiError`, in the request's words."""
    places = Places(_PLACES)
    turns = _Turns(places)
    if body.system is not None:
        places.note("messages.0.content", "system")
        turns.say("system", body.system if isinstance(body.system, str) else _text(body.system), "system")
    for i, message in enumerate(body.messages):
        turns.add(message, f"messages.{i}")
    turns.go_on()
    for i in range(len(body.tools or ())):
        places.note(f"tools.{i}.function", f"tools.{i}")
        places.note(f"tools.{i}.function.parameters", f"tools.{i}.input_schema")
    choice, output = body.tool_choice, body.output_config
    schema = output.format.definition if output and output.format else None
    fields: dict[str, Any] = {
        "messages": turns.messages,
        "tools": [_tool(tool) for tool in body.tools or ()] or None,
        "tool_choice": None if choice is None else _choice(choice),
        "parallel_tool_calls": False if choice and choice.disable_parallel_tool_use else None,
        "thinking": _thinking(body),
        "reasoning_effort": output.effort if output else None,
        "response_format": None if schema is None else _format(schema),
        "model": body.model,
    }
    if isinstance(body, MessagesRequest):
        fields |= {name: getattr(body, name) for name in ("stream", "max_tokens", "temperature", "top_p", "top_k")}
        fields |= {"thinking_token_budget": body.thought_budget, "stop": body.stop_sequences}
        fields |= {"user": body.metadata.user_id if body.metadata else None}
    return TranslatedChat(fields, places)


class _Turns:
    """The chat's messages; a user's message with tools' results is several."""

    def __init__(self, places: Places) -> None:
        self.messages: list[dict[str, Any]] = []
        self._places = places
        self._place = ""
        """Of the last message."""

    def say(self, role: str, content: str | list[dict[str, Any]], place: str, **fields: Any) -> None:
        self._places.note(f"messages.{len(self.messages)}", place)
        self._place = place
        self.messages.append({"role": role, "content": content, **fields})

    def add(self, message: TurnMessage, place: str) -> None:
        if isinstance(message.content, str):
            self.say(message.role, message.content, place)
            return
        for i, block in enumerate(message.content):
            role = _ROLES.get(type(block), message.role)
            if role != message.role:
                param = f"{place}.content.{i}"
                text = f"{param}: {block.type} is for the role {role!r}"
                raise InvalidRequest(text, param=param)
        if message.role == "assistant":
            self._answer(message.content, place)
        else:
            self._ask(message.role, message.content, place)

    def go_on(self) -> None:
        """An assistant's message at the end is the answer's beginning."""
        last = self.messages[-1]
        if last["role"] != "assistant":
            return
        if last.get("tool_calls"):
            param = f"{self._place}.content"
            text = f"{param}: an answer can't go on behind a tool_use; send its tool_result"
            raise InvalidRequest(text, param=param)
        last["prefix"] = True
        self._places.note(f"messages.{len(self.messages) - 1}.prefix", self._place)

    def _ask(self, role: str, blocks: Sequence[AnyBlock], place: str) -> None:
        said: list[dict[str, Any]] = []
        for i, block in enumerate(blocks):
            if isinstance(block, ToolResultBlock):
                if said:
                    self.say(role, said, place)
                    said = []
                self._result(block, f"{place}.content.{i}", place)
            elif isinstance(block, InputImageBlock):
                field = f"messages.{len(self.messages)}.content.{len(said)}.image_url.url"
                self._places.note(field, f"{place}.content.{i}.source")
                said.append({"type": "image_url", "image_url": {"url": block.source.as_url}})
            elif isinstance(block, TextBlock):
                said.append({"type": "text", "text": block.text})
        if said or not blocks:
            self.say(role, said, place)

    def _result(self, block: ToolResultBlock, field: str, place: str) -> None:
        if isinstance(block.content, str):
            text = block.content
        elif images := [j for j, part in enumerate(block.content) if isinstance(part, InputImageBlock)]:
            param = f"{field}.content.{images[0]}"
            raise InvalidRequest(f"{param}: a tool's result is text; send images beside it", param=param)
        else:
            text = _text(block.content)
        self._places.note(f"messages.{len(self.messages)}.content", f"{field}.content")
        self._places.note(f"messages.{len(self.messages)}.tool_call_id", f"{field}.tool_use_id")
        self.say("tool", f"Error: {text}" if block.is_error else text, place, tool_call_id=block.tool_use_id)

    def _answer(self, blocks: Sequence[AnyBlock], place: str) -> None:
        at = f"messages.{len(self.messages)}"
        calls: list[dict[str, Any]] = []
        thought = ""
        for i, block in enumerate(blocks):
            if isinstance(block, ThinkingBlock):
                self._places.note(f"{at}.reasoning_content", f"{place}.content.{i}.thinking")
                thought += block.thinking
            elif isinstance(block, ToolUseBlock):
                self._places.note(f"{at}.tool_calls.{len(calls)}", f"{place}.content.{i}")
                self._places.note(f"{at}.tool_calls.{len(calls)}.function", f"{place}.content.{i}")
                self._places.note(f"{at}.tool_calls.{len(calls)}.function.arguments", f"{place}.content.{i}.input")
                function = {"name": block.name, "arguments": orjson.dumps(block.input).decode()}
                calls.append({"id": block.id, "type": "function", "function": function})
        self.say("assistant", _text(blocks), place, reasoning_content=thought or None, tool_calls=calls or None)


def _text(blocks: Sequence[AnyBlock]) -> str:
    return "".join(block.text for block in blocks if isinstance(block, TextBlock))


def _tool(tool: ClientTool) -> dict[str, Any]:
    function = tool.model_dump(include={"name", "description", "strict"})
    return {"type": "function", "function": function | {"parameters": tool.input_schema}}


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return _CHOICES[choice.type]


def _thinking(body: MessagesPrompt) -> dict[str, str] | None:
    if body.thinking is None or body.thinking.type == "adaptive":
        return None
    return {"type": body.thinking.type}


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
