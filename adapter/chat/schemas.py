"""The body of `POST /v1/chat/completions`, and its answer."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from adapter.errors import InvalidRequest
from adapter.request_body import RequestModel
from adapter.sampling import MAX_INT32, SamplingFields
from adapter.tensors import TokenLogprob
from adapter.wire import UsageCounts

MAX_MESSAGES = 4096


class TextPart(RequestModel):
    type: Literal["text"]
    text: str


def _content_kind(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[TextPart], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_content_kind),
]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Message(RequestModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content = Field(description="A string, or a list of text parts, which are joined.")
    name: str | None = Field(None, description="Chat templates have no names: at most one per role.")

    # Present, empty, in an assistant's message that a client sends back as it came.
    refusal: None = None
    annotations: Nothing | None = None
    tool_calls: Nothing | None = None

    @model_validator(mode="before")
    @classmethod
    def _an_assistant_may_have_said_nothing(cls, fields: object) -> object:
        if isinstance(fields, dict) and fields.get("role") == "assistant" and fields.get("content", "") is None:
            return fields | {"content": ""}
        return fields

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class TextFormat(RequestModel):
    type: Literal["text"]


class ChatRequest(SamplingFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 100}]}
    )

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_INT32, description="Most tokens to generate per choice; the engine's default if absent."
    )
    logprobs: bool | None = Field(None, description="Return the log probability of every token.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives per token; only with `logprobs`.")

    # What follows cannot change an answer of this server.
    response_format: TextFormat | None = None
    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs: is only for requests with logprobs: true", param="top_logprobs")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            text = "max_completion_tokens: differs from max_tokens; give one of them"
            raise InvalidRequest(text, param="max_completion_tokens")
        speakers: dict[str, str] = {}
        for i, message in enumerate(self.messages):
            if message.name is not None and speakers.setdefault(message.role, message.name) != message.name:
                text = f"messages.{i}.name: the model cannot tell two names of the role {message.role!r} apart"
                raise InvalidRequest(text, param=f"messages.{i}.name")
        return self


@dataclass(frozen=True, slots=True)
class ChatLogprobs:
    content: list[TokenLogprob]
    refusal: None = None


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    role: Literal["assistant"] = field(default="assistant", init=False)
    content: str
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
