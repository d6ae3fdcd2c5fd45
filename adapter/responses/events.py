"""A response as OpenAI's events: of the response, of its items, of what is in them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from adapter.chat.parts import AnswerParts, Part, PartDelta
from adapter.errors import ApiError
from adapter.responses.answer import (
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    OutputThought,
    ResponseAnswer,
    item_id,
    item_of,
)
from adapter.tensors import Generated, Usage

_DELTAS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "reasoning": ("response.reasoning_text.delta", {"content_index": 0}),
    "text": ("response.output_text.delta", {"content_index": 0, "logprobs": []}),
    "call": ("response.function_call_arguments.delta", {}),
}


class ResponseEvents:
    """An item is told from its first piece on, and is done when the next one begins."""

    def __init__(self, begun: ResponseAnswer) -> None:
        self._answer = begun
        self._said = AnswerParts()
        self._told: Part | None = None
        """The part that the last events were of."""
        self._num_events = 0

    def opening(self) -> bytes:
        response = {"response": self._answer}
        return self._event("response.created", response) + self._event("response.in_progress", response)

    def events(self, generated: Generated) -> bytes:
        return b"".join(self._added(added) for delta in generated.deltas for added in self._said.decode(delta))

    def closing(self, usage: Usage) -> bytes:
        ended = self._answer.ended(self._said.finish_reason, self._said.parts, usage)
        last = self._done(ended.output[-1]) if ended.output else b""
        return last + self._event(f"response.{ended.status}", {"response": ended})

    def ending(self, error: ApiError | None) -> bytes:
        """Nothing follows a response's last event. An error has OpenAI's fields and, below `error`, what SDKs raise."""
        if error is None:
            return b""
        fields = {"code": error.code, "message": error.message, "param": error.param}
        return self._event("error", {**fields, "error": {"type": error.type, **fields}})

    def _added(self, added: PartDelta) -> bytes:
        part, events = added.part, b""
        if part is not self._told:
            if self._told is not None:
                events += self._done(item_of(self._told, "completed"))
            self._told = part
            events += self._begun(part)
        if added.text:
            kind, fields = _DELTAS[part.kind]
            place = {"item_id": item_id(part), "output_index": part.index}
            events += self._event(kind, {**place, **fields, "delta": added.text})
        return events

    def _begun(self, part: Part) -> bytes:
        item = _empty(item_of(part, "in_progress"))
        added = self._event("response.output_item.added", {"output_index": part.index, "item": item})
        match part.kind:
            case "text":
                return added + self._content("added", part, OutputText(""))
            case "reasoning":
                return added + self._content("added", part, OutputThought(""))
            case "call":
                return added

    def _done(self, item: OutputItem) -> bytes:
        assert self._told is not None, "an item has been told before it is done"
        part = self._told
        place = {"item_id": item.id, "output_index": part.index}
        if isinstance(item, OutputCall):
            fields = {**place, "name": item.name, "arguments": item.arguments}
            events = self._event("response.function_call_arguments.done", fields)
        else:
            [content] = item.content
            fields = {**place, "content_index": 0, "text": content.text}
            if isinstance(content, OutputText):
                events = self._event("response.output_text.done", {**fields, "logprobs": []})
            else:
                events = self._event("response.reasoning_text.done", fields)
            events += self._content("done", part, content)
        return events + self._event("response.output_item.done", {"output_index": part.index, "item": item})

    def _content(self, step: str, part: Part, content: OutputText | OutputThought) -> bytes:
        place = {"item_id": item_id(part), "output_index": part.index, "content_index": 0}
        return self._event(f"response.content_part.{step}", {**place, "part": content})

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._num_events, **fields})
        self._num_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _empty(item: OutputItem) -> OutputItem:
    """As it is when it begins."""
    match item:
        case OutputCall():
            return replace(item, arguments="")
        case OutputMessage():
            return replace(item, content=[])
        case OutputReasoning():
            return replace(item, content=[])
