"""A request on its way through the engine, and what the engine tells its sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from engine.errors import EngineError
from engine.sampling_params import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

    from engine.chat.answer import AnswerFormat, CallPiece
    from engine.embedding import Embedding
    from engine.guidance import Guide
    from engine.images import ImageViews, ViewLayout

FinishReason = Literal["stop", "length", "tool_calls", "repetition", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log-probability of a token under the model's own distribution, before any sampling parameter."""

    token_id: int
    logprob: float | None
    """None of a prompt's first token, which nothing precedes."""
    top: tuple[tuple[int, float], ...]
    """The most likely tokens and their log-probabilities, best first; as many as were asked for."""
    is_end: bool = False
    """Whether it ends an answer, and is no part of its text."""


class Output(NamedTuple):
    """What one step added to one choice of a request."""

    choice: int
    text: str
    num_tokens: int
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None
    reasoning: str = ""
    calls: Sequence[CallPiece] = ()
    stop_string: str | None = None
    """Which one ended the choice, where one did."""
    prompt_logprobs: Sequence[TokenLogprob] | None = None
    """Of some of the prompt's tokens, where they are asked for: alone, and before all that the first choice says."""


class Listener(Protocol):
    """Whoever made a request. Called from the loop's thread, so it returns at once."""

    def on_output(self, output: Output) -> None:
        """The next piece of a choice; the one with a finish reason is that choice's last."""

    def on_error(self, error: EngineError) -> None:
        """The request failed as a whole; nothing follows."""


@dataclass(slots=True, eq=False)
class PromptImage:
    """An image, and which of a prompt's tokens stand for it."""

    layout: ViewLayout
    start: int
    num_tokens: int
    views: ImageViews | None = None
    """Its pixels, until it is encoded."""
    embeddings: Tensor | None = None
    """`[num_tokens, hidden_size]`, once it is encoded."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids, and the images that some of them stand for."""

    tokens: list[int]
    images: tuple[PromptImage, ...] = ()
    answer_format: AnswerFormat | None = None
    """How answers are to be read; None: as plain text."""
    is_embedded: bool = False
    """Whether its embedding is asked for, and no answer."""
    may_think: bool = False
    """Whether it is a chat with a checkpoint that thinks, if not in this answer."""


@dataclass(slots=True, eq=False)
class Request:
    """A prompt, how to sample from it, and who waits for the outcome.

    It ends exactly once: when each of its `n` choices had a finish reason, or with one error.
    """

    prompt: Prompt
    params: SamplingParams
    listener: Listener
    guide: Guide | None = None
    """What each of its choices is held to, as it begins."""
    is_cancelled: bool = False
    num_cached_tokens: int = 0
    """Of the prompt, those that an earlier request had computed."""
    num_reasoning_tokens: int = 0
    """Of the output, those of thoughts."""
    embedding: Embedding | None = None
    """Of a prompt that is embedded, at its end."""
    num_unfinished: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_unfinished = self.params.n

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt.tokens)

    @property
    def is_encoded(self) -> bool:
        """Whether the prompt can be computed: all its images have their embeddings."""
        return all(image.embeddings is not None for image in self.prompt.images)
