"""Completions' responses as server-sent `text_completion` events, and their log probabilities' own shape."""

import orjson

from adapter.completions.schemas import CompletionLogprobs
from adapter.tensors import Delta, TokenLogprob
from adapter.wire import AnswerHead, Chunks


class CompletionChunks(Chunks):
    def __init__(self, head: AnswerHead, num_choices: int, include_usage: bool) -> None:
        super().__init__(head, "text_completion", include_usage)
        self._starts = [self._start + b'{"index":%d,"text":' % index for index in range(num_choices)]
        self._plain_end = b',"logprobs":null,"finish_reason":null}' + self._end
        self._offsets = [0] * num_choices

    def _event(self, delta: Delta) -> bytes:
        if delta.finish_reason is None and not delta.logprobs:
            if not delta.text:
                return b""
            return self._starts[delta.choice_index] + orjson.dumps(delta.text) + self._plain_end
        logprobs = None
        if delta.logprobs:
            offset = self._offsets[delta.choice_index]
            logprobs = completion_logprobs(delta.logprobs, offset)
            self._offsets[delta.choice_index] = offset + sum(len(entry.token) for entry in delta.logprobs)
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


def completion_logprobs(entries: list[TokenLogprob], offset: int = 0) -> CompletionLogprobs:
    """`offset`: how many characters of the choice come before these tokens."""
    logprobs = CompletionLogprobs([], [], [], [])
    for entry in entries:
        logprobs.tokens.append(entry.token)
        logprobs.token_logprobs.append(entry.logprob)
        logprobs.top_logprobs.append(
            {top.token: top.logprob for top in entry.top_logprobs} | {entry.token: entry.logprob}
        )
        logprobs.text_offset.append(offset)
        offset += len(entry.token)
    return logprobs
