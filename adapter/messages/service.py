"""Answers a request for a message: the chat that it is, told in blocks."""

from fastapi import Request, Response
from pydantic_core import to_json

from adapter.chat.parts import parts_of
from adapter.chat.service import ChatService
from adapter.disconnect import cancel_on_disconnect
from adapter.generation import collect, stream
from adapter.messages.answer import MessageAnswer, MessageUsage, Stop, TokenCount, block_of, new_message_id
from adapter.messages.events import PING, MessageEvents
from adapter.messages.schemas import MessagesPrompt, MessagesRequest
from adapter.messages.translation import translated
from adapter.request_log import record_of
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.tokens.service import TokenService


class MessageService:
    def __init__(self, chats: ChatService, tokens: TokenService, settings: Settings) -> None:
        self._chats = chats
        self._tokens = tokens
        self._settings = settings

    async def create(self, body: MessagesRequest, request: Request) -> Response:
        record = record_of(request.scope)
        chat = translated(body).start(self._chats, record, counts_as_it_goes=body.stream)
        if body.stream:
            events = MessageEvents(chat.model, record.id)
            told = stream(chat.responses, events)
            return EventStream(told, self._settings.keep_alive_s, events.ending, PING, {"request-id": record.id})
        answer = await cancel_on_disconnect(collect(chat.responses, 1), request.receive)
        [choice] = answer.choices
        content = [block_of(part) for part in parts_of(choice)]
        stop, usage = Stop.of(choice.finish_reason, choice.stop_string), MessageUsage.of(answer.usage)
        whole = MessageAnswer(new_message_id(), chat.model, content, stop.stop_reason, stop.stop_sequence, usage)
        # Not orjson: a tool's input may have integers of any length.
        return Response(to_json(whole), headers={"request-id": record.id}, media_type="application/json")

    async def count(self, body: MessagesPrompt, request: Request) -> TokenCount:
        tokenized = await translated(body).tokenize(self._tokens, request)
        return TokenCount(tokenized.count)
