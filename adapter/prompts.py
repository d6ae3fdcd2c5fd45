"""Prompts as OpenAI's clients write them: a text, a list of token ids, or a list of either."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from adapter.sampling import TokenId

Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _prompt_kind(value: object) -> str:
    if not isinstance(value, list):
        return "<text>"
    match value[:1]:
        case [int()]:
            return "<tokens>"
        case [list()]:
            return "<token lists>"
        case _:
            return "<texts>"


Prompts = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag("<texts>")]
    | Annotated[Tokens, Tag("<tokens>")]
    | Annotated[list[Tokens], Field(fail_fast=True), Tag("<token lists>")],
    Discriminator(_prompt_kind),
]


def listed(prompts: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """The same, one by one."""
    if isinstance(prompts, str):
        return [prompts]
    texts = [text for text in prompts if isinstance(text, str)]
    token_lists = [tokens for tokens in prompts if isinstance(tokens, list)]
    tokens = [token for token in prompts if isinstance(token, int)]
    return [*texts, *token_lists, *([tokens] if tokens else [])]
