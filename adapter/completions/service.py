"""Completes prompts: one generation for each, all at the same time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson
from fastapi import Request, Response

from adapter.completions.chunks import CompletionChunks, TextOffsets, completion_logprobs
from adapter.completions.echo import echoed
from adapter.completions.schemas import Completion, CompletionChoice, CompletionLogprobs, CompletionRequest
from adapter.disconnect import cancel_on_disconnect
from adapter.errors import InvalidRequest
from adapter.generation import Choice, collect, generate, stream
from adapter.models.service import ModelCatalog
from adapter.request_log import RequestRecord, record_of
from adapter.sampling import check, sampling_parameters
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.tensors import InferRequest, PromptToken, TaskRequest, TokenLogprob
from adapter.triton_client import TritonClient
from adapter.wire import AnswerHead, UsageCounts

_AT_ONCE = 2048
"""Tokens whose log probabilities are told in one go: they take 4 ms."""


class CompletionService:
    def __init__(self, triton: TritonClient, catalog: ModelCatalog, settings: Settings) -> None:
        self._triton = triton
        self._catalog = catalog
        self._settings = settings

    async def create(self, body: CompletionRequest, request: Request) -> Response:
        check(body, self._settings)
        model_id, triton_model = self._catalog.resolve(body.model)
        record = record_of(request.scope)
        generations = self._generations(body, triton_model, record)
        num_choices = len(generations) * body.n
        head = AnswerHead.new("cmpl", model_id, await self._catalog.fingerprint(triton_model))
        responses = generate(self._triton, generations, record)
        if body.echo:
            responses = echoed(generations, responses, self._prompt_text, has_logprobs=body.logprobs is not None)
        if body.stream:
            chunks = CompletionChunks(head, num_choices, body.include_usage)
            events = stream(responses, chunks)
            return EventStream(events, self._settings.keep_alive_s)
        answer = await cancel_on_disconnect(collect(responses, num_choices), request.receive)
        has_logprobs = body.logprobs is not None
        choices = [await _choice(index, choice, has_logprobs) for index, choice in enumerate(answer.choices)]
        usage = UsageCounts.of(answer.usage)
        whole = Completion(head.id, head.created, head.model, choices, usage, head.system_fingerprint)
        return Response(await _json(whole), media_type="application/json")

    def _generations(self, body: CompletionRequest, triton_model: str, record: RequestRecord) -> list[InferRequest]:
        prompts = body.prompts
        if len(prompts) > self._settings.max_prompts:
            raise InvalidRequest(f"prompt: must be at most {self._settings.max_prompts} prompts", param="prompt")
        max_tokens = self._settings.default_completion_max_tokens if body.max_tokens is None else body.max_tokens
        parameters = sampling_parameters(
            body,
            max_tokens=max_tokens,
            logprobs=body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
            settings=self._settings,
        )
        return [
            InferRequest(record.id, triton_model, prompt, parameters, body.n, body.stream, suffix=body.suffix or None)
            for prompt in prompts
        ]

    async def _prompt_text(self, generation: InferRequest) -> str:
        if isinstance(generation.prompt, str):
            return generation.prompt
        return await self._triton.run_task(
            TaskRequest(generation.id, generation.model, "detokenize", generation.prompt)
        )


async def _choice(index: int, choice: Choice, has_logprobs: bool) -> CompletionChoice:
    logprobs = await told_logprobs([*choice.prompt_tokens, *(choice.logprobs or ())]) if has_logprobs else None
    return CompletionChoice(index, choice.text, logprobs, choice.finish_reason)


async def told_logprobs(entries: Sequence[PromptToken | TokenLogprob]) -> CompletionLogprobs:
    """Of a choice's tokens, which may be a long prompt's: others have their turn meanwhile."""
    logprobs, offsets = CompletionLogprobs([], [], [], []), TextOffsets()
    for start in range(0, len(entries), _AT_ONCE):
        logprobs.add(completion_logprobs(entries[start : start + _AT_ONCE], offsets))
        await asyncio.sleep(0)
    return logprobs


async def _json(whole: Completion) -> bytes:
    """Choice by choice, since each may be long."""
    start, name, end = orjson.dumps(replace(whole, choices=[])).partition(b'"choices":[')
    pieces = [start, name]
    for choice in whole.choices:
        pieces += orjson.dumps(choice), b","
        await asyncio.sleep(0)
    return b"".join([*pieces[:-1], end])
