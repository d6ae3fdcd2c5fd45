"""The answer to a chat, whole."""

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

from adapter.generation import Choice
from adapter.tensors import TokenLogprob
from adapter.wire import UsageCounts


@dataclass(frozen=True, slots=True)
class ChatLogprobs:
    content: list[TokenLogprob]
    refusal: None = None


@dataclass(frozen=True, slots=True)
class AnsweredFunction:
    name: str
    arguments: str
    """JSON, as the model wrote it."""


@dataclass(frozen=True, slots=True)
class AnsweredCall:
    id: str
    type: Literal["function"] = field(default="function", init=False)
    function: AnsweredFunction


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """`content` is null where functions are called and nothing is said."""

    role: Literal["assistant"] = field(default="assistant", init=False)
    content: str | None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[AnsweredCall] | None = None
    refusal: None = None
    annotations: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ChatChoice:
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class ChatCompletion:
    id: str
    object: Literal["chat.completion"] = field(default="chat.completion", init=False)
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageCounts
    system_fingerprint: str | None


def new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def chat_choice(index: int, choice: Choice) -> ChatChoice:
    logprobs = None if choice.logprobs is None else ChatLogprobs(choice.logprobs)
    calls = [AnsweredCall(new_call_id(), AnsweredFunction(call.name, call.arguments)) for call in choice.calls]
    thought = choice.reasoning or None
    message = AssistantMessage(choice.text or (None if calls else ""), thought, thought, calls or None)
    return ChatChoice(index, message, logprobs, choice.finish_reason)
