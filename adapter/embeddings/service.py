"""Embeds texts: all of a request's at the same time."""

import asyncio
import base64
import struct

import orjson
from fastapi import Request, Response

from adapter.disconnect import cancel_on_disconnect
from adapter.embeddings.schemas import EmbeddingData, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from adapter.errors import InvalidRequest
from adapter.models.service import ModelCatalog
from adapter.request_log import RequestRecord, record_of
from adapter.settings import Settings
from adapter.tensors import Embedding, TaskRequest, Usage
from adapter.triton_client import TritonClient


class EmbeddingService:
    def __init__(self, triton: TritonClient, catalog: ModelCatalog, settings: Settings) -> None:
        self._triton = triton
        self._catalog = catalog
        self._max_inputs = settings.max_prompts

    async def create(self, body: EmbeddingRequest, request: Request) -> Response:
        model_id, triton_model = self._catalog.resolve(body.model)
        record = record_of(request.scope)
        inputs = body.inputs
        if len(inputs) > self._max_inputs:
            raise InvalidRequest(f"input: must be at most {self._max_inputs} texts; send them in parts", param="input")
        tasks = [TaskRequest(record.id, triton_model, "embed", prompt) for prompt in inputs]
        embeddings = await cancel_on_disconnect(self._embed(tasks, body.dimensions, record), request.receive)
        data = [EmbeddingData(i, _written(embedding, body)) for i, embedding in enumerate(embeddings)]
        num_tokens = sum(embedding.num_input_tokens for embedding in embeddings)
        answer = EmbeddingList(data, model_id, EmbeddingUsage(num_tokens, num_tokens))
        return Response(orjson.dumps(answer), media_type="application/json")

    async def _embed(
        self, requests: list[TaskRequest], dimensions: int | None, record: RequestRecord
    ) -> list[Embedding]:
        """The first that fails fails them all."""

        async def embed(request: TaskRequest) -> Embedding:
            try:
                embedding = await self._triton.embed(request)
            except InvalidRequest as error:
                raise error.of("input") if error.param == "prompt" else error from None
            record.usage = (record.usage or Usage()) + Usage(embedding.num_input_tokens)
            if dimensions not in (None, embedding.size):
                text = f"dimensions: this model's embeddings have {embedding.size}; leave it out"
                raise InvalidRequest(text, param="dimensions")
            return embedding

        tasks = [asyncio.create_task(embed(request)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _written(embedding: Embedding, body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(embedding.values).decode()
    return list(struct.unpack(f"<{embedding.size}f", embedding.values))
