"""Completions' responses as server-sent `text_completion` events, and their log probabilities' own shape."""

import codecs
from collections.abc import Sequence

import orjson

from adapter.completions.schemas import CompletionLogprobs
from adapter.tensors import Delta, PromptToken, TokenLogprob
from adapter.wire import AnswerHead, Chunks


class CompletionChunks(Chunks):
    def __init__(self, head: AnswerHead, num_choices: int, include_usage: bool) -> None:
        super().__init__(head, "text_completion", include_usage)
        self._starts = [self._start + b'{"index":%d,"text":' % index for index in range(num_choices)]
        self._plain_end = b',"logprobs":null,"finish_reason":null}' + self._end
        self._offsets = [TextOffsets() for _ in range(num_choices)]

    def _event(self, delta: Delta) -> bytes:
        if delta.finish_reason is None and not delta.logprobs and not delta.prompt_tokens:
            if not delta.text:
                return b""
            return self._starts[delta.choice_index] + orjson.dumps(delta.text) + self._plain_end
        entries = [*(delta.prompt_tokens or ()), *(delta.logprobs or ())]
        logprobs = completion_logprobs(entries, self._offsets[delta.choice_index]) if entries else None
        return (
            self._starts[delta.choice_index]
            + orjson.dumps(delta.text)
            + b',"logprobs":'
            + orjson.dumps(logprobs)
            + b',"finish_reason":'
            + orjson.dumps(delta.finish_reason)
            + b"}"
            + self._end
        )


class TextOffsets:
    """Where in a choice's text its tokens begin, in characters, as one comes after the other.

    Those that a character is made of begin where it does.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def next(self, token_bytes: bytes | list[int]) -> int:
        """Where the next token begins."""
        offset = self._offset
        self._offset += len(self._decoder.decode(bytes(token_bytes)))
        return offset


def completion_logprobs(entries: Sequence[PromptToken | TokenLogprob], offsets: TextOffsets) -> CompletionLogprobs:
    """`offsets`: of the choice whose next tokens these are."""
    logprobs = CompletionLogprobs([], [], [], [])
    for entry in entries:
        logprobs.tokens.append(entry.token)
        logprobs.token_logprobs.append(entry.logprob)
        logprobs.top_logprobs.append(entry.top_logprobs if isinstance(entry, PromptToken) else _top(entry))
        logprobs.text_offset.append(offsets.next(entry.bytes))
    return logprobs


def _top(entry: TokenLogprob) -> dict[str, float]:
    """As a prompt's tokens have it."""
    top: dict[str, float] = {}
    for alternative in entry.top_logprobs:
        top.setdefault(alternative.token, alternative.logprob)
    top.setdefault(entry.token, entry.logprob)
    return top
