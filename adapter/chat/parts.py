"""An answer as a list of parts, for APIs that tell it so: thoughts, texts and calls in the order they are said in."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from adapter.generation import Choice
from adapter.tensors import CallDelta, Delta

PartKind: TypeAlias = Literal["reasoning", "text", "call"]


@dataclass(slots=True, eq=False)
class Part:
    """A call has the name of its function; its text is the JSON of the arguments, as the model wrote it."""

    kind: PartKind
    index: int
    name: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class PartDelta:
    """What a response adds to a part. It is the part's first where that had no piece before."""

    part: Part
    text: str


class AnswerParts:
    """Parts follow one another: one that another has followed is whole."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.finish_reason: str | None = None
        self.stop_string: str | None = None

    def decode(self, delta: Delta) -> Iterator[PartDelta]:
        """What `delta` adds. A call that has begun goes on before text that stands behind it."""
        self.finish_reason, self.stop_string = delta.finish_reason, delta.stop_string
        if delta.reasoning:
            yield self._add("reasoning", delta.reasoning)
        calls = list(delta.calls)
        while calls and calls[0].name is None:
            yield self._call(calls.pop(0))
        if delta.text:
            yield self._add("text", delta.text)
        for call in calls:
            yield self._call(call)

    def _add(self, kind: PartKind, text: str) -> PartDelta:
        if not self.parts or self.parts[-1].kind != kind:
            self.parts.append(Part(kind, len(self.parts)))
        self.parts[-1].pieces.append(text)
        return PartDelta(self.parts[-1], text)

    def _call(self, call: CallDelta) -> PartDelta:
        if call.name is not None:
            self.parts.append(Part("call", len(self.parts), call.name))
        self.parts[-1].pieces.append(call.arguments)
        return PartDelta(self.parts[-1], call.arguments)


def parts_of(choice: Choice) -> list[Part]:
    """Those of an answer that came whole."""
    calls = [CallDelta(i, call.name, call.arguments) for i, call in enumerate(choice.calls)]
    answer = AnswerParts()
    list(answer.decode(Delta(0, choice.text, choice.finish_reason, reasoning=choice.reasoning, calls=calls)))
    return answer.parts
