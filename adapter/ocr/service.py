"""Reads a document, whole or as it streams, or a batch of them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
from fastapi import Request, Response

from adapter.disconnect import cancel_on_disconnect
from adapter.documents.page import Document
from adapter.documents.reader import DocumentReader
from adapter.errors import InvalidRequest
from adapter.models.service import ModelCatalog
from adapter.ocr.answer import DocumentAnswer, failed_if_all_failed
from adapter.ocr.document import PageFailed, read_document
from adapter.ocr.events import EventEncoder, Format, event_encoder
from adapter.ocr.fields import read_options
from adapter.ocr.form import OcrInput, from_json
from adapter.ocr.reader import PageReader
from adapter.ocr.results import PictureBudget
from adapter.ocr.schemas import BatchRequest, OcrRequest
from adapter.request_body import validated
from adapter.request_log import RequestRecord, record_of
from adapter.settings import Settings
from adapter.sse import EventStream
from adapter.tensors import Usage
from adapter.wire import AnswerHead, UsageCounts


class OcrService:
    def __init__(
        self, reader: PageReader, documents: DocumentReader, catalog: ModelCatalog, settings: Settings
    ) -> None:
        self._reader = reader
        self._documents = documents
        self._catalog = catalog
        self._settings = settings

    async def read(self, given: OcrInput, request: Request, stream_format: Format | None) -> Response:
        """As an event stream if the fields say so, else whole."""
        if given.fields.stream:
            return self.stream(given, request, stream_format)
        if stream_format is not None:
            raise InvalidRequest("format: is only for streams; leave it out", param="format")
        record = record_of(request.scope)
        answer = await cancel_on_disconnect(self._answer(given, record, PictureBudget("output")), request.receive)
        return Response(orjson.dumps(answer.fields()), media_type="application/json")

    def stream(self, given: OcrInput, request: Request, stream_format: Format | None) -> Response:
        model_id, triton_model = self._catalog.resolve_ocr(given.fields.model)
        stream_format = stream_format or "text"
        encoder = event_encoder(stream_format, AnswerHead.new("ocr", model_id), given.fields.parts)
        events = self._events(given, triton_model, encoder, record_of(request.scope), streamed=stream_format != "pages")
        return EventStream(events, self._settings.keep_alive_s, encoder.ending)

    async def read_batch(self, body: BatchRequest, request: Request) -> Response:
        max_images = self._settings.max_batch_images
        if len(body.requests) > max_images:
            raise InvalidRequest(f"requests: must have at most {max_images} items", param="requests")
        record = record_of(request.scope)
        results = await cancel_on_disconnect(self._batch(body.requests, record), request.receive)
        batch = {
            "results": results,
            "num_failed": sum("error" in result for result in results),
            "usage": UsageCounts.of(record.usage or Usage()),
        }
        return Response(orjson.dumps(batch), media_type="application/json")

    async def _events(
        self, given: OcrInput, triton_model: str, encoder: EventEncoder, record: RequestRecord, *, streamed: bool
    ) -> AsyncGenerator[bytes, None]:
        parts = given.fields.parts
        async with self._opened(given) as document:
            options = read_options(given.fields, triton_model, document, given.field)
            events = read_document(self._reader, document, options, parts, record.id, streamed=streamed)
            unsent = encoder.opening(len(document.numbers))
            try:
                async with aclosing(failed_if_all_failed(events)) as checked:
                    async for event in checked:
                        if isinstance(event, PageFailed):
                            record.error_code = event.error.code
                        if data := unsent + await encoder.event(event):
                            yield data
                            unsent = b""
            finally:
                record.usage = options.tally.total
        yield unsent + encoder.closing(record.usage)

    async def _answer(
        self,
        given: OcrInput,
        record: RequestRecord,
        pictures: PictureBudget,
        slots: asyncio.Semaphore | None = None,
    ) -> DocumentAnswer:
        model_id, triton_model = self._catalog.resolve_ocr(given.fields.model)
        answer = DocumentAnswer(AnswerHead.new("ocr", model_id), given.fields.parts, pictures)
        async with self._opened(given) as document:
            options = read_options(given.fields, triton_model, document, given.field)
            events = read_document(self._reader, document, options, given.fields.parts, record.id, slots=slots)
            try:
                async with aclosing(failed_if_all_failed(events)) as checked:
                    async for event in checked:
                        await answer.add(event)
            finally:
                answer.usage = options.tally.total
                record.usage = (record.usage or Usage()) + answer.usage
        if answer.first_error is not None:
            record.error_code = answer.first_error.code
        return answer

    async def _batch(self, items: list[Any], record: RequestRecord) -> list[dict[str, Any]]:
        """The items' results, in their order; each fails alone."""
        # Both bound what is held at once: images that are open, and pages in the model's queue.
        open_items = asyncio.Semaphore(self._settings.max_parallel_pages)
        slots = asyncio.Semaphore(self._settings.max_parallel_pages)
        pictures = PictureBudget("output")

        async def read_item(index: int, item: Any) -> dict[str, Any]:
            try:
                async with open_items:
                    body = validated(OcrRequest, item)
                    if body.stream:
                        raise InvalidRequest("stream: is not for a batch; leave it out", param="stream")
                    answer = await self._answer(await from_json(body), record, pictures, slots)
                return {"index": index, **answer.fields()}
            except Exception as error:  # the edge of the item, as of a request
                public = record.fail(error)
                return {"index": index, "status": public.status, **orjson.loads(public.body())}

        tasks = [asyncio.create_task(read_item(index, item)) for index, item in enumerate(items)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def _opened(self, given: OcrInput) -> AsyncIterator[Document]:
        fields = given.fields
        with given.source:  # the request is not kept as long as it takes to read its pages
            document = await self._documents.open(
                given.source,
                field=given.field,
                declared_type=given.declared_type,
                pages=fields.pages,
                dpi=fields.dpi,
                frames=fields.frames,
            )
        try:
            yield document
        finally:
            await document.close()
