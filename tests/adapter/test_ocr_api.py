"""`POST /ocr` and `POST /ocr/file`: what reaches the model, and what reaches the client."""

import base64
import io
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from grpc import StatusCode
from PIL import Image

from adapter.ocr.fields import OcrFields
from adapter.ocr.schemas import OcrAnswer, OcrForm, OcrRequest
from tests.adapter.fake_triton import FakeTriton, Seen
from tests.adapter.ocr_pages import (
    GROUNDED,
    USAGE_FIELDS,
    base64_of,
    by_page,
    page_of,
    pdf,
    png,
    size_of,
    tiff,
    times_usage,
)

WHITELIST = ["<td>", "</td>"]
IMAGE_SAMPLING = {
    "temperature": 0.0,
    "skip_special_tokens": False,
    "no_repeat_ngram_size": 30,
    "no_repeat_ngram_window": 90,
    "no_repeat_ngram_whitelist": WHITELIST,
}


def post(http: httpx.Client, path: str, data: bytes, **fields: Any) -> httpx.Response:
    """The same request as JSON or as a form, by the path."""
    if path == "/ocr":
        return http.post("/ocr", json={"image_base64": base64_of(data)} | fields)
    texts = {name: form_value(value) for name, value in fields.items()}
    return http.post(path, files={"file": ("page.png", data, "image/png")}, data=texts)


def form_value(value: Any) -> Any:
    if isinstance(value, list):
        return [form_value(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


BOTH = pytest.mark.parametrize("path", ["/ocr", "/ocr/file"])


@BOTH
def test_the_answer(http: httpx.Client, path: str) -> None:
    response = post(http, path, png(20, 10))
    assert response.status_code == 200
    body = response.json()
    assert re.fullmatch("ocr-[0-9a-f]{32}", body.pop("id"))
    assert body.pop("processing_time_s") >= 0
    assert body == {
        "model": "deepseek-ocr",
        "text": "Hello world",
        "pages": [{"page": 1, "width": 20, "height": 10, "finish_reason": "stop", "text": "Hello world"}],
        "num_failed_pages": 0,
        "finish_reason": "stop",
        "usage": USAGE_FIELDS,
    }


@BOTH
def test_what_the_model_gets(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    image = png()
    http.headers["x-request-id"] = "abc"
    assert post(http, path, image).status_code == 200
    (seen,) = triton.seen
    assert (seen.model, seen.id, seen.image) == ("ocr", "abc", image)
    assert seen.inputs.keys() == {
        "text_input",
        "exclude_input_in_output",
        "image",
        "stream",
        "continuous_usage",
        "sampling_parameters",
    }
    assert seen.inputs["text_input"] == "<image>\nFree OCR."
    assert (seen.inputs["exclude_input_in_output"], seen.inputs["continuous_usage"]) == (True, True)
    assert seen.shapes["image"] == [1, 1]
    assert seen.sampling == IMAGE_SAMPLING


# Field, value, and what differs at the model: in its inputs or in its sampling.
FIELDS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"prompt": "markdown"}, {"text_input": "<image>\n<|grounding|>Convert the document to markdown."}, {}),
    ({"prompt": "<image>\nFree OCR."}, {"text_input": "<image>\nFree OCR."}, {}),
    ({"prompt": "<image>\\nFree OCR."}, {"text_input": "<image>\nFree OCR."}, {}),
    ({"prompt": "What?"}, {"text_input": "<image>\nWhat?"}, {}),
    ({"prompt": "locate", "object": "a"}, {"text_input": "<image>\nLocate <|ref|>a<|/ref|> in the image."}, {}),
    ({"temperature": 1}, {}, {"temperature": 1.0}),
    ({"temperature": 0.5}, {}, {"temperature": 0.5}),
    ({"max_tokens": 8192}, {}, {"max_tokens": 8192}),
    ({"top_p": 0.5}, {}, {"top_p": 0.5}),
    ({"seed": 7}, {}, {"seed": 7}),
    ({"mode": "gundam"}, {"image_parameters": '{"mode":"gundam"}'}, {}),
    ({"base_size": 640}, {"image_parameters": '{"base_size":640}'}, {}),
    (
        {"image_size": 640, "crop_mode": False},
        {"image_parameters": '{"image_size":640,"crop_mode":false}'},
        {},
    ),
    ({"no_repeat_ngram_size": 5}, {}, {"no_repeat_ngram_size": 5}),
    ({"no_repeat_ngram_size": 100}, {}, {"no_repeat_ngram_size": 100, "no_repeat_ngram_window": 100}),
    ({"no_repeat_ngram_window": 1000}, {}, {"no_repeat_ngram_window": 1000}),
    ({"no_repeat_ngram_whitelist": ["a", ","]}, {}, {"no_repeat_ngram_whitelist": ["a", ","]}),
    (
        {"no_repeat_ngram_size": 0},
        {},
        {"no_repeat_ngram_size": 0, "no_repeat_ngram_window": None, "no_repeat_ngram_whitelist": None},
    ),
    ({"stop_on_repetition": False}, {}, {"max_repetition_tokens": 0}),
    ({"stop_on_repetition": True}, {}, {}),
    ({"retry": False}, {}, {}),
    ({"model": "deepseek-ocr"}, {}, {}),
    ({"stream": False}, {}, {}),
    ({"pages": "1"}, {}, {}),
    ({"dpi": 72}, {}, {}),
    ({"frames": "all"}, {}, {}),
    ({"output": "text"}, {}, {}),
]


