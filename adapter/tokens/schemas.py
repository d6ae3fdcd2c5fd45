"""The bodies of `POST /tokenize` and `POST /detokenize`, and their answers, in vLLM's shapes."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from adapter.chat.messages import Message
from adapter.chat.schemas import MAX_MESSAGES, ChatRequest
from adapter.chat.tools import MAX_TOOLS, Tool
from adapter.errors import InvalidRequest
from adapter.prompts import Tokens
from adapter.request_body import JsonObject, RequestModel, validated

_OF_CHATS = ("tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs")


class TokenizeRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "def add(a, b):"}]})

    model: str | None = Field(None, description="One of `/v1/models`; the server's default model if absent.")
    prompt: str | None = Field(None, description="A text; or give `messages`.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] | None = Field(
        None, description="A chat, as of `/v1/chat/completions`; this one and the next four are for chats."
    )
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: JsonObject | None = None
    add_special_tokens: bool | None = Field(
        None, description="Whether a text gets those that the tokenizer adds by itself, which is so if absent."
    )
    return_token_strs: bool = Field(False, description="Give the tokens as the vocabulary spells them, too.")

    @model_validator(mode="after")
    def _consistent(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise InvalidRequest("prompt: give either it or messages", param="prompt")
        for name in _OF_CHATS:
            if self.messages is None and getattr(self, name) is not None:
                raise InvalidRequest(f"{name}: is only for messages", param=name)
        if self.messages is not None and self.add_special_tokens:
            text = "add_special_tokens: a chat's template says which there are; leave it out"
            raise InvalidRequest(text, param="add_special_tokens")
        return self

    @property
    def chat(self) -> ChatRequest | None:
        """The chat that is to be tokenized, if it is one; raises `InvalidRequest` where that could not be answered."""
        if self.messages is None:
            return None
        given = {name: value for name in _OF_CHATS if (value := getattr(self, name)) is not None}
        return validated(ChatRequest, {"model": self.model, "messages": self.messages, **given})


class DetokenizeRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": [40, 41, 42]}]})

    model: str | None = Field(None, description="One of `/v1/models`; the server's default model if absent.")
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Tokenized:
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


@dataclass(frozen=True, slots=True)
class Detokenized:
    prompt: str
