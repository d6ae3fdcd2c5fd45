"""`response_format`: the form that an answer's text is held to."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from adapter.request_body import JsonObject, RequestModel


class TextFormat(RequestModel):
    type: Literal["text"]


class JsonObjectFormat(RequestModel):
    type: Literal["json_object"]


class JsonSchema(RequestModel):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    definition: JsonObject | None = Field(None, alias="schema", description="Any JSON if absent.")
    strict: bool | None = Field(None, description="Answers are held to it in any case.")


class JsonSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: JsonSchema


def format_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


def known_format(value: object) -> object:
    if isinstance(value, dict) and value.get("type") not in ("text", "json_object", "json_schema"):
        raise ValueError('type must be "text", "json_object" or "json_schema"')
    return value


ResponseFormat = Annotated[
    Annotated[TextFormat, BeforeValidator(known_format), Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(format_kind),
]
