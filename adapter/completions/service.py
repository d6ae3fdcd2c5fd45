"""Completes prompts: one generation for each, all at the same time."""

import orjson
from fastapi import Request, Response

from adapter.completions.chunks import CompletionChunks, TextOffsets, completion_logprobs
from adapter.completions.echo import echoed
from adapter.completions.schemas import Completion, CompletionChoice, CompletionRequest
from adapter.disconnect import cancel_on_disconnect
from adapter.errors import InvalidRequest
from adapter.generation import Choice, collect, generate, stream
from adapter.models.service import ModelCatalog
from adapter.request_log import RequestRecord, record_of
from adapter.sampling import check, sampling_parameters
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.tensors import InferRequest, TaskRequest
from adapter.triton_client import TritonClient
from adapter.wire import AnswerHead, UsageCounts


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
        choices = [_choice(index, choice, body.logprobs is not None) for index, choice in enumerate(answer.choices)]
        usage = UsageCounts.of(answer.usage)
        whole = Completion(head.id, head.created, head.model, choices, usage, head.system_fingerprint)
        return Response(orjson.dumps(whole), media_type="application/json")

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


def _choice(index: int, choice: Choice, has_logprobs: bool) -> CompletionChoice:
    entries = [*(choice.prompt_tokens or ()), *(choice.logprobs or ())]
    logprobs = completion_logprobs(entries, TextOffsets()) if has_logprobs else None
    return CompletionChoice(index, choice.text, logprobs, choice.finish_reason)
