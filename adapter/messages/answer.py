"""A message as Anthropic's API answers with it."""

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic_core import from_json

from adapter.chat.parts import Part
from adapter.tensors import Usage

StopReason: TypeAlias = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]

_STOP_REASONS: dict[str | None, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "repetition": "max_tokens",
    "tool_calls": "tool_use",
}
"""Of finish reasons. Anthropic has the one word for all answers that are cut short."""


@dataclass(frozen=True, slots=True)
class Stop:
    stop_reason: StopReason | None
    stop_sequence: str | None

    @classmethod
    def of(cls, finish_reason: str | None, stop_string: str | None) -> "Stop":
        if finish_reason == "stop" and stop_string is not None:
            return cls("stop_sequence", stop_string)
        return cls(_STOP_REASONS.get(finish_reason), None)


@dataclass(frozen=True, slots=True)
class SaidText:
    type: Literal["text"] = field(default="text", init=False)
    text: str
    citations: None = field(default=None, init=False)


@dataclass(frozen=True, slots=True)
class SaidThought:
    type: Literal["thinking"] = field(default="thinking", init=False)
    thinking: str
    signature: str = field(default="", init=False)


@dataclass(frozen=True, slots=True)
class ToolUse:
    type: Literal["tool_use"] = field(default="tool_use", init=False)
    id: str
    name: str
    input: dict[str, Any]
    """As much as there is where the answer is cut short; `{"INVALID_JSON": "..."}` where the model wrote none."""


SaidBlock: TypeAlias = SaidText | SaidThought | ToolUse


@dataclass(frozen=True, slots=True)
class ThinkingTokens:
    thinking_tokens: int


@dataclass(frozen=True, slots=True)
class MessageUsage:
    input_tokens: int
    """Without the cached ones."""
    cache_creation_input_tokens: int = field(default=0, init=False)
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens

    @classmethod
    def of(cls, usage: Usage) -> "MessageUsage":
        cached, thought = usage.num_cached_tokens, ThinkingTokens(usage.num_reasoning_tokens)
        return cls(usage.num_input_tokens - cached, cached, usage.num_output_tokens, thought)


@dataclass(frozen=True, slots=True)
class MessageAnswer:
    id: str
    type: Literal["message"] = field(default="message", init=False)
    role: Literal["assistant"] = field(default="assistant", init=False)
    model: str
    content: list[SaidBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


def new_message_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


def block_of(part: Part) -> SaidBlock:
    match part.kind:
        case "reasoning":
            return SaidThought(part.text)
        case "text":
            return SaidText(part.text)
        case "call":
            return ToolUse(f"toolu_{part.id[:24]}", part.name, _input(part.text))


def _input(arguments: str) -> dict[str, Any]:
    try:
        given = from_json(arguments or "{}", allow_partial=True)
    except ValueError:
        given = None
    return given if isinstance(given, dict) else {"INVALID_JSON": arguments}


@dataclass(frozen=True, slots=True)
class TokenCount:
    input_tokens: int
    """Of the prompt as the model's chat template writes it."""
