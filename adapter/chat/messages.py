"""The messages of a chat: texts, images, calls of tools and their results."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from adapter.chat.tools import MAX_CALLS, ToolCall
from adapter.request_body import RequestModel, text_or_list


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


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[ContentPart], Field(fail_fast=True), Tag("<list>")],
    Discriminator(text_or_list),
]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Message(RequestModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = Field(
        description="A string, or a list of parts: texts, which are joined, and, from a user, images, read in order."
    )
    name: str | None = Field(None, description="Chat templates have no names: at most one per role.")
    prefix: bool | None = Field(
        None, description="DeepSeek's: the answer goes on with this message, the last one and the assistant's."
    )

    reasoning_content: str | None = Field(
        None, description="What an assistant thought before it said `content`; with `prefix` the thought goes on."
    )
    reasoning: str | None = Field(None, description="The same by another name.")
    tool_calls: list[ToolCall] | None = Field(
        None, max_length=MAX_CALLS, fail_fast=True, description="Of an assistant; a tool's message answers each."
    )
    tool_call_id: str | None = Field(None, description="Of a tool's message: the call that it answers.")

    # Present, empty, in an assistant's message that a client sends back as it came.
    refusal: None = None
    annotations: Nothing | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="before")
    @classmethod
    def _an_assistant_may_have_said_nothing(cls, fields: object) -> object:
        if not isinstance(fields, dict) or fields.get("role") != "assistant" or fields.get("content") is not None:
            return fields
        says_something_else = any(fields.get(name) for name in ("tool_calls", "reasoning_content", "reasoning"))
        return fields | {"content": ""} if "content" in fields or says_something_else else fields

    @property
    def parts(self) -> Sequence[TextPart | ImagePart]:
        return () if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def thought(self) -> str:
        return self.reasoning_content or self.reasoning or ""

    @property
    def has_images(self) -> bool:
        return any(isinstance(part, ImagePart) for part in self.parts)
