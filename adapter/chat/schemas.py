"""The body of `POST /v1/chat/completions`."""

from functools import cached_property
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from adapter.chat.forms import JsonObjectFormat, JsonSchemaFormat, ResponseFormat
from adapter.chat.messages import ImagePart, ImageUrl, Message
from adapter.chat.tools import MAX_TOOLS, NamedTool, Tool, ToolChoice
from adapter.errors import InvalidRequest
from adapter.request_body import JsonObject, RequestModel
from adapter.sampling import GUIDED, MAX_INT32, SamplingFields

MAX_MESSAGES = 4096
MAX_IMAGES = 16
_THINKING = ("enable_thinking", "thinking")
"""What chat templates call the switch, in `chat_template_kwargs`."""


class Thinking(RequestModel):
    type: Literal["enabled", "disabled"]
    budget_tokens: int | None = Field(
        None, ge=1, le=MAX_INT32, description="Anthropic's name for `thinking_token_budget`."
    )


class ChatRequest(SamplingFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 100}]}
    )

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_INT32, description="Most tokens to generate per choice; the engine's default if absent."
    )
    continue_final_message: bool | None = Field(
        None, description="vLLM's name for `prefix` in the last message; the answer does not repeat it."
    )
    add_generation_prompt: bool | None = Field(
        None, description="vLLM's: false only with `continue_final_message`, for which it must not be true."
    )
    logprobs: bool | None = Field(None, description="Return the log probability of every token.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Alternatives per token; only with `logprobs`.")

    response_format: ResponseFormat | None = Field(
        None, description="JSON, or JSON of a schema: answers are held to it, also where `max_tokens` cuts them short."
    )

    tools: list[Tool] | None = Field(
        None, max_length=MAX_TOOLS, fail_fast=True, description="Functions that the answer may call."
    )
    tool_choice: ToolChoice | None = Field(
        None, description="`none`, `auto`, `required`, or one of `tools` by name; the last two are enforced."
    )
    parallel_tool_calls: bool | None = Field(None, description="False: at most one call.")
    thinking: Thinking | None = Field(None, description="DeepSeek's: whether to think before the answer.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="For checkpoints whose chat template knows it; `none` is `thinking: disabled`."
    )
    thinking_token_budget: int | None = Field(
        None,
        ge=-1,
        le=MAX_INT32,
        description="vLLM's: a thought that has had so many tokens is ended, and the answer follows; -1: never.",
    )
    chat_template_kwargs: JsonObject | None = Field(
        None, description="vLLM's: further switches of the checkpoint's chat template, such as `enable_thinking`."
    )

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
        self._check_continuation()
        self._check_tools()
        self._check_calls()
        self._check_thinking()
        if self.form and (held := next((name for name in GUIDED if getattr(self, name) is not None), None)):
            text = f"{held}: answers are held to response_format already; give one of them"
            raise InvalidRequest(text, param=held)
        self._check_images()
        return self

    @property
    def continues(self) -> bool:
        """Whether the answer goes on with the last message."""
        return bool(self.continue_final_message or self.messages[-1].prefix)

    @cached_property
    def form(self) -> dict[str, Any]:
        """The response format in the words of `sampling_parameters`."""
        match self.response_format:
            case JsonObjectFormat():
                return {"guided_json_object": True}
            case JsonSchemaFormat(json_schema=schema):
                return {"guided_json": True if schema.definition is None else schema.definition}
            case _:
                return {}

    def _check_continuation(self) -> None:
        last = len(self.messages) - 1
        for i, message in enumerate(self.messages):
            if message.prefix and (i < last or message.role != "assistant"):
                param = f"messages.{i}.prefix"
                raise InvalidRequest(f"{param}: is only for the last message, and an assistant's", param=param)
        says_something = self.messages[-1].text or self.messages[-1].thought
        if self.continues and (self.messages[-1].role != "assistant" or not says_something):
            param = f"messages.{last}"
            raise InvalidRequest(f"{param}: to be gone on with, must be an assistant's with some text", param=param)
        if self.add_generation_prompt is not None and self.add_generation_prompt == self.continues:
            must = "must be false with" if self.continues else "is false only with"
            text = f"add_generation_prompt: {must} continue_final_message: true or a prefix"
            raise InvalidRequest(text, param="add_generation_prompt")

    def _check_tools(self) -> None:
        names = [tool.function.name for tool in self.tools or ()]
        for i, name in enumerate(names):
            if name in names[:i]:
                param = f"tools.{i}.function.name"
                raise InvalidRequest(f"{param}: another tool is named {name!r} too", param=param)
        if self.tool_choice not in (None, "none", "auto") and not names:
            raise InvalidRequest("tool_choice: is only for requests with tools", param="tool_choice")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            text = f"tool_choice: there is no tool {self.tool_choice.function.name!r}; give one of tools"
            raise InvalidRequest(text, param="tool_choice")

    def _check_calls(self) -> None:
        """Who has called, and whether each result is of a call."""
        called: set[str] = set()
        for i, message in enumerate(self.messages):
            param = f"messages.{i}.tool_call_id"
            if (message.role == "tool") != (message.tool_call_id is not None):
                raise InvalidRequest(f"{param}: is for the role 'tool', which needs it", param=param)
            if message.tool_call_id is not None and message.tool_call_id not in called:
                text = f"{param}: no assistant's message before has a call of this id; send its tool_calls"
                raise InvalidRequest(text, param=param)
            for field in ("tool_calls", "reasoning_content", "reasoning"):
                if message.role != "assistant" and getattr(message, field):
                    param = f"messages.{i}.{field}"
                    raise InvalidRequest(f"{param}: is only for an assistant's message", param=param)
            called.update(call.id for call in message.tool_calls or ())

    @property
    def thought_budget(self) -> int | None:
        """Most tokens of a thought, by either name; -1: any number."""
        if self.thinking_token_budget is not None or self.thinking is None:
            return self.thinking_token_budget
        return self.thinking.budget_tokens

    def _check_thinking(self) -> None:
        if self.thinking and self.thinking.budget_tokens not in (None, self.thought_budget):
            param = "thinking.budget_tokens"
            raise InvalidRequest(f"{param}: differs from thinking_token_budget; give one of them", param=param)
        is_disabled = self.thinking is not None and self.thinking.type == "disabled"
        has_no_effort = self.reasoning_effort == "none"
        if self.thinking and self.reasoning_effort and is_disabled != has_no_effort:
            text = "reasoning_effort: contradicts thinking; give one of them"
            raise InvalidRequest(text, param="reasoning_effort")
        switches = self.chat_template_kwargs or {}
        is_switched_off = any(switches.get(name) is False for name in _THINKING)
        is_switched_off &= self.thinking is None and not self.messages[-1].thought  # either has the last word
        if (is_disabled or has_no_effort or is_switched_off) and self.thought_budget not in (None, -1):
            param = "thinking.budget_tokens" if self.thinking_token_budget is None else "thinking_token_budget"
            raise InvalidRequest(f"{param}: thinking is disabled; leave it out", param=param)

    @cached_property
    def images(self) -> dict[str, ImageUrl]:
        """In the order that the model sees them, by the path of each's field."""
        return {
            f"messages.{i}.content.{j}.image_url": part.image_url
            for i, message in enumerate(self.messages)
            for j, part in enumerate(message.parts)
            if isinstance(part, ImagePart)
        }

    @property
    def image_mode(self) -> Literal["small", "gundam"] | None:
        return next((image.mode for image in self.images.values() if image.mode), None)

    def _check_images(self) -> None:
        for i, message in enumerate(self.messages):
            if message.role != "user" and message.has_images:
                param = f"messages.{i}.content"
                raise InvalidRequest(f"{param}: only a user's message may have images", param=param)
        images = self.images
        if len(images) > MAX_IMAGES:
            raise InvalidRequest(f"messages: may have at most {MAX_IMAGES} images", param="messages")
        mode = self.image_mode
        for path, image in images.items():
            if image.mode not in (None, mode):
                text = f"{path}.detail: differs from another image's; the model reads all of a request's alike"
                raise InvalidRequest(text, param=f"{path}.detail")
