"""Answers a request for a response: the chat that it is, told in items."""

import orjson
from fastapi import Request, Response

from adapter.chat.parts import parts_of
from adapter.chat.service import ChatService
from adapter.disconnect import cancel_on_disconnect
from adapter.generation import collect, stream
from adapter.request_log import record_of
from adapter.responses.answer import begun
from adapter.responses.events import ResponseEvents
from adapter.responses.schemas import ResponsesRequest
from adapter.responses.translation import translated
from adapter.settings import Settings
from adapter.sse import EventStream


class ResponseService:
    def __init__(self, chats: ChatService, settings: Settings) -> None:
        self._chats = chats
        self._settings = settings

    async def create(self, body: ResponsesRequest, request: Request) -> Response:
        chat = translated(body).start(self._chats, record_of(request.scope))
        response = begun(body, chat.model)
        if body.stream:
            events = ResponseEvents(response)
            return EventStream(stream(chat.responses, events), self._settings.keep_alive_s, events.ending)
        answer = await cancel_on_disconnect(collect(chat.responses, 1), request.receive)
        [choice] = answer.choices
        whole = response.ended(choice.finish_reason, parts_of(choice), answer.usage)
        return Response(orjson.dumps(whole), media_type="application/json")