@BOTH
@pytest.mark.parametrize(("fields", "inputs", "sampling"), FIELDS, ids=lambda value: next(iter(value), ""))
def test_a_field(
    http: httpx.Client,
    triton: FakeTriton,
    path: str,
    fields: dict[str, Any],
    inputs: dict[str, Any],
    sampling: dict[str, Any],
) -> None:
    response = post(http, path, png(), **fields)
    assert response.status_code == 200, response.text
    (seen,) = triton.seen
    assert {name: seen.inputs.get(name) for name in ("text_input", "image_parameters")} == {
        "text_input": "<image>\nFree OCR.",
        "image_parameters": None,
    } | inputs
    expected = IMAGE_SAMPLING | sampling
    assert seen.sampling == {name: value for name, value in expected.items() if value is not None}


def test_every_field_is_tested_here() -> None:
    assert OcrFields.model_fields.keys() | {"stream"} == {name for fields, _, _ in FIELDS for name in fields}
    assert OcrForm.model_fields.keys() | {"image_base64"} == OcrRequest.model_fields.keys()


@BOTH
def test_the_model_is_the_one_asked_for(serve: Callable[..., httpx.Client], triton: FakeTriton, path: str) -> None:
    http = serve(models={"a": "coder", "b": "ocr", "c": "ocr2"}, ocr_model="b")
    assert post(http, path, png()).json()["model"] == "b"
    assert post(http, path, png(), model="c").json()["model"] == "c"
    assert [seen.model for seen in triton.seen] == ["ocr", "ocr2"]


