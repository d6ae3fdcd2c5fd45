"""What a request for a response is as a chat."""

from typing import Any

from adapter.chat.translation import Places, TranslatedChat
from adapter.errors import InvalidRequest
from adapter.responses.items import (
    FunctionCallItem,
    FunctionOutputItem,
    InputContent,
    InputImage,
    InputItem,
    InputPart,
    InputText,
    MessageItem,
    ReasoningItem,
)
from adapter.responses.schemas import AnswerFormat, ChosenFunction, ResponsesRequest, TextSchemaFormat

_PLACES = {
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "tool_choice.function": "tool_choice",
    "messages": "input",
}


def translated(body: ResponsesRequest) -> TranslatedChat:
    """Raises `ApiError`, in the request's words."""
    places = Places(_PLACES)
    turns = _Turns(places)
    if body.instructions is not None:
        turns.say("system", body.instructions, "instructions")
        places.note("messages.0.content", "instructions")
    if isinstance(body.input, str):
        turns.say("user", body.input, "input")
        places.note(f"messages.{len(turns.messages) - 1}.content", "input")
    else:
        for i, item in enumerate(body.input):
            turns.add(item, f"input.{i}")
    for i in range(len(body.tools or ())):
        places.note(f"tools.{i}.function", f"tools.{i}")
    choice = body.tool_choice
    fields = {
        "messages": turns.messages,
        "tools": [_nested(tool.model_dump()) for tool in body.tools or ()] or None,
        "tool_choice": _nested(choice.model_dump()) if isinstance(choice, ChosenFunction) else choice,
        "max_tokens": body.max_output_tokens,
        "response_format": _format(body.text.format) if body.text and body.text.format else None,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
    }
    for name in ("model", "stream", "temperature", "top_p", "parallel_tool_calls", "user", "metadata"):
        fields[name] = getattr(body, name)
    return TranslatedChat(fields, places)


class _Turns:
    """The chat's messages: items that an assistant said in a row are one."""

    def __init__(self, places: Places) -> None:
        self.messages: list[dict[str, Any]] = []
        self._places = places

    def say(self, role: str, content: str | list[dict[str, Any]], place: str, **fields: str) -> None:
        self._places.note(f"messages.{len(self.messages)}", place)
        self.messages.append({"role": role, "content": content, **fields})

    def add(self, item: InputItem, place: str) -> None:
        match item:
            case MessageItem(role="assistant"):
                self._answer(item, place)
            case MessageItem():
                self.say(item.role, self._content(item.content, f"{place}.content"), place)
            case ReasoningItem():
                self._turn(place, begins=("content", "tool_calls"))["reasoning_content"] += item.text
            case FunctionCallItem():
                turn = self._turn(place, begins=())
                field = f"messages.{len(self.messages) - 1}.tool_calls.{len(turn['tool_calls'])}"
                self._places.note(field, place)
                self._places.note(f"{field}.function", place)
                function = {"name": item.name, "arguments": item.arguments}
                turn["tool_calls"].append({"id": item.call_id, "type": "function", "function": function})
            case FunctionOutputItem():
                self.say("tool", self._content(item.output, f"{place}.output"), place, tool_call_id=item.call_id)
                self._places.note(f"messages.{len(self.messages) - 1}.content", f"{place}.output")
                self._places.note(f"messages.{len(self.messages) - 1}.tool_call_id", f"{place}.call_id")

    def _answer(self, item: MessageItem, place: str) -> None:
        last = self.messages[-1] if self.messages else {}
        # What was said behind a call belongs to its turn: the call's output follows.
        turn = self._turn(place, begins=() if last.get("tool_calls") else ("content",))
        self._places.note(f"messages.{len(self.messages) - 1}.content", f"{place}.content")
        turn["content"] += item.content if isinstance(item.content, str) else _said(item.content, f"{place}.content")

    def _turn(self, place: str, begins: tuple[str, ...]) -> dict[str, Any]:
        """The assistant's turn that goes on; a new one where the last has any of `begins`."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or any(last[name] for name in begins):
            self.say("assistant", "", place)
            self.messages[-1] |= {"reasoning_content": "", "tool_calls": []}
        return self.messages[-1]

    def _content(self, content: InputContent, place: str) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return content
        parts: list[dict[str, Any]] = []
        for i, part in enumerate(content):
            if isinstance(part, InputImage):
                field = f"messages.{len(self.messages)}.content.{i}.image_url"
                self._places.note(f"{field}.url", f"{place}.{i}.image_url")
                self._places.note(f"{field}.detail", f"{place}.{i}.detail")
                parts.append({"type": "image_url", "image_url": {"url": part.image_url, "detail": part.detail}})
            else:
                parts.append({"type": "text", "text": part.text})
        return parts


def _said(parts: list[InputPart], place: str) -> str:
    for i, part in enumerate(parts):
        if isinstance(part, InputImage):
            text = f"{place}.{i}: only a user's message may have images"
            raise InvalidRequest(text, param=f"{place}.{i}")
    return "".join(part.text for part in parts if isinstance(part, InputText))


def _nested(function: dict[str, Any]) -> dict[str, Any]:
    """As chats name a function: one level below."""
    return {"type": function.pop("type"), "function": function}


def _format(answer_format: AnswerFormat) -> dict[str, Any]:
    if isinstance(answer_format, TextSchemaFormat):
        schema = answer_format.model_dump(by_alias=True)
        return {"type": schema.pop("type"), "json_schema": schema}
    return answer_format.model_dump()
