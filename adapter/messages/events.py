"""A message as Anthropic's events: of the message, and of its blocks, one after the other."""

from dataclasses import asdict
from typing import Any

import orjson

from adapter.chat.parts import AnswerParts, Part, PartDelta
from adapter.errors import ApiError
from adapter.messages.answer import MessageAnswer, MessageUsage, Stop, block_of, new_message_id
from adapter.tensors import Generated, Usage

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTAS = {
    "reasoning": ("thinking_delta", "thinking"),
    "text": ("text_delta", "text"),
    "call": ("input_json_delta", "partial_json"),
}


class MessageEvents:
    """A block begins with its first piece, and ends where the next one begins."""

    def __init__(self, model: str, request_id: str) -> None:
        self._model = model
        self._request_id = request_id
        self._said = AnswerParts()
        self._has_begun = False
        self._told: Part | None = None
        """The part that the last events were of."""

    def opening(self) -> bytes:
        """Nothing: a message begins with how many tokens it was given, which the first response tells."""
        return b""

    def events(self, generated: Generated) -> bytes:
        events = b"" if self._has_begun else self._start(generated.usage or Usage())
        return events + b"".join(self._added(added) for delta in generated.deltas for added in self._said.decode(delta))

    def closing(self, usage: Usage) -> bytes:
        delta = Stop.of(self._said.finish_reason, self._said.stop_string)
        events = self._stop() + _event("message_delta", {"delta": delta, "usage": MessageUsage.of(usage)})
        return events + _event("message_stop", {})

    def ending(self, error: ApiError | None) -> bytes:
        """Nothing follows a message's last event."""
        return b"" if error is None else b"event: error\ndata: " + error.anthropic_body(self._request_id) + b"\n\n"

    def _start(self, usage: Usage) -> bytes:
        self._has_begun = True
        message = MessageAnswer(new_message_id(), self._model, [], None, None, MessageUsage.of(usage))
        return _event("message_start", {"message": message})

    def _added(self, added: PartDelta) -> bytes:
        part, events = added.part, b""
        if part is not self._told:
            events = self._stop() + _event("content_block_start", {"index": part.index, "content_block": _empty(part)})
            self._told = part
        if added.text:
            kind, name = _DELTAS[part.kind]
            events += _event("content_block_delta", {"index": part.index, "delta": {"type": kind, name: added.text}})
        return events

    def _stop(self) -> bytes:
        return b"" if self._told is None else _event("content_block_stop", {"index": self._told.index})


def _empty(part: Part) -> dict[str, Any]:
    """A block as it begins."""
    block = asdict(block_of(part))
    match part.kind:
        case "reasoning":
            return block | {"thinking": ""}
        case "text":
            return block | {"text": ""}
        case "call":
            return block | {"input": {}}


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"
