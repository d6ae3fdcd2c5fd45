"""The body of `POST /v1/completions`, and its answer."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from adapter.errors import InvalidRequest
from adapter.prompts import Prompts, listed
from adapter.sampling import MAX_INT32, SamplingFields
from adapter.wire import UsageCounts


class CompletionRequest(SamplingFields):
    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "def fibonacci(n):", "max_tokens": 100}]})

    prompt: Prompts = Field(description="A text, a list of token ids, or a list of either: one completion each.")
    max_tokens: int | None = Field(
        None, ge=0, le=MAX_INT32, description="Most tokens to generate per choice; 0 with `echo` and `logprobs` scores."
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=5,
        description="Alternatives per token; 0 for the chosen one alone. With `echo` the prompt's too.",
    )

    suffix: str | None = Field(
        None, description="What follows the gap that each prompt, a text, precedes and its completion fills (FIM)."
    )
    echo: bool = Field(False, description="Begin each choice's text with its prompt.")

    # What follows cannot change an answer of this server.
    best_of: int | None = Field(None, description="Only the value of `n`.")

    @model_validator(mode="after")
    def _consistent(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.n:
            raise InvalidRequest("best_of: must be equal to n", param="best_of")
        if self.echo and self.logprobs is not None and self.suffix:
            text = "suffix: its tokens are no part of what is echoed; leave it out, or echo, or logprobs"
            raise InvalidRequest(text, param="suffix")
        if self.suffix and not all(isinstance(prompt, str) for prompt in self.prompts):
            raise InvalidRequest("suffix: is only for prompts that are texts, not token ids", param="suffix")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        return listed(self.prompt)


@dataclass(slots=True)
class CompletionLogprobs:
    """Four lists with one entry per token; `text_offset` counts characters from the choice's start.

    A prompt's first token has no log probabilities.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]

    def add(self, others: "CompletionLogprobs") -> None:
        """Of the next tokens."""
        self.tokens += others.tokens
        self.token_logprobs += others.token_logprobs
        self.top_logprobs += others.top_logprobs
        self.text_offset += others.text_offset


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
    system_fingerprint: str | None