@BOTH
def test_all_parts(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    triton.says(GROUNDED)
    parts = ["text", "markdown", "blocks", "figures", "annotated", "raw"]
    body = post(http, path, png(200, 100), prompt="markdown", output=parts).json()
    OcrAnswer.model_validate(body)
    (page,) = body["pages"]
    blocks = [
        {"type": "title", "text": "Hello", "boxes": [[0, 0, 200, 50]], "page": 1},
        {"type": "image", "text": "", "boxes": [[0, 50, 200, 100]], "page": 1},
    ]
    for whole in (body, page):
        assert whole["text"] == "Hello"
        assert whole["markdown"].split("\n\n") == ["Hello", "![page-1-figure-1.png](page-1-figure-1.png)"]
        assert whole["blocks"] == blocks
        assert whole["raw"] == GROUNDED
    (figure,) = page["figures"]
    assert (figure["id"], figure["box"]) == ("page-1-figure-1.png", [0, 50, 200, 100])
    assert size_of(base64.b64decode(figure["image_base64"])) == (200, 50)
    assert size_of(base64.b64decode(page["annotated"])) == (200, 100)


@BOTH
def test_too_many_pictures(http: httpx.Client, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("adapter.ocr.results.MAX_PICTURE_BYTES", 1000)
    assert post(http, path, tiff(2), frames="all", output="annotated").status_code == 200
    response = post(http, path, tiff(100), frames="all", output="annotated")
    assert response.status_code == 413
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("too_large", "output")
    assert "larger than 1000 bytes in all; choose fewer pages, or use /ocr/stream" in error["message"]
    assert post(http, path, tiff(100), frames="all").status_code == 200


@BOTH
def test_only_the_parts_asked_for(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    triton.says(GROUNDED)
    always = {"page", "width", "height", "finish_reason"}
    for output, parts in (("blocks", {"blocks"}), ("text, markdown", {"text", "markdown"}), (["raw"], {"raw"})):
        body = post(http, path, png(), output=output).json()
        assert body["pages"][0].keys() == always | parts
        assert body["text"] == "Hello"
        assert {"markdown", "blocks", "figures", "annotated", "raw"} & body.keys() == parts - {"text"}


@BOTH
def test_a_pdf(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    triton.reply = by_page()
    body = post(http, path, pdf(3), dpi=72, pages="1,3", output=["text", "blocks"]).json()
    assert [(page["page"], page["width"], page["height"]) for page in body["pages"]] == [(1, 11, 8), (3, 13, 8)]
    assert [page["text"] for page in body["pages"]] == ["page 1", "page 3"]
    assert body["text"] == "page 1\n\npage 3"
    assert [block["page"] for block in body["blocks"]] == [1, 3]
    assert body["usage"] == times_usage(2)
    for seen in triton.seen:
        expected = IMAGE_SAMPLING | {"no_repeat_ngram_size": 20, "no_repeat_ngram_window": 50}
        assert seen.sampling == expected


@BOTH
def test_frames(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    triton.reply = by_page()
    assert post(http, path, tiff(3), frames="first").json()["text"] == "page 1"
    for fields in ({}, {"frames": "all"}):
        assert post(http, path, tiff(3), **fields).json()["text"] == "page 1\n\npage 2\n\npage 3"
    assert sorted(page_of(seen) for seen in triton.seen) == [1, 1, 1, 2, 2, 3, 3]


def test_a_data_url(http: httpx.Client, triton: FakeTriton) -> None:
    image = png()
    url = f"data:image/png;base64,{base64_of(image)}"
    assert http.post("/ocr", json={"image_base64": url}).json()["text"] == "Hello world"
    assert triton.seen[0].image == image
    url = f"data:application/pdf;base64,{base64_of(pdf(2))}"
    assert len(http.post("/ocr", json={"image_base64": url}).json()["pages"]) == 2


def test_a_photo_on_its_side(http: httpx.Client, triton: FakeTriton) -> None:
    """Sizes and boxes are those of the upright image; the model gets the bytes as they were sent."""
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    triton.says("<|ref|>text<|/ref|><|det|>[[0, 0, 999, 999]]<|/det|>Hi")
    body = post(http, "/ocr", buffer.getvalue(), output="blocks,annotated").json()
    (page,) = body["pages"]
    assert (page["width"], page["height"]) == (20, 40)
    assert page["blocks"][0]["boxes"] == [[0, 0, 20, 40]]
    assert size_of(base64.b64decode(page["annotated"])) == (20, 40)
    assert triton.seen[0].image == buffer.getvalue()


@BOTH
def test_the_finish_of_a_page_is_told(http: httpx.Client, triton: FakeTriton, path: str) -> None:
    triton.says("a", finish="length")
    body = post(http, path, png()).json()
    assert (body["finish_reason"], body["pages"][0]["finish_reason"]) == ("length", "length")


def test_a_page_that_fails_spoils_no_other(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = by_page({2: (StatusCode.INVALID_ARGUMENT, "image: it is too odd")})
    body = post(http, "/ocr/file", tiff(3), frames="all").json()
    OcrAnswer.model_validate(body)
    assert body["text"] == "page 1\n\npage 3"
    assert body["num_failed_pages"] == 1
    assert body["pages"][1] == {
        "page": 2,
        "error": {
            "message": "file: it is too odd",
            "type": "invalid_request_error",
            "param": "file",
            "code": "invalid_value",
        },
    }
    assert body["usage"] == times_usage(2)


def test_when_every_page_fails_the_first_is_the_answer(http: httpx.Client, triton: FakeTriton) -> None:
    failures = {number: (StatusCode.INVALID_ARGUMENT, f"image: page {number}") for number in (1, 2)}
    triton.reply = by_page(failures)
    response = post(http, "/ocr", tiff(2), frames="all")
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "image_base64: page 1"


def test_a_page_that_cannot_be_read_again_now_is_what_it_was(
    http: httpx.Client, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.ocr.reader.QUEUE_WAITS_S", (0.01,))
    triton.says("aaa", finish="repetition")
    first = triton.reply

    async def once(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if len(triton.seen) > 1:
            await context.abort(StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        async for response in first(seen, context):
            yield response

    triton.reply = once
    body = post(http, "/ocr", png()).json()
    assert (body["text"], body["finish_reason"], len(triton.seen)) == ("aaa", "repetition", 3)


def test_a_repetition_is_read_again_warmer(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("aaa", finish="repetition")
    body = post(http, "/ocr", png(), seed=3).json()
    assert (body["text"], body["finish_reason"]) == ("aaa", "repetition")
    assert body["usage"] == times_usage(2)
    assert [(seen.sampling["temperature"], seen.sampling["seed"]) for seen in triton.seen] == [(0, 3), (0.2, 3)]
    triton.seen.clear()
    post(http, "/ocr", png())
    assert [seen.sampling.get("seed") for seen in triton.seen] == [None, 0], "a greedy page is the same every time"
    body = post(http, "/ocr", png(), temperature=0.9, retry=False).json()
    assert body["usage"] == times_usage(1)
    post(http, "/ocr", png(), temperature=0.9)
    post(http, "/ocr", png(), temperature=1.5)
    assert [seen.sampling["temperature"] for seen in triton.seen[2:]] == [0.9, 0.9, 1, 1.5, 1.5]
