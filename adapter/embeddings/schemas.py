"""The body of `POST /v1/embeddings`, and its answer."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict, Field

from adapter.prompts import Prompts, listed
from adapter.request_body import RequestModel


class EmbeddingRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"input": ["def add(a, b):", "a sum"]}]})

    model: str | None = Field(None, description="One of `/v1/models`; the server's default model if absent.")
    input: Prompts = Field(description="A text, a list of token ids, or a list of either: one embedding each.")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="`base64` is of float32 numbers, little-endian."
    )
    dimensions: int | None = Field(None, ge=1, description="Only the size that the model's embeddings have.")

    # What follows cannot change an answer of this server.
    user: str | None = None

    @property
    def inputs(self) -> list[str | list[int]]:
        return listed(self.input)


@dataclass(frozen=True, slots=True)
class EmbeddingData:
    object: Literal["embedding"] = field(default="embedding", init=False)
    index: int
    embedding: list[float] | str


@dataclass(frozen=True, slots=True)
class EmbeddingUsage:
    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class EmbeddingList:
    """In the order of the inputs."""

    object: Literal["list"] = field(default="list", init=False)
    data: list[EmbeddingData]
    model: str
    usage: EmbeddingUsage
