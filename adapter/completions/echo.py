"""`echo`: each choice says its prompt before what is generated."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from adapter.errors import BrokenAnswer
from adapter.tensors import Delta, Generated, InferRequest, PromptToken

_AT_ONCE = 512
"""Tokens of a prompt in an event."""


async def echoed(
    generations: Sequence[InferRequest],
    responses: AsyncGenerator[Generated, None],
    prompt_text: Callable[[InferRequest], Awaitable[str]],
    *,
    has_logprobs: bool,
) -> AsyncGenerator[Generated, None]:
    """What generations say, and before it each choice's prompt.

    With log probabilities a prompt waits for all of its own, which come before the first text.
    """
    num_choices = generations[0].num_choices
    unsaid: dict[int, list[PromptToken]] = {prompt: [] for prompt in range(len(generations))}
    async with aclosing(responses):
        texts = await asyncio.gather(*map(prompt_text, generations))
        async for generated in responses:
            said = []
            for delta in generated.deltas:
                prompt = delta.choice_index // num_choices
                if delta.prompt_tokens:
                    if prompt not in unsaid:
                        raise BrokenAnswer("log probabilities of the prompt come behind the answer's text")
                    unsaid[prompt] += delta.prompt_tokens
                    await asyncio.sleep(0)  # the next part may be there already, and to read one takes a while
                    continue
                said.append(delta)
                if (tokens := unsaid.pop(prompt, None)) is None:
                    continue
                if has_logprobs and not tokens:
                    raise BrokenAnswer("the model does not say the log probabilities of the prompt")
                if tokens and isinstance(generations[prompt].prompt, str):
                    tokens = _of_text(texts[prompt], tokens)
                for choice in range(prompt * num_choices, (prompt + 1) * num_choices):
                    for part in _parts(choice, texts[prompt], tokens):
                        yield Generated([part])
                        await asyncio.sleep(0)
            yield Generated(said, generated.usage)


def _parts(choice: int, text: str, tokens: Sequence[PromptToken]) -> Iterator[Delta]:
    yield Delta(choice, text, prompt_tokens=[*tokens[:_AT_ONCE]])
    for start in range(_AT_ONCE, len(tokens), _AT_ONCE):
        yield Delta(choice, "", prompt_tokens=[*tokens[start : start + _AT_ONCE]])


def _of_text(text: str, tokens: list[PromptToken]) -> list[PromptToken]:
    """Without the bytes of what the tokenizer put before the text: a token, but nothing of what is echoed.

    The text may begin with the same as that, so it is known by the others, which say all of the text.
    """
    first, *others = tokens
    is_added = sum(len(token.bytes) for token in others) >= len(text.encode())
    return [replace(first, bytes=b""), *others] if is_added else tokens
