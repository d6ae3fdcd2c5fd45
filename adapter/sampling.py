"""The request fields that chat and completions share, and their way into a model's `sampling_parameters`."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Discriminator, Field, Tag

from adapter.errors import InvalidRequest
from adapter.ngrams import FIELDS as NGRAM_FIELDS
from adapter.ngrams import IMAGE_NGRAMS, MAX_WHITELIST, NgramSize, NgramWindow, TokenText
from adapter.request_body import RequestModel
from adapter.settings import Settings

MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
MAX_TOKEN_IDS = 1024
MAX_METADATA = 16
MAX_GRAMMAR = 1 << 16
MAX_GUIDED_CHOICES = 1024

Form = Annotated[str, Field(min_length=1, max_length=MAX_GRAMMAR)]
StopString = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, le=MAX_INT32)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]


def _at_most(max_items: int) -> BeforeValidator:
    """Bounds an object before its items are looked at: each wrong one would be described."""

    def check_size(value: object) -> object:
        if isinstance(value, dict) and len(value) > max_items:
            raise ValueError(f"must have at most {max_items} items")
        return value

    return BeforeValidator(check_size)


Metadata = Annotated[dict[str, str], _at_most(MAX_METADATA)]


def _stop_kind(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<string>"


Stop = Annotated[
    Annotated[StopString, Tag("<string>")]
    | Annotated[list[StopString], Field(max_length=16, fail_fast=True), Tag("<list>")],
    Discriminator(_stop_kind),
]


def _whitelisted_kind(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<id>"


Whitelisted = Annotated[
    Annotated[TokenId, Tag("<id>")] | Annotated[TokenText, Tag("<text>")],
    Discriminator(_whitelisted_kind),
]


class VllmXargs(RequestModel):
    """What vLLM's own recipe for DeepSeek-OCR sends to its n-gram processor."""

    ngram_size: NgramSize | None = None
    window_size: NgramWindow | None = None
    whitelist_token_ids: Annotated[list[TokenId], Field(max_length=MAX_WHITELIST, fail_fast=True)] | None = None


class StreamOptions(RequestModel):
    include_usage: bool = Field(False, description="End the stream with a chunk that holds the usage.")
    include_obfuscation: Literal[False] | None = None


class SamplingFields(RequestModel):
    model: str | None = Field(None, description="One of `/v1/models`; the server's default model if absent.")
    stream: bool = Field(False, description="Answer with server-sent events as the text is generated.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    n: int = Field(1, ge=1, description="How many choices to generate.")
    max_tokens: int | None = Field(None, ge=1, le=MAX_INT32, description="Most tokens to generate per choice.")
    min_tokens: int | None = Field(None, ge=0, le=MAX_INT32, description="No stop before this many tokens.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=MAX_INT32, description="-1 and 0 turn it off.")
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-MAX_INT64 - 1, le=MAX_INT64, description="Same seed, same text.")
    stop: Stop | None = Field(None, description="Up to 16 strings that end a choice; not part of its text.")
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_TOKEN_IDS, fail_fast=True)] | None = None
    ignore_eos: bool | None = Field(None, description="Go on past the end-of-sequence token.")
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.01, le=2)
    logit_bias: Annotated[dict[TokenKey, Bias] | None, _at_most(MAX_TOKEN_IDS)] = Field(
        None, description="Token id to a bias of -100 to 100."
    )
    skip_special_tokens: bool | None = Field(None, description="False leaves tokens such as `<|ref|>` in the text.")
    no_repeat_ngram_size: NgramSize | None = Field(
        None, description="No run of this many tokens is generated twice; 0 turns it off."
    )
    no_repeat_ngram_window: NgramWindow | None = Field(
        None, description="Among how many last tokens the rule looks; all of them if absent."
    )
    no_repeat_ngram_whitelist: Annotated[list[Whitelisted], Field(max_length=MAX_WHITELIST, fail_fast=True)] | None = (
        Field(None, description="Tokens, as texts or ids, that the rule never forbids.")
    )
    vllm_xargs: VllmXargs | None = Field(None, description="The same rule in vLLM's names.")

    guided_json: dict[str, Any] | str | None = Field(
        None, description="A JSON schema that answers are held to; vLLM's name, like the next three."
    )
    guided_regex: Form | None = Field(None, description="A regular expression that answers match as a whole.")
    guided_grammar: Form | None = Field(None, description="A grammar in Lark's notation or llama.cpp's.")
    guided_choice: Annotated[list[str], Field(min_length=1, max_length=MAX_GUIDED_CHOICES, fail_fast=True)] | None = (
        Field(None, description="Texts of which each answer is one.")
    )

    # What follows cannot change an answer of this server.
    user: str | None = None
    metadata: Metadata | None = None
    store: Literal[False] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


