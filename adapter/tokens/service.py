"""Shows a model's tokens: the model has the tokenizer and the chat template."""

import orjson
from fastapi import Request

from adapter.chat.schemas import ChatRequest
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
        if chat := body.chat:
            return await self.of_chat(chat, request, spelt=body.return_token_strs)
        return await self._tokens(
            body.model, body.prompt or "", body.add_special_tokens, request, body.return_token_strs
        )

    async def of_chat(self, chat: ChatRequest, request: Request, *, spelt: bool = False) -> Tokenized:
        """`spelt`: with the tokens as the vocabulary spells them."""
        return await self._tokens(chat.model, chat_prompt(chat), None, request, spelt)

    async def _tokens(
        self, model: str | None, prompt: str | Chat, add_special_tokens: bool | None, request: Request, spelt: bool
    ) -> Tokenized:
        _, triton_model = self._catalog.resolve(model)
        task = TaskRequest(record_of(request.scope).id, triton_model, "tokenize", prompt, add_special_tokens)
        said = await cancel_on_disconnect(self._triton.run_task(task), request.receive)
        try:
            given = orjson.loads(said)
            tokens, texts = given["tokens"], given["token_strs"]
            return Tokenized(len(tokens), given["max_context"], tokens, texts if spelt else None)
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenAnswer(f"the model's tokens are not understood: {error!r}") from error

    async def detokenize(self, body: DetokenizeRequest, request: Request) -> Detokenized:
        _, triton_model = self._catalog.resolve(body.model)
        task = TaskRequest(record_of(request.scope).id, triton_model, "detokenize", body.tokens)
        try:
            return Detokenized(await cancel_on_disconnect(self._triton.run_task(task), request.receive))
        except InvalidRequest as error:
            raise error.of("tokens") if error.param == "prompt" else error from None
