"""What every answer carries, whole or in chunks, chat or completion."""

import secrets
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import orjson

from adapter.errors import FAILURE_DOCS
from adapter.sse import events_docs
from adapter.tensors import Delta, Generated, Usage


@dataclass(frozen=True, slots=True)
class CachedTokens:
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class ReasoningTokens:
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class UsageCounts:
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens
    prompt_cache_hit_tokens: int
    """DeepSeek's name of the cached ones."""
    prompt_cache_miss_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> "UsageCounts":
        prompt, completion, cached = usage.num_input_tokens, usage.num_output_tokens, usage.num_cached_tokens
        thought = ReasoningTokens(usage.num_reasoning_tokens)
        return cls(prompt, completion, prompt + completion, CachedTokens(cached), thought, cached, prompt - cached)


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The fields that an answer's chunks repeat."""

    id: str
    model: str
    system_fingerprint: str | None = None
    """None where the model has not said what it is."""
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def new(cls, prefix: str, model: str, fingerprint: str | None = None) -> "AnswerHead":
        return cls(f"{prefix}-{secrets.token_hex(16)}", model, fingerprint)


class Chunks(ABC):
    """A stream's responses as server-sent events. What all of them have in common is encoded once per answer."""

    def __init__(self, head: AnswerHead, object_name: str, include_usage: bool) -> None:
        self._start = b'data: {"object":"%b",%b,"choices":[' % (object_name.encode(), orjson.dumps(head)[1:-1])
        self._end = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._include_usage = include_usage

    def opening(self) -> bytes:
        """The events before the first response's."""
        return b""

    def events(self, generated: Generated) -> bytes:
        return b"".join(map(self._event, generated.deltas))

    def closing(self, usage: Usage) -> bytes:
        """The events after the last response's."""
        if not self._include_usage:
            return b""
        return self._start + b'],"usage":' + orjson.dumps(UsageCounts.of(usage)) + b"}\n\n"

    @abstractmethod
    def _event(self, delta: Delta) -> bytes: ...


def answer_responses(
    whole: type, events: str = 'data: {"id": ...}\n\ndata: [DONE]\n\n'
) -> dict[int | str, dict[str, Any]]:
    """How an endpoint that generates answers, for the OpenAPI document; `events` are an example."""
    description = "The whole answer; with `stream`, chunks of it as server-sent events."
    return {
        200: {"model": whole, "description": description, "content": events_docs(events)},
        "default": FAILURE_DOCS,
    }
