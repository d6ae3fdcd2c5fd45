"""Answers a chat: one generation, whole or in chunks."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import orjson
from fastapi import Request, Response

from adapter.chat.answer import ChatCompletion, chat_choice
from adapter.chat.chunks import ChatChunks
from adapter.chat.images import ChatImages
from adapter.chat.messages import ImagePart, Message
from adapter.chat.schemas import ChatRequest
from adapter.chat.tools import NamedTool
from adapter.disconnect import cancel_on_disconnect
from adapter.documents.reader import DocumentReader
from adapter.documents.remote import ImageFetcher
from adapter.errors import InvalidRequest
from adapter.generation import collect, generate, stream
from adapter.models.service import ModelCatalog
from adapter.request_log import RequestRecord, record_of
from adapter.sampling import check, sampling_parameters
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.tensors import Chat, Generated, InferRequest
from adapter.triton_client import TritonClient
from adapter.wire import AnswerHead, UsageCounts

# What a user's images are read with who says nothing.
_FREE_OCR = {"type": "text", "text": "Free OCR."}


@dataclass(frozen=True, slots=True)
class ChatStarted:
    """The served id of the model that answers, Triton's name of it, and its responses, which run as they are read."""

    model: str
    triton_model: str
    responses: AsyncGenerator[Generated, None]


class ChatService:
    def __init__(
        self,
        triton: TritonClient,
        catalog: ModelCatalog,
        settings: Settings,
        documents: DocumentReader,
        fetcher: ImageFetcher,
    ) -> None:
        self._triton = triton
        self._catalog = catalog
        self._settings = settings
        self._images = ChatImages(documents, fetcher, settings.max_document_body_bytes)

    async def create(self, body: ChatRequest, request: Request) -> Response:
        chat = self.start(body, record_of(request.scope))
        head = AnswerHead.new("chatcmpl", chat.model, await self._catalog.fingerprint(chat.triton_model))
        if body.stream:
            events = stream(chat.responses, ChatChunks(head, body.n, body.include_usage))
            return EventStream(events, self._settings.keep_alive_s)
        answer = await cancel_on_disconnect(collect(chat.responses, body.n), request.receive)
        choices = [chat_choice(index, choice) for index, choice in enumerate(answer.choices)]
        usage = UsageCounts.of(answer.usage)
        whole = ChatCompletion(head.id, head.created, head.model, choices, usage, head.system_fingerprint)
        return Response(orjson.dumps(whole), media_type="application/json")

    def start(self, body: ChatRequest, record: RequestRecord, *, counts_as_it_goes: bool = False) -> ChatStarted:
        """Also for chats that came in another API's words.

        Args:
            counts_as_it_goes: whether each response has the usage so far.

        Raises:
            ApiError: the request is refused; what the model refuses comes with the responses.
        """
        check(body, self._settings)
        resolve = self._catalog.resolve_ocr if body.images else self._catalog.resolve
        model_id, triton_model = resolve(body.model)
        generation = self._generation(body, triton_model, record, counts_as_it_goes)
        return ChatStarted(model_id, triton_model, self._responses(body, generation, record))

    def _generation(
        self, body: ChatRequest, triton_model: str, record: RequestRecord, counts_as_it_goes: bool
    ) -> InferRequest:
        """What the model gets, but for the images."""
        max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        parameters = sampling_parameters(
            body,
            max_tokens=max_tokens,
            logprobs=logprobs,
            settings=self._settings,
            ocr=self._catalog.is_ocr(triton_model),
            form=body.form,
            thought_budget=body.thought_budget,
        )
        mode = body.image_mode
        image_parameters = None if mode is None else orjson.dumps({"mode": mode})
        return InferRequest(
            record.id,
            triton_model,
            chat_prompt(body),
            parameters,
            body.n,
            body.stream,
            image_parameters=image_parameters,
            continuous_usage=counts_as_it_goes,
        )

    async def _responses(
        self, body: ChatRequest, generation: InferRequest, record: RequestRecord
    ) -> AsyncGenerator[Generated, None]:
        """With the images, and with the model's errors in the client's words."""
        if body.images:
            generation = replace(generation, images=await self._images.read(body))
        try:
            async with aclosing(generate(self._triton, [generation], record)) as responses:
                async for generated in responses:
                    yield generated
        except InvalidRequest as error:
            raise _in_clients_words(error, body) from None


def chat_prompt(body: ChatRequest) -> Chat:
    """What the model makes its prompt of."""
    return Chat(orjson.dumps({"messages": _turns(body)} | _answering(body)))


def _turns(body: ChatRequest) -> list[dict[str, Any]]:
    turns = [_turn(message) for message in body.messages]
    if body.images and not any(message.text.strip() for message in body.messages):
        last = max(i for i, message in enumerate(body.messages) if message.has_images)
        turns[last]["content"].append(_FREE_OCR)
    return turns


def _answering(body: ChatRequest) -> dict[str, Any]:
    """How the chat is to be answered, in the engine's words; what is as usual is left out."""
    choice = body.tool_choice
    thinks = None if body.thinking is None else body.thinking.type == "enabled"
    effort = body.reasoning_effort
    answering = {
        "continue_final_message": body.continues or None,
        "tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()] or None,
        "tool_choice": {"name": choice.function.name} if isinstance(choice, NamedTool) else choice,
        "parallel_tool_calls": body.parallel_tool_calls,
        "thinking": False if effort == "none" else thinks,
        "reasoning_effort": None if effort == "none" else effort,
        "chat_template_kwargs": body.chat_template_kwargs or None,
    }
    if not body.tools:
        del answering["tool_choice"], answering["parallel_tool_calls"]
    return {name: value for name, value in answering.items() if value is not None}


def _turn(message: Message) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    if not message.has_images:
        turn: dict[str, Any] = {"role": role, "content": message.text}
        if message.thought:
            turn["reasoning_content"] = message.thought
        if message.tool_calls:
            turn["tool_calls"] = [call.model_dump(exclude={"index"}) for call in message.tool_calls]
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        return turn
    parts = [
        {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": part.text}
        for part in message.parts
    ]
    return {"role": role, "content": parts}


def _in_clients_words(error: InvalidRequest, body: ChatRequest) -> InvalidRequest:
    """The model refuses what it was given; the client may have given it by another name."""
    if error.param == "max_tokens" and body.max_completion_tokens is not None:
        param = "max_completion_tokens"
    elif error.param in ("image", "image_parameters", "mode"):
        param = "messages"
    elif error.param == "thinking" and body.reasoning_effort == "none":
        param = "reasoning_effort"
    elif error.param == "thinking_token_budget" and body.thinking_token_budget is None:
        param = "thinking.budget_tokens"
    elif error.param == "continue_final_message" and body.continue_final_message is None:
        param = f"messages.{len(body.messages) - 1}.prefix"
    elif error.param in body.form:
        param = "response_format" if error.param == "guided_json_object" else "response_format.json_schema.schema"
    else:
        return error
    return error.of(param)
