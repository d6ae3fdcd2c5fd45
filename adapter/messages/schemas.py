"""The body of `POST /v1/messages`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from adapter.chat.schemas import MAX_MESSAGES
from adapter.chat.tools import MAX_TOOLS, FunctionName
from adapter.errors import InvalidRequest
from adapter.messages.blocks import Block, CacheControl, TextBlock, TurnMessage
from adapter.request_body import JsonObject, RequestModel, text_or_list
from adapter.sampling import MAX_INT32, StopString


def _known_tool(value: object) -> object:
    if value != "custom":
        raise ValueError('must be "custom", or left out; this server has no tools of its own')
    return value


class ClientTool(Block):
    type: Annotated[Literal["custom"], BeforeValidator(_known_tool)] | None = None
    name: FunctionName
    description: str | None = None
    input_schema: JsonObject
    strict: bool | None = Field(None, description="Hold the input to the schema also where nobody demands the tool.")


class ToolChoice(RequestModel):
    type: Literal["auto", "any", "tool", "none"] = Field(description="`any` and `tool` are enforced.")
    name: FunctionName | None = Field(None, description="Of the tool; only with the type `tool`.")
    disable_parallel_tool_use: bool | None = Field(None, description="True: at most one use.")


class ThinkingConfig(RequestModel):
    type: Literal["enabled", "disabled", "adaptive"] = Field(
        description="Whether to think before the answer; `adaptive` is as the checkpoint has it."
    )
    budget_tokens: int | None = Field(
        None,
        ge=1,
        le=MAX_INT32,
        description="A thought that has had so many tokens is ended; from `max_tokens` on there is no bound.",
    )

    @model_validator(mode="after")
    def _bounds_a_thought(self) -> "ThinkingConfig":
        if self.type == "disabled" and self.budget_tokens is not None:
            param = "thinking.budget_tokens"
            raise InvalidRequest(f"{param}: thinking is disabled; leave it out", param=param)
        return self


class SchemaFormat(RequestModel):
    type: Literal["json_schema"]
    definition: JsonObject = Field(alias="schema")


class OutputConfig(RequestModel):
    effort: Literal["low", "medium", "high", "xhigh"] | None = Field(
        None, description="For checkpoints whose chat template knows it."
    )
    format: SchemaFormat | None = Field(None, description="Answers are held to it.")


class RequestMetadata(RequestModel):
    user_id: str | None = None


class MessagesPrompt(RequestModel):
    """What the model is told, which is also the body of `POST /v1/messages/count_tokens`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Hello!"}]}]})

    model: str | None = Field(None, description="One of `/v1/models`; the server's default model if absent.")
    messages: list[TurnMessage] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        fail_fast=True,
        description="The answer goes on with the last one where that is the assistant's.",
    )
    system: (
        Annotated[
            Annotated[str, Tag("<text>")] | Annotated[list[TextBlock], Field(fail_fast=True), Tag("<list>")],
            Discriminator(text_or_list),
        ]
        | None
    ) = None
    tools: list[ClientTool] | None = Field(
        None, max_length=MAX_TOOLS, fail_fast=True, description="Tools that the answer may use."
    )
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = Field(None, description="Changes nothing: all prompts are cached.")

    @model_validator(mode="after")
    def _a_tool_has_a_name(self) -> "MessagesPrompt":
        choice = self.tool_choice
        if choice and (choice.type == "tool") != (choice.name is not None):
            param = "tool_choice.name"
            raise InvalidRequest(f"{param}: is for the type 'tool', which needs it", param=param)
        return self


class MessagesRequest(MessagesPrompt):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"max_tokens": 100, "messages": [{"role": "user", "content": "Hello!"}]}]}
    )

    max_tokens: int = Field(ge=1, le=MAX_INT32, description="Most tokens to generate, thoughts included.")
    temperature: float | None = Field(None, ge=0, le=1, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=MAX_INT32, description="0 turns it off.")
    stop_sequences: Annotated[list[StopString], Field(max_length=16, fail_fast=True)] | None = None
    stream: bool = Field(False, description="Answer with server-sent events as the text is generated.")

    # What follows cannot change an answer of this server.
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    @property
    def thought_budget(self) -> int | None:
        """Most tokens of a thought, where that is fewer than of the answer."""
        budget = self.thinking.budget_tokens if self.thinking else None
        return None if budget is None or budget >= self.max_tokens else budget
