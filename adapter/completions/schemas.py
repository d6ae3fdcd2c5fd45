"""The body of `POST /v1/completions`, and its answer."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from adapter.errors import InvalidRequest
from adapter.sampling import SamplingFields, TokenId
from adapter.wire import UsageCounts

Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _prompt_kind(value: object) -> str:
    if not isinstance(value, list):
        return "<text>"
    match value[:1]:
        case [int()]:
            return "<tokens>"
        case [list()]:
            return "<token lists>"
        case _:
            return "<texts>"


Prompt = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("<texts>")]
    | Annotated[Tokens, Tag("<tokens>")]
    | Annotated[list[Tokens], Field(fail_fast=True), Tag("<token lists>")],
    Discriminator(_prompt_kind),
]


class CompletionRequest(SamplingFields):
    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "def fibonacci(n):", "max_tokens": 100}]})

    prompt: Prompt = Field(description="A text, a list of token ids, or a list of either: one completion each.")
    logprobs: int | None = Field(None, ge=0, le=5, description="Alternatives per token; 0 for the chosen one alone.")

    suffix: str | None = Field(
        None, description="What follows the gap that each prompt, a text, precedes and its completion fills (FIM)."
    )

    # What follows cannot change an answer of this server.
    best_of: int | None = Field(None, description="Only the value of `n`.")
    echo: Literal[False] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.n:
            raise InvalidRequest("best_of: must be equal to n", param="best_of")
        if self.suffix and not all(isinstance(prompt, str) for prompt in self.prompts):
            raise InvalidRequest("suffix: is only for prompts that are texts, not token ids", param="suffix")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        texts = [text for text in self.prompt if isinstance(text, str)]
        token_lists = [tokens for tokens in self.prompt if isinstance(tokens, list)]
        tokens = [token for token in self.prompt if isinstance(token, int)]
        return [*texts, *token_lists, *([tokens] if tokens else [])]


@dataclass(slots=True)
class CompletionLogprobs:
    """Four lists with one entry per token; `text_offset` counts characters from the completion's start."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


@dataclass(frozen=True, slots=True)
class CompletionChoice:
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Completion:
    id: str
    object: Literal["text_completion"] = field(default="text_completion", init=False)
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageCounts
