"""The body of `POST /v1/chat/completions`, and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from adapter.errors import InvalidRequest
from adapter.request_body import RequestModel
from adapter.sampling import GUIDED, MAX_INT32, SamplingFields
from adapter.tensors import TokenLogprob
from adapter.wire import UsageCounts

MAX_MESSAGES = 4096
MAX_IMAGES = 16


def _known_part(value: object) -> object:
    if value != "text":
        raise ValueError('must be "text" or "image_url"; documents go to /ocr/file')
    return value


class TextPart(RequestModel):
    type: Annotated[Literal["text"], BeforeValidator(_known_part)]
    text: str


class ImageUrl(RequestModel):
    url: str = Field(description="A data URL; an http(s) URL where the server allows it.")
    detail: Literal["auto", "low", "high"] | None = Field(
        None, description="`low` reads all images of the request in mode `small`, `high` in mode `gundam`."
    )

    @property
    def mode(self) -> Literal["small", "gundam"] | None:
        """DeepSeek-OCR's name of the detail; None leaves it to the model."""
        match self.detail:
            case "low":
                return "small"
            case "high":
                return "gundam"
            case _:
                return None


def _url_as_object(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


ImageUrlOrString = Annotated[ImageUrl, BeforeValidator(_url_as_object, json_schema_input_type=ImageUrl | str)]


class ImagePart(RequestModel):
    type: Literal["image_url"]
    image_url: ImageUrlOrString


def _part_kind(value: object) -> str:
    return "<image>" if isinstance(value, dict) and value.get("type") == "image_url" else "<text>"


ContentPart = Annotated[
    Annotated[TextPart, Tag("<text>")] | Annotated[ImagePart, Tag("<image>")],
    Discriminator(_part_kind),
]


def _content_kind(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[ContentPart], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_content_kind),
]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Message(RequestModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content = Field(
        description="A string, or a list of parts: texts, which are joined, and, from a user, images, read in order."
    )
    name: str | None = Field(None, description="Chat templates have no names: at most one per role.")
    prefix: bool | None = Field(
        None, description="DeepSeek's: the answer goes on with this message, the last one and the assistant's."
    )

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
    def parts(self) -> Sequence[TextPart | ImagePart]:
        return () if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def has_images(self) -> bool:
        return any(isinstance(part, ImagePart) for part in self.parts)


class TextFormat(RequestModel):
    type: Literal["text"]


class JsonObjectFormat(RequestModel):
    type: Literal["json_object"]


class JsonSchema(RequestModel):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    definition: dict[str, Any] | None = Field(None, alias="schema", description="Any JSON if absent.")
    strict: bool | None = Field(None, description="Answers are held to it in any case.")


class JsonSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchema


def _format_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


def _known_format(value: object) -> object:
    if isinstance(value, dict) and value.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError('type must be "text", "json_object" or "json_schema"')
    return value


ResponseFormat = Annotated[
    Annotated[TextFormat, BeforeValidator(_known_format), Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(_format_kind),
]


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

    # What follows cannot change an answer of this server.
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
        self._check_continuation()
        for name in GUIDED:
            if self.form and getattr(self, name) is not None:
                text = f"{name}: answers are held to response_format already; give one of them"
                raise InvalidRequest(text, param=name)
        self._check_images()
        return self

    @property
    def continues(self) -> bool:
        """Whether the answer goes on with the last message."""
        return bool(self.continue_final_message or self.messages[-1].prefix)

    @property
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
        if self.continues and (self.messages[-1].role != "assistant" or not self.messages[-1].text):
            param = f"messages.{last}"
            raise InvalidRequest(f"{param}: to be gone on with, must be an assistant's with some text", param=param)
        if self.add_generation_prompt is not None and self.add_generation_prompt == self.continues:
            must = "must be false with" if self.continues else "is false only with"
            text = f"add_generation_prompt: {must} continue_final_message: true or a prefix"
            raise InvalidRequest(text, param="add_generation_prompt")

    @property
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
