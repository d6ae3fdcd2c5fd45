"""What the `task` input asks for instead of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping

from engine.errors import InvalidRequest
from engine.prompt import PromptEncoder
from engine.triton_inputs import Inputs

_TAKEN: Mapping[str, tuple[str, ...]] = {
    "tokenize": ("text_input", "chat", "add_special_tokens"),
    "detokenize": ("input_ids",),
    "embed": ("text_input", "input_ids"),
}
"""The inputs that each task takes."""


def read_task(inputs: Inputs) -> str:
    """The task that is asked for.

    Raises:
        InvalidRequest: there is no such task, or an input means nothing to it.
    """
    task = inputs.string("task")
    if task not in _TAKEN:
        raise InvalidRequest("task", f"there is no task {task!r}; give one of {', '.join(_TAKEN)}")
    for name in inputs.names:
        if name not in ("task", *_TAKEN[task]):
            raise InvalidRequest(name, f"it means nothing to the task {task}; leave it out")
    return task


def tokenize(inputs: Inputs, encoder: PromptEncoder, max_context: int) -> str:
    """JSON: the tokens of a text or a chat, how each is spelt, and how many a prompt and its answer may have."""
    if inputs.only_one_of("text_input", "chat") == "chat":
        if inputs.has("add_special_tokens"):
            raise InvalidRequest("add_special_tokens", "a chat's template says which there are; leave it out")
        tokens = encoder.tokenize_chat(inputs.data("chat"))
    else:
        tokens = encoder.tokenize(
            inputs.string("text_input"), add_special_tokens=inputs.flag("add_special_tokens", default=True)
        )
    return json.dumps({"tokens": tokens, "token_strs": encoder.spell(tokens), "max_context": max_context})


def detokenize(inputs: Inputs, encoder: PromptEncoder) -> str:
    """The text of token ids."""
    if not inputs.has("input_ids"):
        raise InvalidRequest("input_ids", "the task detokenize needs them")
    return encoder.detokenize(inputs.array("input_ids").tolist())
