"""Chats that came in another API's words: what they are in ours, and what is wrong with them in the client's."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from fastapi import Request

from adapter.chat.schemas import ChatRequest
from adapter.chat.service import ChatService, ChatStarted
from adapter.errors import ApiError
from adapter.request_body import validated
from adapter.request_log import RequestRecord
from adapter.tensors import Generated
from adapter.tokens.schemas import Tokenized
from adapter.tokens.service import TokenService


class Places:
    """Where in the client's request each field of the chat came from; fields without a place have the same name."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places`: a chat's field to the request's; what lies below the one then lies below the other."""
        self._places = dict(places)

    def note(self, field: str, place: str) -> None:
        self._places[field] = place

    def of(self, field: str) -> str:
        above, below = field, ""
        while above:
            if above in self._places:
                return self._places[above] + below
            above, dot, last = above.rpartition(".")
            below = f"{dot}{last}{below}"
        return field

    @contextmanager
    def in_clients_words(self) -> Iterator[None]:
        """Errors that pass name the client's field."""
        try:
            yield
        except ApiError as error:
            if error.param is not None:
                place = self.of(error.param)
                if error.message.startswith(f"{error.param}: "):
                    error.message = place + error.message.removeprefix(error.param)
                error.param = place
            raise


class TranslatedChat:
    def __init__(self, fields: Mapping[str, Any], places: Places) -> None:
        """
        Args:
            fields: of the chat's own request; those that are None are absent.

        Raises:
            ApiError: the chat is refused; in the client's words.
        """
        self._places = places
        with places.in_clients_words():
            self._body = validated(ChatRequest, dict(fields))

    def start(self, chats: ChatService, record: RequestRecord, *, counts_as_it_goes: bool = False) -> ChatStarted:
        with self._places.in_clients_words():
            started = chats.start(self._body, record, counts_as_it_goes=counts_as_it_goes)
        return replace(started, responses=self._responses(started.responses))

    async def tokenize(self, tokens: TokenService, request: Request) -> Tokenized:
        """The tokens of what the model would be told."""
        with self._places.in_clients_words():
            return await tokens.of_chat(self._body, request)

    async def _responses(self, responses: AsyncGenerator[Generated, None]) -> AsyncGenerator[Generated, None]:
        with self._places.in_clients_words():
            async with aclosing(responses):
                async for generated in responses:
                    yield generated
