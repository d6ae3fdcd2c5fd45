"""The messages of Anthropic's API: texts, images, thoughts, uses of tools and their results."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from adapter.chat.messages import Nothing
from adapter.chat.tools import FunctionName
from adapter.request_body import JsonObject, RequestModel, text_or_list

_KINDS = ("image", "thinking", "tool_use", "tool_result")


class CacheControl(RequestModel):
    """Accepted anywhere: what prompts have in common is cached in any case."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(RequestModel):
    cache_control: CacheControl | None = None


def _known_block(value: object) -> object:
    if value != "text":
        raise ValueError('must be "text", "image", "thinking", "tool_use" or "tool_result"; documents go to /ocr/file')
    return value


class TextBlock(Block):
    type: Annotated[Literal["text"], BeforeValidator(_known_block)]
    text: str
    citations: Nothing | None = None


class Base64Source(RequestModel):
    type: Literal["base64"]
    media_type: str = Field(pattern=r"^image/[a-z0-9.+-]+$")
    data: str

    @property
    def as_url(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


def _known_source(value: object) -> object:
    if value != "url":
        raise ValueError('must be "base64" or "url"; this server keeps no files')
    return value


class UrlSource(RequestModel):
    type: Annotated[Literal["url"], BeforeValidator(_known_source)]
    url: str = Field(description="An http(s) URL where the server allows it, or a data URL.")

    @property
    def as_url(self) -> str:
        return self.url


def _source_kind(value: object) -> str:
    return "<base64>" if isinstance(value, dict) and value.get("type") == "base64" else "<url>"


class InputImageBlock(Block):
    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source, Tag("<base64>")] | Annotated[UrlSource, Tag("<url>")], Discriminator(_source_kind)
    ]


class ThinkingBlock(RequestModel):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = Field(None, description="This server signs nothing, and checks none.")


class ToolUseBlock(Block):
    type: Literal["tool_use"]
    id: str
    name: FunctionName
    input: JsonObject


def _block_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in _KINDS else "<text>"


ResultBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")] | Annotated[InputImageBlock, Tag("<image>")], Discriminator(_block_kind)
]


class ToolResultBlock(Block):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        Annotated[str, Tag("<text>")] | Annotated[list[ResultBlock], Field(fail_fast=True), Tag("<list>")],
        Discriminator(text_or_list),
    ] = Field("", description="A string, or a list of texts.")
    is_error: bool | None = Field(None, description="True puts `Error: ` before the content.")


AnyBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[InputImageBlock, Tag("<image>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")],
    Discriminator(_block_kind),
]


class TurnMessage(RequestModel):
    role: Literal["user", "assistant", "system"]
    content: Annotated[
        Annotated[str, Tag("<text>")] | Annotated[list[AnyBlock], Field(fail_fast=True), Tag("<list>")],
        Discriminator(text_or_list),
    ] = Field(description="A string, or a list of blocks.")
