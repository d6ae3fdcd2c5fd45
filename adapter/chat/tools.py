"""Functions that a chat's answers may call, and calls of them."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import Discriminator, Field, Tag, field_validator

from adapter.request_body import JsonObject, RequestModel

MAX_TOOLS = 128
MAX_CALLS = 128

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class Function(RequestModel):
    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = Field(None, description="A JSON schema of its arguments; none if absent.")
    strict: bool | None = Field(
        None, description="Hold the arguments to the schema also where the model calls it by its own choice."
    )

    @field_validator("parameters")
    @classmethod
    def _of_an_object(cls, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        if parameters is not None and parameters.get("type", "object") != "object":
            raise ValueError('must have the type "object", or none: arguments have names')
        return parameters


class Tool(RequestModel):
    type: Literal["function"]
    function: Function


class CalledFunction(RequestModel):
    name: FunctionName
    arguments: str = Field(description="The JSON of an object.")

    @field_validator("arguments")
    @classmethod
    def _an_object(cls, arguments: str) -> str:
        try:
            is_object = isinstance(orjson.loads(arguments or "{}"), dict)
        except orjson.JSONDecodeError:
            is_object = False
        if not is_object:
            raise ValueError("must be the JSON of an object")
        return arguments


class ToolCall(RequestModel):
    """A call in an assistant's earlier message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(None, description="As streams have it; the order of the list counts.")


class NamedFunction(RequestModel):
    name: FunctionName


class NamedTool(RequestModel):
    type: Literal["function"]
    function: NamedFunction


def choice_kind(value: object) -> str:
    """The tag of a `tool_choice`, in a union whose members are `<word>` and `<function>`."""
    return "<word>" if isinstance(value, str) else "<function>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")] | Annotated[NamedTool, Tag("<function>")],
    Discriminator(choice_kind),
]
