"""What goes into one response: everything a request's choices said since the last one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from engine.chat.answer import CallPiece
from engine.detokenizer import TokenBytes
from engine.request import FinishReason, Output, TokenLogprob


@dataclass(slots=True)
class ChoicePiece:
    """What one choice said since the last response."""

    text: str = ""
    num_tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    reasoning: str = ""
    calls: list[CallPiece] = field(default_factory=list)
    stop_string: str | None = None
    prompt_logprobs: Sequence[TokenLogprob] | None = None

    @property
    def text_logprobs(self) -> list[TokenLogprob]:
        """Without that of the token that ends the answer."""
        return [item for item in self.logprobs if not item.is_end]


class Counts(NamedTuple):
    """Tokens of a request so far."""

    num_input_tokens: int
    num_output_tokens: int
    num_cached_tokens: int
    """Of the input."""
    num_reasoning_tokens: int
    """Of the output."""


NO_COUNTS = Counts(0, 0, 0, 0)


def only_words(pieces: dict[int, ChoicePiece]) -> ChoicePiece | None:
    """What the first choice said, where that is all there is, and no more than text and thoughts."""
    piece = pieces.get(0)
    if piece is None or len(pieces) > 1 or piece.finish_reason or piece.stop_string or piece.calls:
        return None
    return None if piece.logprobs or piece.prompt_logprobs else piece


def merge(outputs: Sequence[Output]) -> dict[int, ChoicePiece]:
    """Join the outputs of each choice, in order."""
    if len(outputs) == 1:  # as most are
        return {outputs[0].choice: _joined(*outputs)}
    choices: dict[int, list[Output]] = {}
    for output in outputs:
        choices.setdefault(output.choice, []).append(output)
    return {choice: _joined(*said) for choice, said in choices.items()}


def _joined(*outputs: Output) -> ChoicePiece:
    first, last = outputs[0], outputs[-1]
    if first is last:  # as most are
        return ChoicePiece(
            text=first.text,
            num_tokens=first.num_tokens,
            logprobs=[first.logprob] if first.logprob else [],
            finish_reason=first.finish_reason,
            reasoning=first.reasoning,
            calls=list(first.calls),
            stop_string=first.stop_string,
            prompt_logprobs=first.prompt_logprobs,
        )
    return ChoicePiece(
        text="".join([output.text for output in outputs]),
        num_tokens=sum([output.num_tokens for output in outputs]),
        logprobs=[output.logprob for output in outputs if output.logprob],
        finish_reason=last.finish_reason,
        reasoning="".join([output.reasoning for output in outputs]),
        calls=_joined_calls(chain.from_iterable([output.calls for output in outputs])),
        stop_string=last.stop_string,
        prompt_logprobs=first.prompt_logprobs,
    )


def _joined_calls(pieces: Iterable[CallPiece]) -> list[CallPiece]:
    """The same in few pieces: one for each call, if it has not begun before."""
    joined: list[CallPiece] = []
    for piece in pieces:
        if joined and piece.name is None and joined[-1].call == piece.call:
            joined[-1] = joined[-1]._replace(arguments=joined[-1].arguments + piece.arguments)
        else:
            joined.append(piece)
    return joined


def calls_json(calls: Sequence[CallPiece]) -> str:
    """The `tool_calls` output of a choice: a list of what is added to its calls."""
    return json.dumps(
        [
            {"index": call, "arguments": arguments} | ({} if name is None else {"name": name})
            for call, name, arguments in calls
        ]
    )


def logprobs_json(logprobs: Sequence[TokenLogprob], token_bytes: TokenBytes) -> str:
    """The `logprobs` output of a choice, or `prompt_logprobs`: a list with an object for each token."""
    return json.dumps(
        [
            _entry(item.token_id, item.logprob, token_bytes)
            | {"top": [_entry(*best, token_bytes) for best in item.top]}
            for item in logprobs
        ]
    )


def _entry(token_id: int, logprob: float | None, token_bytes: TokenBytes) -> dict[str, object]:
    data = token_bytes(token_id)
    return {
        "token": data.decode(errors="replace"),
        "token_id": token_id,
        "bytes": list(data),
        "logprob": None if logprob is None else max(logprob, -9999.0),  # JSON has no infinity
    }
