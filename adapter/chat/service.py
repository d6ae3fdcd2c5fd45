"""Answers a chat: one generation, whole or in chunks."""

import orjson
from fastapi import Request, Response

from adapter.chat.chunks import ChatChunks
from adapter.chat.schemas import AssistantMessage, ChatChoice, ChatCompletion, ChatLogprobs, ChatRequest, Message
from adapter.disconnect import cancel_on_disconnect
from adapter.generation import Choice, collect, generate, stream
from adapter.models.service import ModelCatalog
from adapter.request_log import RequestRecord, record_of
from adapter.sampling import check, sampling_parameters
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.tensors import Chat, InferRequest
from adapter.triton_client import TritonClient
from adapter.wire import AnswerHead, UsageCounts


class ChatService:
    def __init__(self, triton: TritonClient, catalog: ModelCatalog, settings: Settings) -> None:
        self._triton = triton
        self._catalog = catalog
        self._settings = settings

    async def create(self, body: ChatRequest, request: Request) -> Response:
        check(body, self._settings)
        model_id, triton_model = self._catalog.resolve(body.model)
        record = record_of(request.scope)
        generation = self._generation(body, triton_model, record)
        head = AnswerHead.new("chatcmpl", model_id)
        if body.stream:
            chunks = ChatChunks(head, body.n, body.include_usage)
            return EventStream(stream(generate(self._triton, [generation]), chunks, record))
        answer = await cancel_on_disconnect(collect(generate(self._triton, [generation]), body.n), request.receive)
        record.usage = answer.usage
        choices = [_choice(index, choice) for index, choice in enumerate(answer.choices)]
        whole = ChatCompletion(head.id, head.created, head.model, choices, UsageCounts.of(answer.usage))
        return Response(orjson.dumps(whole), media_type="application/json")

    def _generation(self, body: ChatRequest, triton_model: str, record: RequestRecord) -> InferRequest:
        max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        parameters = sampling_parameters(body, max_tokens=max_tokens, logprobs=logprobs, settings=self._settings)
        chat = Chat(orjson.dumps({"messages": [_turn(message) for message in body.messages]}))
        return InferRequest(record.id, triton_model, chat, parameters, body.n, body.stream)


def _turn(message: Message) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": message.text}


def _choice(index: int, choice: Choice) -> ChatChoice:
    logprobs = None if choice.logprobs is None else ChatLogprobs(choice.logprobs)
    return ChatChoice(index, AssistantMessage(choice.text), logprobs, choice.finish_reason)
