"""`echo`: each choice says its prompt before what is generated."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from adapter.errors import BrokenAnswer
from adapter.tensors import Delta, Generated, InferRequest, PromptToken


async def echoed(
    generations: Sequence[InferRequest],
    responses: AsyncGenerator[Generated, None],
    prompt_text: Callable[[InferRequest], Awaitable[str]],
    *,
    has_logprobs: bool,
) -> AsyncGenerator[Generated, None]:
    """What generations say, and before it each choice's prompt.

    With log probabilities a prompt waits for its own, which come with the first response that is about it.
    """
    num_choices = generations[0].num_choices
    unsaid = set(range(len(generations)))
    async with aclosing(responses):
        texts = await asyncio.gather(*map(prompt_text, generations))
        async for generated in responses:
            for prompt in sorted(unsaid):
                choices = range(prompt * num_choices, (prompt + 1) * num_choices)
                tokens = _take_prompt_tokens(generated, choices)
                if tokens and isinstance(generations[prompt].prompt, str):
                    tokens = _of_text(texts[prompt], tokens)
                if tokens or not has_logprobs:
                    unsaid.remove(prompt)
                    yield Generated([Delta(choice, texts[prompt], prompt_tokens=tokens) for choice in choices])
            if any(delta.choice_index // num_choices in unsaid for delta in generated.deltas):
                raise BrokenAnswer("the model does not say the log probabilities of the prompt")
            yield generated


def _take_prompt_tokens(generated: Generated, choices: range) -> list[PromptToken] | None:
    for delta in generated.deltas:
        if delta.choice_index in choices and delta.prompt_tokens:
            tokens, delta.prompt_tokens = delta.prompt_tokens, None
            return tokens
    return None


def _of_text(text: str, tokens: list[PromptToken]) -> list[PromptToken]:
    """Without the bytes of what the tokenizer put before the text: a token, but nothing of what is echoed.

    The text may begin with the same as that, so it is known by the others, which say all of the text.
    """
    first, *others = tokens
    is_added = sum(len(token.bytes) for token in others) >= len(text.encode())
    return [replace(first, bytes=[]), *others] if is_added else tokens
