"""Shows a model's tokens: the model has the tokenizer and the chat template."""

import orjson
from fastapi import Request

from adapter.chat.service import chat_prompt
from adapter.disconnect import cancel_on_disconnect
from adapter.errors import BrokenAnswer, InvalidRequest
from adapter.models.service import ModelCatalog
from adapter.request_log import record_of
from adapter.tensors import Chat, TaskRequest
from adapter.tokens.schemas import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest
from adapter.triton_client import TritonClient


class TokenService:
    def __init__(self, triton: TritonClient, catalog: ModelCatalog) -> None:
        self._triton = triton
        self._catalog = catalog

    async def tokenize(self, body: TokenizeRequest, request: Request) -> Tokenized:
        _, triton_model = self._catalog.resolve(body.model)
        chat = body.chat
        prompt: str | Chat = chat_prompt(chat) if chat else body.prompt or ""
        add_special_tokens = None if chat else body.add_special_tokens
        task = TaskRequest(record_of(request.scope).id, triton_model, "tokenize", prompt, add_special_tokens)
        said = await cancel_on_disconnect(self._triton.run_task(task), request.receive)
        try:
            given = orjson.loads(said)
            tokens, spelt = given["tokens"], given["token_strs"]
            return Tokenized(len(tokens), given["max_context"], tokens, spelt if body.return_token_strs else None)
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenAnswer(f"the model's tokens are not understood: {error!r}") from error

    async def detokenize(self, body: DetokenizeRequest, request: Request) -> Detokenized:
        _, triton_model = self._catalog.resolve(body.model)
        task = TaskRequest(record_of(request.scope).id, triton_model, "detokenize", body.tokens)
        try:
            return Detokenized(await cancel_on_disconnect(self._triton.run_task(task), request.receive))
        except InvalidRequest as error:
            raise error.of("tokens") if error.param == "prompt" else error from None