GUIDED = ("guided_json", "guided_regex", "guided_grammar", "guided_choice")
"""Each says what answers are held to."""

# Fields that go to the model under their own name when the request has them.
FORWARDED = (
    "min_p",
    "min_tokens",
    "seed",
    "stop_token_ids",
    "ignore_eos",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "skip_special_tokens",
    *GUIDED,
    *NGRAM_FIELDS,
)
_XARGS = dict(zip(("ngram_size", "window_size", "whitelist_token_ids"), NGRAM_FIELDS, strict=True))


def check(fields: SamplingFields, settings: Settings) -> None:
    """The rules that no single field can check; raises `InvalidRequest`."""
    if fields.stream_options is not None and not fields.stream:
        raise InvalidRequest("stream_options: is only for requests with stream: true", param="stream_options")
    if fields.n > settings.max_choices:
        raise InvalidRequest(f"n: must be at most {settings.max_choices}", param="n")


def sampling_parameters(
    fields: SamplingFields,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None = None,
    settings: Settings,
    ocr: bool = False,
    form: dict[str, Any] | None = None,
    thought_budget: int | None = None,
) -> bytes:
    """JSON in vLLM's names. None leaves a parameter to the model; `max_tokens` is then what the context holds.

    `ocr`: what the request leaves open is as DeepSeek-OCR is run, greedily and with a rule against loops. `form`: what
    else answers are held to. `thought_budget`: tokens after which a thought is ended; -1: none.
    """
    if max_tokens is not None and (fields.min_tokens or 0) > max_tokens:
        raise InvalidRequest(f"min_tokens: exceeds max_tokens, which is {max_tokens}", param="min_tokens")
    default_temperature = 0 if ocr else settings.default_temperature
    parameters: dict[str, Any] = {
        "temperature": default_temperature if fields.temperature is None else fields.temperature,
        "top_p": settings.default_top_p if fields.top_p is None else fields.top_p,
    }
    given = {name: value for name in FORWARDED if (value := getattr(fields, name)) is not None}
    given |= _from_xargs(fields)
    held = form or any(getattr(fields, name) is not None for name in GUIDED)
    if ocr and not held:
        parameters |= IMAGE_NGRAMS.changed(*map(given.get, NGRAM_FIELDS)).parameters
    parameters |= given | (form or {})
    if fields.top_k is not None:
        parameters["top_k"] = fields.top_k or -1
    if fields.stop:
        parameters["stop"] = [fields.stop] if isinstance(fields.stop, str) else fields.stop
    if fields.n > 1:
        parameters["n"] = fields.n
    if max_tokens is not None:
        parameters["max_tokens"] = max_tokens
    if logprobs is not None:
        parameters["logprobs"] = logprobs
    if prompt_logprobs is not None:
        parameters["prompt_logprobs"] = prompt_logprobs
    if thought_budget is not None:
        parameters["thinking_token_budget"] = thought_budget
    try:
        return orjson.dumps(parameters)
    except orjson.JSONEncodeError as error:  # nested too deep
        raise InvalidRequest(f"guided_json: {error}", param="guided_json") from error


def _from_xargs(fields: SamplingFields) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for xarg, name in _XARGS.items():
        value = None if fields.vllm_xargs is None else getattr(fields.vllm_xargs, xarg)
        if value is not None:
            if getattr(fields, name) not in (None, value):
                param = f"vllm_xargs.{xarg}"
                raise InvalidRequest(f"{param}: differs from {name}; give one of them", param=param)
            given[name] = value
    return given
