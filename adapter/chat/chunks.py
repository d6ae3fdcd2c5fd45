"""A chat's responses as server-sent `chat.completion.chunk` events."""

import orjson

from adapter.chat.answer import ChatLogprobs, new_call_id
from adapter.tensors import CallDelta, Delta
from adapter.wire import AnswerHead, Chunks


class ChatChunks(Chunks):
    def __init__(self, head: AnswerHead, num_choices: int, include_usage: bool) -> None:
        super().__init__(head, "chat.completion.chunk", include_usage)
        self._starts = [self._start + b'{"index":%d,"delta":{' % index for index in range(num_choices)]
        self._text_starts = [start + b'"content":' for start in self._starts]
        self._text_end = b'},"logprobs":null,"finish_reason":null}' + self._end

    def opening(self) -> bytes:
        return b"".join(start + b'"role":"assistant","content":""' + self._text_end for start in self._starts)

    def _event(self, delta: Delta) -> bytes:
        event = b""
        if delta.reasoning:
            thought = orjson.dumps(delta.reasoning)
            event = self._starts[delta.choice_index] + b'"reasoning_content":' + thought
            event += b',"reasoning":' + thought + self._text_end
        if delta.logprobs:
            event += self._text_starts[delta.choice_index] + orjson.dumps(delta.text) + b'},"logprobs":'
            event += orjson.dumps(ChatLogprobs(delta.logprobs)) + b',"finish_reason":null}' + self._end
        elif delta.text:
            event += self._text_starts[delta.choice_index] + orjson.dumps(delta.text) + self._text_end
        for call in delta.calls:
            event += self._starts[delta.choice_index] + b'"tool_calls":' + _call(call) + self._text_end
        if delta.finish_reason is not None:
            event += self._starts[delta.choice_index] + b'},"logprobs":null,"finish_reason":'
            event += orjson.dumps(delta.finish_reason) + b"}" + self._end
        return event


def _call(call: CallDelta) -> bytes:
    """The id and the name first, then pieces of the arguments."""
    if call.name is None:
        return orjson.dumps([{"index": call.index, "function": {"arguments": call.arguments}}])
    function = {"name": call.name, "arguments": call.arguments}
    return orjson.dumps([{"index": call.index, "id": new_call_id(), "type": "function", "function": function}])
