"""The body of `POST /v1/responses`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from adapter.chat.forms import JsonObjectFormat, TextFormat, format_kind, known_format
from adapter.chat.messages import Nothing
from adapter.chat.schemas import MAX_MESSAGES
from adapter.chat.tools import MAX_TOOLS, FunctionName, choice_kind
from adapter.request_body import JsonObject, RequestModel, text_or_list
from adapter.responses.items import InputItem
from adapter.sampling import MAX_INT32, Metadata


def _nothing_is_stored(value: object) -> object:
    raise ValueError("this server stores no responses; send the items before in input")


def _nothing_is_prepared(value: object) -> object:
    raise ValueError("this server stores no prompts; send instructions and input")


def _known_tool(value: object) -> object:
    if value != "function":
        raise ValueError('must be "function"; this server has no tools of its own')
    return value


class FunctionTool(RequestModel):
    type: Annotated[Literal["function"], BeforeValidator(_known_tool)]
    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = Field(None, description="A JSON schema of its arguments; none if absent.")
    strict: bool | None = Field(
        None, description="Hold the arguments to the schema also where the model calls it by its own choice."
    )


class ChosenFunction(RequestModel):
    type: Annotated[Literal["function"], BeforeValidator(_known_tool)]
    name: FunctionName


FunctionChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")] | Annotated[ChosenFunction, Tag("<function>")],
    Discriminator(choice_kind),
]


class TextSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    definition: JsonObject = Field(alias="schema")
    strict: bool | None = Field(None, description="Answers are held to it in any case.")


AnswerFormat = Annotated[
    Annotated[TextFormat, BeforeValidator(known_format), Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[TextSchemaFormat, Tag("<json_schema>")],
    Discriminator(format_kind),
]


class TextOptions(RequestModel):
    format: AnswerFormat | None = Field(None, description="Answers are held to it.")
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(RequestModel):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="For checkpoints whose chat template knows it; `none` turns thinking off."
    )


class ResponseStreamOptions(RequestModel):
    include_obfuscation: Literal[False] | None = None


class ResponsesRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"input": "Hello!", "max_output_tokens": 100}]})

    model: str | None = Field(None, description="One of `/v1/models`; the server's default model if absent.")
    input: Annotated[
        Annotated[str, Tag("<text>")]
        | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True), Tag("<list>")],
        Discriminator(text_or_list),
    ] = Field(description="A user's text, or the conversation so far: an answer's `output` goes back as it came.")
    instructions: str | None = Field(None, description="A system message before `input`.")
    max_output_tokens: int | None = Field(
        None, ge=1, le=MAX_INT32, description="Most tokens to generate, thoughts included."
    )
    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[FunctionTool] | None = Field(
        None, max_length=MAX_TOOLS, fail_fast=True, description="Functions that the answer may call."
    )
    tool_choice: FunctionChoice | None = Field(
        None, description="`none`, `auto`, `required`, or a function of `tools`; the last two are enforced."
    )
    parallel_tool_calls: bool | None = Field(None, description="False: at most one call.")
    stream: bool = Field(False, description="Answer with server-sent events as the text is generated.")
    stream_options: ResponseStreamOptions | None = None

    # What is had in any case.
    store: Literal[False] | None = Field(None, description="Nothing is stored.")
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    include: Nothing | None = None

    # What follows cannot change an answer of this server.
    user: str | None = None
    metadata: Metadata | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None

    # Each needs what another request has left.
    previous_response_id: Annotated[None, BeforeValidator(_nothing_is_stored)] = None
    conversation: Annotated[None, BeforeValidator(_nothing_is_stored)] = None
    prompt: Annotated[None, BeforeValidator(_nothing_is_prepared)] = None
