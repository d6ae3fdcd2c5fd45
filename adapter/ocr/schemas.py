"""The bodies of the OCR endpoints, and their answers."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from adapter.errors import ErrorDetail
from adapter.ocr.fields import OcrFields
from adapter.ocr.layout import PageBlock
from adapter.request_body import RequestModel
from adapter.wire import UsageCounts

# A white pixel.
EXAMPLE_IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="


class OcrRequestFields(OcrFields):
    """The fields of one request, without the document itself."""

    stream: bool = Field(False, description="Answer as `/ocr/stream` does.")


class OcrRequest(OcrRequestFields):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"image_base64": EXAMPLE_IMAGE, "prompt": "<image>\nFree OCR."}]}
    )

    image_base64: str = Field(min_length=1, description="An image or a PDF: plain base64, or a data URL.")


class OcrForm(OcrRequestFields):
    """The fields of a form, which are all text: `5` is a number here, `true` a boolean."""

    model_config = ConfigDict(strict=False)


class BatchRequest(RequestModel):
    """Its items are looked at one by one, so that one's fault is not the others'."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [{"image_base64": EXAMPLE_IMAGE}]}]})

    requests: list[Any] = Field(min_length=1, description="Bodies as of `/ocr`, without `stream`.")


class FigureFields(BaseModel):
    id: str = Field(description="A file name, as in the Markdown.")
    box: tuple[int, int, int, int] = Field(description="Left, top, right, bottom in pixels of the upright image.")
    image_base64: str = Field(description="PNG.")


class PageFields(BaseModel):
    """Only the parts that were asked for are there; of a page that failed, only `page` and `error`."""

    model_config = ConfigDict(extra="forbid")

    page: int
    width: int | None = None
    height: int | None = None
    finish_reason: str | None = None
    text: str | None = None
    markdown: str | None = None
    blocks: list[PageBlock] | None = None
    figures: list[FigureFields] | None = None
    annotated: str | None = Field(None, description="The page with its blocks' boxes drawn: PNG as base64.")
    raw: str | None = Field(None, description="The model's own text.")
    error: ErrorDetail | None = None


class OcrAnswer(BaseModel):
    """Only the parts that were asked for are there, of all pages; `text` always is. Pictures are in `pages` alone."""

    model_config = ConfigDict(extra="forbid")

    id: str
    model: str
    text: str
    markdown: str | None = None
    blocks: list[PageBlock] | None = None
    raw: str | None = None
    pages: list[PageFields]
    num_failed_pages: int
    finish_reason: str = Field(description="`stop`, or what the first page that ended otherwise says.")
    usage: UsageCounts
    processing_time_s: float


class BatchItemAnswer(OcrAnswer):
    index: int


class BatchItemError(BaseModel):
    model_config = ConfigDict(extra="forbid")

    index: int
    status: int = Field(description="The HTTP status that the item alone would have had.")
    error: ErrorDetail


class BatchAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    results: list[BatchItemAnswer | BatchItemError]
    num_failed: int
    usage: UsageCounts
