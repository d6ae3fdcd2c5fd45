"""From what a client sends to the token ids of a prompt."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from transformers import PreTrainedTokenizerFast

from engine.errors import InvalidRequest

MAX_MESSAGES = 4096
MAX_PARTS = 4096
FIM_TOKENS = ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
"""Before what precedes a gap, in its place, and behind what follows it: DeepSeek-Coder fills it in from there."""
_UNION_TAGS = ("str", "list[Part]")
"""What pydantic adds to a field's place for the members of a union."""


class Part(BaseModel):
    """A piece of a message: a text, or the place of the next image."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "image"]
    text: str = ""

    @model_validator(mode="after")
    def _an_image_has_no_text(self) -> Part:
        if self.type == "image" and self.text:
            raise ValueError("an image has no text; send it as a part of its own")
        return self


Parts = Annotated[list[Part], Field(max_length=MAX_PARTS, fail_fast=True)]


class Message(BaseModel):
    """One message of a chat, as the checkpoint's template gets it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: str
    content: str | Parts
    name: str | None = None


class Chat(BaseModel):
    """The JSON of the `chat` input. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    continue_final_message: bool = False
    """Whether the answer goes on with the last message, which is the assistant's, instead of following it."""

    @model_validator(mode="after")
    def _only_an_assistants_message_goes_on(self) -> Chat:
        if self.continue_final_message and (self.messages[-1].role != "assistant" or not self.messages[-1].content):
            raise ValueError("continue_final_message: the last message must be the assistant's, and say something")
        return self


def parse_chat(chat_json: bytes) -> Chat:
    """Read the `chat` input.

    Raises:
        InvalidRequest: the JSON is not a chat.
    """
    try:
        return Chat.model_validate_json(chat_json)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error" and not first["loc"]:
            field, _, sentence = str(first["ctx"]["error"]).partition(": ")
            raise InvalidRequest(field, sentence) from error
        place = [str(part) for part in first["loc"] if part not in _UNION_TAGS]
        raise InvalidRequest(".".join(place) or "chat", first["msg"]) from error


class PromptEncoder:
    """Tokenizes prompts and chats with the checkpoint's own tokenizer and chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocab_size: int, max_context: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_context = max_context
        vocabulary = tokenizer.get_vocab()
        self._missing_fim = [token for token in FIM_TOKENS if token not in vocabulary]
        longest = max(map(len, vocabulary))
        # No text longer than this fits; tokenizing megabytes to find that out would hold up everyone else.
        self._max_characters = max_context * longest

    def encode_text(self, text: str) -> list[int]:
        """Tokenize a raw prompt, with the special tokens that the tokenizer adds by itself.

        Raises:
            InvalidRequest: it is empty or longer than the context.
        """
        self._check_length("text_input", len(text))
        return self._check("text_input", self._tokenizer.encode(text))

    def encode_infill(self, before: str, after: str) -> list[int]:
        """Tokenize what surrounds a gap, for a checkpoint that was trained to fill it in.

        Raises:
            InvalidRequest: the checkpoint has no tokens for it, or both are longer than the context.
        """
        if self._missing_fim:
            text = f"this checkpoint fills no gaps: it has no token {self._missing_fim[0]}; leave it out"
            raise InvalidRequest("suffix", text)
        self._check_length("text_input", len(before) + len(after))
        begin, hole, end = FIM_TOKENS
        return self._check("text_input", self._tokenizer.encode(f"{begin}{before}{hole}{after}{end}"))

    def encode_chat(self, chat_json: bytes) -> list[int]:
        """Render a chat with the checkpoint's template and tokenize it.

        Raises:
            InvalidRequest: the JSON is not a chat, the template refuses it, it has images, or it is longer than the
                context.
        """
        chat = parse_chat(chat_json)
        if self._tokenizer.chat_template is None:
            raise InvalidRequest("chat", "this checkpoint has no chat template; send a plain prompt instead")
        messages = [message.model_dump(exclude_none=True) for message in chat.messages]
        if not all(isinstance(message.content, str) for message in chat.messages):
            raise InvalidRequest("messages", "this model reads no images; send each content as one text")
        self._check_length("messages", sum(len(message["content"]) for message in messages))
        text = self._render(messages, chat.continue_final_message)
        return self._check("messages", self._tokenizer.encode(text, add_special_tokens=False))

    def encode_ids(self, token_ids: list[int]) -> list[int]:
        """Check a prompt that comes as token ids.

        Raises:
            InvalidRequest: it is empty, has an id outside the vocabulary, or is longer than the context.
        """
        return self._check("input_ids", token_ids)

    def _render(self, messages: list[dict[str, Any]], continues: bool) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=not continues, continue_final_message=continues
            )
        except (TemplateError, ValueError) as error:  # the latter where a message to go on with is not found again
            raise InvalidRequest("messages", f"the checkpoint's chat template refuses them: {error}") from error
        return str(text)

    def _check_length(self, field: str, num_characters: int) -> None:
        if num_characters > self._max_characters:
            raise InvalidRequest(
                field, f"{num_characters} characters can't fit into the context of {self._max_context} tokens"
            )

    def _check(self, field: str, token_ids: list[int]) -> list[int]:
        if not token_ids:
            raise InvalidRequest(field, "it holds no tokens; send at least one")
        # A tokenizer may know tokens that the weights have no row for.
        wrong = [token for token in token_ids if not 0 <= token < self._vocab_size]
        if wrong:
            raise InvalidRequest(field, f"token {wrong[0]} is outside the vocabulary of {self._vocab_size} tokens")
        if len(token_ids) >= self._max_context:
            raise InvalidRequest(
                field,
                f"{len(token_ids)} tokens leave no room for an answer in the context of {self._max_context}",
            )
        return token_ids
