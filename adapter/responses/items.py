"""The items of `input`: messages, thoughts, calls of functions and what these gave."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from adapter.chat.messages import Nothing
from adapter.chat.tools import FunctionName
from adapter.request_body import RequestModel, text_or_list

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


def _known_part(value: object) -> object:
    if value not in ("input_text", "output_text"):
        raise ValueError('must be "input_text", "input_image" or "output_text"; documents go to /ocr/file')
    return value


class InputText(RequestModel):
    type: Annotated[Literal["input_text", "output_text"], BeforeValidator(_known_part)]
    text: str

    # Present, empty, in an answer's text that a client sends back as it came.
    annotations: Nothing | None = None
    logprobs: Nothing | None = None


class InputImage(RequestModel):
    type: Literal["input_image"]
    image_url: str = Field(description="A data URL; an http(s) URL where the server allows it.")
    detail: Literal["auto", "low", "high"] | None = Field(
        None, description="`low` reads all images of the request in mode `small`, `high` in mode `gundam`."
    )


def _part_kind(value: object) -> str:
    return "<image>" if isinstance(value, dict) and value.get("type") == "input_image" else "<text>"


InputPart = Annotated[
    Annotated[InputText, Tag("<text>")] | Annotated[InputImage, Tag("<image>")],
    Discriminator(_part_kind),
]


InputContent = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[InputPart], Field(fail_fast=True), Tag("<list>")],
    Discriminator(text_or_list),
]


def _known_item(value: object) -> object:
    if value != "message":
        raise ValueError('must be "message", "reasoning", "function_call" or "function_call_output"')
    return value


class Item(RequestModel):
    # Of an answer's item that comes back: neither changes what the model sees.
    id: str | None = None
    status: ItemStatus | None = None


class MessageItem(Item):
    type: Annotated[Literal["message"], BeforeValidator(_known_item)] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: InputContent = Field(description="A string, or a list of texts and, from a user, images.")


class ReasoningText(RequestModel):
    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Item):
    """What an assistant thought before it said the next items."""

    type: Literal["reasoning"]
    summary: list[ReasoningText] = Field([], fail_fast=True, description="Counts where there is no `content`.")
    content: Annotated[list[ReasoningText], Field(fail_fast=True)] | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.content or self.summary)


class FunctionCallItem(Item):
    type: Literal["function_call"]
    call_id: str
    name: FunctionName
    arguments: str = Field(description="The JSON of an object.")


class FunctionOutputItem(Item):
    type: Literal["function_call_output"]
    call_id: str
    output: InputContent = Field(description="A string, or a list of texts.")


def _item_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("reasoning", "function_call", "function_call_output") else "<message>"


InputItem = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionOutputItem, Tag("<function_call_output>")],
    Discriminator(_item_kind),
]
