"""A response: what was asked, and the items that it is answered with."""

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from adapter.chat.parts import Part
from adapter.responses.items import ItemStatus
from adapter.responses.schemas import ResponsesRequest
from adapter.tensors import Usage
from adapter.wire import ReasoningTokens

_CUT_SHORT = ("length", "repetition")
"""Ends of answers that are not whole; OpenAI has the one word for both."""


@dataclass(frozen=True, slots=True)
class OutputText:
    type: Literal["output_text"] = field(default="output_text", init=False)
    text: str
    annotations: list[Any] = field(default_factory=list, init=False)
    logprobs: list[Any] = field(default_factory=list, init=False)


@dataclass(frozen=True, slots=True)
class OutputMessage:
    id: str
    type: Literal["message"] = field(default="message", init=False)
    status: ItemStatus
    role: Literal["assistant"] = field(default="assistant", init=False)
    content: list[OutputText]


@dataclass(frozen=True, slots=True)
class OutputThought:
    type: Literal["reasoning_text"] = field(default="reasoning_text", init=False)
    text: str


@dataclass(frozen=True, slots=True)
class OutputReasoning:
    id: str
    type: Literal["reasoning"] = field(default="reasoning", init=False)
    status: ItemStatus
    summary: list[Any] = field(default_factory=list, init=False)
    content: list[OutputThought]


@dataclass(frozen=True, slots=True)
class OutputCall:
    id: str
    type: Literal["function_call"] = field(default="function_call", init=False)
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    """JSON, as the model wrote it."""


OutputItem: TypeAlias = OutputMessage | OutputReasoning | OutputCall


@dataclass(frozen=True, slots=True)
class InputTokens:
    cached_tokens: int
    cache_write_tokens: int = field(default=0, init=False)
    """Nobody pays for what goes into the cache."""


@dataclass(frozen=True, slots=True)
class ResponseUsage:
    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> "ResponseUsage":
        given, said = usage.num_input_tokens, usage.num_output_tokens
        cached, thought = InputTokens(usage.num_cached_tokens), ReasoningTokens(usage.num_reasoning_tokens)
        return cls(given, cached, said, thought, given + said)


@dataclass(frozen=True, slots=True)
class IncompleteDetails:
    reason: Literal["max_output_tokens"] = "max_output_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAnswer:
    """Null where the server's or the checkpoint's default counts."""

    id: str
    object: Literal["response"] = field(default="response", init=False)
    created_at: int
    completed_at: int | None = None
    status: ItemStatus = "in_progress"
    error: None = field(default=None, init=False)
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = field(default_factory=list)
    usage: ResponseUsage | None = None

    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    reasoning: dict[str, Any]
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    user: str | None

    background: Literal[False] = field(default=False, init=False)
    previous_response_id: None = field(default=None, init=False)
    store: Literal[False] = field(default=False, init=False)
    truncation: Literal["disabled"] = field(default="disabled", init=False)

    def ended(self, finish_reason: str | None, parts: list[Part], usage: Usage) -> "ResponseAnswer":
        """The same with its end; the item that was being said then is as complete as the answer."""
        is_whole = finish_reason not in _CUT_SHORT
        statuses: list[ItemStatus] = ["completed"] * len(parts)
        if parts and not is_whole:
            statuses[-1] = "incomplete"
        return replace(
            self,
            completed_at=int(time.time()) if is_whole else None,
            status="completed" if is_whole else "incomplete",
            incomplete_details=None if is_whole else IncompleteDetails(),
            output=[item_of(part, status) for part, status in zip(parts, statuses, strict=True)],
            usage=ResponseUsage.of(usage),
        )


def begun(body: ResponsesRequest, model: str) -> ResponseAnswer:
    """An answer as it is before anything is said."""
    choice = body.tool_choice or "auto"
    answer_format = body.text.format if body.text else None
    shown = {"type": "text"} if answer_format is None else answer_format.model_dump(by_alias=True, exclude_none=True)
    return ResponseAnswer(
        id=f"resp_{secrets.token_hex(16)}",
        created_at=int(time.time()),
        model=model,
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        parallel_tool_calls=body.parallel_tool_calls is not False,
        reasoning={"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        temperature=body.temperature,
        text={"format": shown},
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        tools=[tool.model_dump() for tool in body.tools or ()],
        top_p=body.top_p,
        user=body.user,
    )


def item_of(part: Part, status: ItemStatus) -> OutputItem:
    match part.kind:
        case "reasoning":
            return OutputReasoning(item_id(part), status, [OutputThought(part.text)])
        case "text":
            return OutputMessage(item_id(part), status, [OutputText(part.text)])
        case "call":
            return OutputCall(item_id(part), status, f"call_{part.id[:24]}", part.name, part.text)


def item_id(part: Part) -> str:
    return {"reasoning": "rs_", "text": "msg_", "call": "fc_"}[part.kind] + part.id
