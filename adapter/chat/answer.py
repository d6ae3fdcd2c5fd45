"""The answer to a chat, whole."""

import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict

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


class AssistantMessage(TypedDict):
    """What there was none of is left out; `content` is null where functions are called and nothing is said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[Any]
    reasoning_content: NotRequired[str]
    reasoning: NotRequired[str]
    tool_calls: NotRequired[list[AnsweredCall]]


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
    return f"call_{secrets.token_hex(12)}"


def chat_choice(index: int, choice: Choice) -> ChatChoice:
    logprobs = None if choice.logprobs is None else ChatLogprobs(choice.logprobs)
    calls = [AnsweredCall(new_call_id(), AnsweredFunction(call.name, call.arguments)) for call in choice.calls]
    content = choice.text or (None if calls else "")
    message: AssistantMessage = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if thought := choice.reasoning:
        message["reasoning_content"] = message["reasoning"] = thought
    if calls:
        message["tool_calls"] = calls
    return ChatChoice(index, message, logprobs, choice.finish_reason)
