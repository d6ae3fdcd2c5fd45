"""Reads a document as Mistral's API does: whole, every page or none."""

import asyncio
import re
from contextlib import aclosing

import orjson
from fastapi import Request, Response

from adapter.disconnect import cancel_on_disconnect
from adapter.documents.page import Document
from adapter.documents.reader import DocumentReader
from adapter.documents.remote import ImageFetcher, read_url
from adapter.errors import ApiError, InvalidRequest
from adapter.mistral_ocr.pages import mistral_page
from adapter.mistral_ocr.schemas import DocumentImage, MistralOcrAnswer, MistralOcrRequest, OcrPage, UsageInfo
from adapter.models.service import ModelCatalog
from adapter.ocr.document import PageFailed, PageRead, read_document
from adapter.ocr.fields import OcrFields, read_options
from adapter.ocr.reader import PageReader
from adapter.ocr.results import PictureBudget
from adapter.request_body import validated
from adapter.request_log import RequestRecord, record_of
from adapter.settings import Settings

_IMAGE_DPI = 72


class MistralOcrService:
    def __init__(
        self,
        catalog: ModelCatalog,
        settings: Settings,
        documents: DocumentReader,
        fetcher: ImageFetcher,
        reader: PageReader,
    ) -> None:
        self._catalog = catalog
        self._documents = documents
        self._fetcher = fetcher
        self._reader = reader

    async def read(self, body: MistralOcrRequest, request: Request) -> Response:
        model_id, triton_model = self._catalog.resolve_ocr(body.model)
        reading = self._answer(body, model_id, triton_model, record_of(request.scope))
        answer = await cancel_on_disconnect(reading, request.receive)
        return Response(await asyncio.to_thread(orjson.dumps, answer), media_type="application/json")

    async def _answer(
        self, body: MistralOcrRequest, model_id: str, triton_model: str, record: RequestRecord
    ) -> MistralOcrAnswer:
        url, field = _source(body)
        data, declared_type = await read_url(url, field, self._fetcher)
        size_bytes = len(data)
        document = await self._open(body, data, field, declared_type)
        del data  # as large as a body may be, and a PDF is on disk now
        try:
            pages = await self._read_pages(body, document, triton_model, field, record)
        finally:
            await document.close()
        return MistralOcrAnswer(pages, model_id, UsageInfo(len(pages), size_bytes))

    async def _open(self, body: MistralOcrRequest, data: bytes, field: str, declared_type: str | None) -> Document:
        is_image = isinstance(body.document, DocumentImage)
        try:
            return await self._documents.open(
                data,
                field=field,
                declared_type=declared_type,
                pages=_from_1(body.pages),
                frames="first" if is_image else "all",
            )
        except InvalidRequest as error:
            if error.param != "pages":
                raise
            text = f"{error.message} (this sentence counts pages from 1, the request from 0)"
            raise InvalidRequest(text, param="pages") from None

    async def _read_pages(
        self, body: MistralOcrRequest, document: Document, triton_model: str, field: str, record: RequestRecord
    ) -> list[OcrPage]:
        mode = body.document.image_url.mode if isinstance(body.document, DocumentImage) else None
        parts = ["raw", "figures"] if body.include_image_base64 else ["raw"]
        fields = validated(OcrFields, {"prompt": "markdown", "mode": mode, "output": parts})
        options = read_options(fields, triton_model, document, field)
        dpi = document.dpi or _IMAGE_DPI
        pages: list[OcrPage] = []
        pictures = PictureBudget("include_image_base64")
        num_images = 0
        try:
            async with aclosing(read_document(self._reader, document, options, fields.parts, record.id)) as events:
                async for event in events:
                    if isinstance(event, PageFailed):
                        raise _of_page(event)
                    if isinstance(event, PageRead):
                        pictures.spend(event.result)
                        max_images = None if body.image_limit is None else body.image_limit - num_images
                        pages.append(await asyncio.to_thread(mistral_page, event.result, body, max_images, dpi))
                        num_images += len(pages[-1].images)
        finally:
            record.usage = options.tally.total
        return pages


def _source(body: MistralOcrRequest) -> tuple[str, str]:
    """The document's URL, and the field that it came in."""
    if isinstance(body.document, DocumentImage):
        return body.document.image_url.url, "document.image_url"
    return body.document.document_url, "document.document_url"


def _from_1(pages: str | list[int] | None) -> str | list[int] | None:
    """Pages as we count them; what is no number stays, for the reader to refuse."""
    if pages is None:
        return None
    if isinstance(pages, str):
        return re.sub("[0-9]{1,18}", lambda digits: str(int(digits[0]) + 1), pages)
    return [page + 1 for page in pages]


def _of_page(failed: PageFailed) -> ApiError:
    """Mistral's answer has no place for the error of a page."""
    failed.error.message += f" (at page {failed.page - 1}, counted from 0)"
    return failed.error
