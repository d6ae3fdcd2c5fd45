"""The body of `POST /v1/ocr`, and its answer, as Mistral's client has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from adapter.chat.messages import ImageUrlOrString
from adapter.documents.page_ranges import MAX_PAGES_CHARACTERS
from adapter.request_body import RequestModel, text_or_list
from adapter.sampling import MAX_INT32

_MAX_PAGE_NUMBERS = 10_000
_EXAMPLE_IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)


def _known_document(value: object) -> object:
    if value != "document_url":
        sentence = 'must be "document_url" or "image_url"; this server keeps no files: send them as data URLs'
        raise ValueError(sentence)
    return value


class DocumentUrl(RequestModel):
    type: Annotated[Literal["document_url"], BeforeValidator(_known_document)] = "document_url"
    document_url: str = Field(description="A data URL of a PDF or an image; an http(s) URL where the server allows it.")
    document_name: str | None = Field(None, description="Of no effect: what the document is shows from its content.")


class DocumentImage(RequestModel):
    type: Literal["image_url"] = "image_url"
    image_url: ImageUrlOrString


def _document_kind(value: object) -> str:
    is_image = isinstance(value, dict) and ("image_url" in value or value.get("type") == "image_url")
    return "<image>" if is_image else "<document>"


SentDocument = Annotated[
    Annotated[DocumentUrl, Tag("<document>")] | Annotated[DocumentImage, Tag("<image>")],
    Discriminator(_document_kind),
]


PageIndex = Annotated[int, Field(ge=0, lt=MAX_INT32)]
Pages = Annotated[
    Annotated[str, Field(max_length=MAX_PAGES_CHARACTERS), Tag("<text>")]
    | Annotated[list[PageIndex], Field(max_length=_MAX_PAGE_NUMBERS, fail_fast=True), Tag("<list>")],
    Discriminator(text_or_list),
]


class MistralOcrRequest(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"document": {"type": "image_url", "image_url": _EXAMPLE_IMAGE}}]}
    )

    model: str | None = Field(None, description="One of `/v1/models`; the server's OCR model if absent.")
    document: SentDocument
    pages: Pages | None = Field(None, description="Counted from 0: a list, or a text such as `0-2,6`; all if absent.")
    include_image_base64: bool = Field(False, description="Return the figures themselves, as data URLs of PNGs.")
    image_limit: int | None = Field(None, ge=0, le=MAX_INT32, description="Most figures of the whole document.")
    image_min_size: int | None = Field(
        None, ge=0, le=MAX_INT32, description="Smallest width and height of a figure, in pixels."
    )
    table_format: Literal["html"] | None = Field(
        None, description="`html` moves tables out of the Markdown into `tables`; where they are if absent."
    )
    extract_header: bool = Field(False, description="Move page headers out of the Markdown into `header`.")
    extract_footer: bool = Field(False, description="Move page footers out of the Markdown into `footer`.")
    include_blocks: bool = Field(True, description="Return the blocks of the page and where they are.")

    # What follows cannot change an answer of this server.
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Of the page's image, in pixels; `dpi` is what a PDF is rendered at, 72 for an image."""

    dpi: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Image:
    """`id` is what the Markdown calls it; corners are in pixels of the page's image."""

    id: str
    top_left_x: int
    top_left_y: int
    bottom_right_x: int
    bottom_right_y: int
    image_base64: str | None
    image_annotation: None = None


@dataclass(frozen=True, slots=True)
class Table:
    id: str
    content: str
    format: Literal["html"] = "html"


@dataclass(frozen=True, slots=True)
class Block:
    """One of the types that Mistral's client knows."""

    type: str
    top_left_x: int
    top_left_y: int
    bottom_right_x: int
    bottom_right_y: int
    content: str


@dataclass(frozen=True, slots=True)
class ImageBlock(Block):
    image_id: str


@dataclass(frozen=True, slots=True)
class TableBlock(Block):
    table_id: str | None


AnyBlock: TypeAlias = ImageBlock | TableBlock | Block


@dataclass(frozen=True, slots=True)
class OcrPage:
    """`index` counts from 0."""

    index: int
    markdown: str
    images: Sequence[Image]
    tables: Sequence[Table]
    header: str | None
    footer: str | None
    dimensions: Dimensions
    blocks: Sequence[AnyBlock] | None


@dataclass(frozen=True, slots=True)
class UsageInfo:
    pages_processed: int
    doc_size_bytes: int


@dataclass(frozen=True, slots=True)
class MistralOcrAnswer:
    pages: Sequence[OcrPage]
    model: str
    usage_info: UsageInfo
    document_annotation: None = None
