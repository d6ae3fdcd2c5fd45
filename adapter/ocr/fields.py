"""The request fields that all OCR endpoints share, their rules, and their way to the model."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from adapter.documents.page import MAX_DPI, MIN_DPI, Document
from adapter.documents.page_ranges import MAX_PAGES_CHARACTERS
from adapter.errors import InvalidRequest
from adapter.ngrams import FIELDS as NGRAM_FIELDS
from adapter.ngrams import IMAGE_NGRAMS, MAX_WHITELIST, PDF_NGRAMS, NgramSize, NgramWindow, TokenText
from adapter.ocr.reader import ReadOptions
from adapter.ocr.templates import build_prompt
from adapter.request_body import RequestModel
from adapter.sampling import MAX_INT32, MAX_INT64

Part: TypeAlias = Literal["text", "markdown", "blocks", "figures", "annotated", "raw"]

_MAX_PARTS = 16


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",", _MAX_PARTS)] if isinstance(value, str) else value


ViewSide = Annotated[int, Field(ge=64, le=1280, multiple_of=64)]
Parts = Annotated[list[Part], Field(min_length=1, max_length=_MAX_PARTS, fail_fast=True), BeforeValidator(_split)]


class OcrFields(RequestModel):
    """What may be asked of any document. Its rules are all checked when it is built."""

    model: str | None = Field(None, description="One of `/v1/models`; the server's OCR model if absent.")
    prompt: str | None = Field(
        None,
        description="A template (`free`, `markdown`, `grounding`, `describe`, `figure`, `locate`) or a text of your "
        "own; `free` if absent.",
    )
    object: str | None = Field(None, description="What to find; only with the template `locate`.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy.")
    max_tokens: int | None = Field(
        None, ge=1, le=MAX_INT32, description="Most tokens per page; what the context holds if absent."
    )
    top_p: float | None = Field(None, gt=0, le=1, description="Draw from the likeliest tokens of this mass only.")
    seed: int | None = Field(None, ge=-MAX_INT64 - 1, le=MAX_INT64, description="Same seed, same text.")
    mode: Literal["tiny", "small", "base", "large", "gundam"] | None = Field(
        None, description="How finely the image is read; the model's own choice if absent."
    )
    base_size: ViewSide | None = Field(None, description="Side of the view of the whole image, instead of `mode`.")
    image_size: ViewSide | None = Field(None, description="Side of a tile, instead of `mode`.")
    crop_mode: bool | None = Field(None, description="Whether to cut the image into tiles, instead of `mode`.")
    pages: str | None = Field(
        None,
        max_length=MAX_PAGES_CHARACTERS,
        description="Pages of a document, such as `1-3,7`; all if absent.",
    )
    dpi: int | None = Field(
        None, ge=MIN_DPI, le=MAX_DPI, description="Resolution that PDF pages are rendered at; images are read as sent."
    )
    frames: Literal["first", "all"] | None = Field(
        None,
        description="Which frames of an image; if absent, all pages of a TIFF and the first frame of an animation.",
    )
    output: Parts = Field(["text"], description="One part or several: what to return of each page.")
    no_repeat_ngram_size: NgramSize | None = Field(
        None, description="No so many tokens in a row twice; 0 turns it off."
    )
    no_repeat_ngram_window: NgramWindow | None = Field(
        None, description="How many tokens back `no_repeat_ngram_size` looks."
    )
    no_repeat_ngram_whitelist: Annotated[list[TokenText], Field(max_length=MAX_WHITELIST, fail_fast=True)] | None = (
        Field(None, description="Tokens that may repeat nevertheless.")
    )
    retry: bool = Field(
        True, description="Read a page that ended in a repetition once more, warmer; unless its text is out, streamed."
    )
    stop_on_repetition: bool = Field(True, description="End a page whose text goes round in a loop.")

    @model_validator(mode="after")
    def _consistent(self) -> "OcrFields":
        for name in ("base_size", "image_size", "crop_mode"):
            if self.mode is not None and getattr(self, name) is not None:
                raise InvalidRequest(f"{name}: is for requests without mode; give one of them", param=name)
        for name in ("no_repeat_ngram_window", "no_repeat_ngram_whitelist"):
            if self.no_repeat_ngram_size == 0 and getattr(self, name) is not None:
                raise InvalidRequest(f"{name}: is only for a no_repeat_ngram_size above 0", param=name)
        build_prompt(self.prompt, self.object)
        return self

    @property
    def parts(self) -> frozenset[Part]:
        return frozenset(self.output)


def read_options(fields: OcrFields, triton_model: str, document: Document, image_field: str) -> ReadOptions:
    """`image_field` is the request's field that brought the document."""
    return ReadOptions(
        triton_model=triton_model,
        prompt=build_prompt(fields.prompt, fields.object),
        image_field=image_field,
        ngrams=(IMAGE_NGRAMS if document.dpi is None else PDF_NGRAMS).changed(
            *(getattr(fields, name) for name in NGRAM_FIELDS)
        ),
        temperature=fields.temperature,
        max_tokens=fields.max_tokens,
        top_p=fields.top_p,
        seed=fields.seed,
        image_parameters=_image_parameters(fields),
        stop_on_repetition=fields.stop_on_repetition,
        retry=fields.retry,
    )


def _image_parameters(fields: OcrFields) -> dict[str, Any]:
    names = ("mode", "base_size", "image_size", "crop_mode")
    return {name: getattr(fields, name) for name in names if getattr(fields, name) is not None}
