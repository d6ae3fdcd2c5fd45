"""How one request wants its tokens chosen, in vLLM's names."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from engine.errors import InvalidRequest

MAX_CHOICES = 128
MAX_STOP_STRINGS = 64
MAX_TOKEN_IDS = 1024
MAX_LOGPROBS = 20
MAX_NGRAM = 128
MAX_WHITELIST = 64
MAX_REPETITION = 65536
MAX_GRAMMAR = 1 << 16
MAX_GUIDED_CHOICES = 1024
GUIDED_FIELDS = ("guided_json", "guided_json_object", "guided_regex", "guided_grammar", "guided_choice")
_GREEDY_BELOW = 1e-5

TokenId = Annotated[int, Field(ge=0)]
TokenText = Annotated[str, Field(min_length=1, max_length=64)]
TokenKey = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}$")]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class SamplingParams(BaseModel):
    """The `sampling_parameters` input of the tensor contract. Unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    n: int = Field(1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(None, ge=0)
    min_tokens: int = Field(0, ge=0)
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, le=2**31 - 1)
    min_p: float = Field(0.0, ge=0, le=1)
    seed: int | None = None
    stop: list[Annotated[str, Field(min_length=1)]] = Field([], max_length=MAX_STOP_STRINGS, fail_fast=True)
    stop_token_ids: list[TokenId] = Field([], max_length=MAX_TOKEN_IDS, fail_fast=True)
    ignore_eos: bool = False
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: float = Field(1.0, ge=0.01, le=10)
    logit_bias: dict[TokenKey, Bias] = Field({}, max_length=MAX_TOKEN_IDS)
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    prompt_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    """The same of the prompt's tokens, but the first; all of it is computed then. The token that ends an answer is
    among `logprobs` too."""
    skip_special_tokens: bool = True
    no_repeat_ngram_size: int = Field(0, ge=0, le=MAX_NGRAM)
    """0: no rule. Over the output alone, within the last `no_repeat_ngram_window` tokens, or all of it."""
    no_repeat_ngram_window: int | None = Field(None, ge=1)
    no_repeat_ngram_whitelist: list[TokenId | TokenText] = Field([], max_length=MAX_WHITELIST, fail_fast=True)
    """Tokens that may always be repeated: ids, or as the vocabulary spells them."""
    guided_json: dict[str, Any] | bool | str | None = None
    """A JSON schema, or its text. At most one of these five: the form that answers are held to."""
    guided_json_object: Literal[True] | None = None
    guided_regex: str | None = Field(None, min_length=1, max_length=MAX_GRAMMAR)
    guided_grammar: str | None = Field(None, min_length=1, max_length=MAX_GRAMMAR)
    """In Lark's notation, or llama.cpp's."""
    guided_choice: list[str] | None = Field(None, min_length=1, max_length=MAX_GUIDED_CHOICES)
    thinking_token_budget: int | None = Field(None, ge=-1)
    """Tokens of a thought after which its end is forced; -1 and None: never."""
    max_repetition_tokens: int | None = Field(None, ge=0, le=MAX_REPETITION)
    """How long an output may go on repeating itself before it ends as `repetition`; 0: forever, None: the engine's."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_a_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _min_below_max(self) -> SamplingParams:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} is above max_tokens, {self.max_tokens}")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> SamplingParams:
        forms = [field for field in GUIDED_FIELDS if getattr(self, field) is not None]
        if len(forms) > 1:
            raise ValueError(f"{forms[1]}: answers are held to {forms[0]} already; give one of them")
        return self

    @property
    def guided(self) -> tuple[str, Any] | None:
        """The field that says which form answers are held to, and its value."""
        return next(((field, form) for field in GUIDED_FIELDS if (form := getattr(self, field)) is not None), None)

    @property
    def max_thought_tokens(self) -> int | None:
        return None if self.thinking_token_budget == -1 else self.thinking_token_budget

    @property
    def is_greedy(self) -> bool:
        return self.temperature < _GREEDY_BELOW

    @property
    def has_penalties(self) -> bool:
        return self.presence_penalty != 0 or self.frequency_penalty != 0 or self.repetition_penalty != 1

    @cached_property
    def token_bias(self) -> dict[int, float]:
        return {int(token): bias for token, bias in self.logit_bias.items()}

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        return frozenset(self.stop_token_ids)


def parse_sampling_params(text: bytes | str) -> SamplingParams:
    """Parse the JSON of `sampling_parameters`.

    Raises:
        InvalidRequest: names the first parameter that is unknown, of the wrong type or out of range.
    """
    try:
        return SamplingParams.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            if first["type"] == "value_error":
                field, _, sentence = str(first["ctx"]["error"]).partition(": ")
                raise InvalidRequest(field, sentence) from error
            raise InvalidRequest("sampling_parameters", first["msg"]) from error
        field = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = ", ".join(SamplingParams.model_fields)
            raise InvalidRequest(field, f"no such sampling parameter; there are {known}") from error
        raise InvalidRequest(field, first["msg"]) from error
