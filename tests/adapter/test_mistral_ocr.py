"""`POST /v1/ocr`, read by Mistral's own client."""

import base64
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from grpc import StatusCode
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import (
    OCRCaptionBlock,
    OCRFooterBlock,
    OCRHeaderBlock,
    OCRImageBlock,
    OCRTableBlock,
    OCRTextBlock,
    OCRTitleBlock,
)
from PIL import Image

from tests.adapter.conftest import WAIT_S, Adapter
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.test_disconnect import connect
from tests.adapter.test_sampling_fields import refused

PATH = "/v1/ocr"


def encoded(image_format: str, colours: tuple[str, ...] = ("red",), size: tuple[int, int] = (999, 1998)) -> bytes:
    file = io.BytesIO()
    first, *others = (Image.new("RGB", size, colour) for colour in colours)
    many = {"save_all": True, "append_images": others} if others else {}
    first.save(file, image_format, **many)
    return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


PNG = encoded("PNG")
PDF = encoded("PDF", ("red", "green", "blue"), (72, 36))
IMAGE = {"type": "image_url", "image_url": data_url(PNG)}
DOCUMENT = {"type": "document_url", "document_url": data_url(PDF, "application/pdf"), "document_name": "a.pdf"}


def block(label: str, boxes: list[list[int]], text: str = "") -> str:
    return f"<|ref|>{label}<|/ref|><|det|>{boxes}<|/det|>\n{text}\n\n"


TABLE = "<table><tr><td>1</td></tr></table>"
PAGE = (
    block("header", [[0, 0, 999, 10]], "Running head")
    + block("title", [[0, 10, 999, 20]], "# Title")
    + block("text", [[0, 20, 500, 30], [10, 30, 600, 40]], "Some text.")
    + block("image", [[0, 40, 100, 140], [200, 40, 210, 140]])
    + block("image_caption", [[0, 140, 999, 150]], "Figure 1.")
    + block("table", [[0, 200, 999, 300]], TABLE)
    + block("figure", [[0, 400, 300, 500]])
    + block("footer", [[0, 990, 999, 999]], "Page foot")
)
LINKS = [f"![page-1-figure-{number}.png](page-1-figure-{number}.png)" for number in (1, 2, 3)]


@pytest.fixture
def mistral(session_adapter: Adapter, triton: FakeTriton) -> Iterator[Mistral]:
    with (
        httpx.Client(timeout=WAIT_S, follow_redirects=True) as client,
        Mistral(api_key="x", server_url=session_adapter.url, client=client) as mistral,
    ):
        yield mistral


def read(http: httpx.Client, document: Any = IMAGE, **fields: Any) -> Any:
    response = http.post(PATH, json={"document": document} | fields)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_client_reads_a_page(mistral: Mistral, triton: FakeTriton) -> None:
    triton.says(PAGE)
    answer = mistral.ocr.process(
        model="deepseek-ocr", document={"type": "image_url", "image_url": data_url(PNG)}, include_image_base64=True
    )
    assert answer.model == "deepseek-ocr"
    assert (answer.usage_info.pages_processed, answer.usage_info.doc_size_bytes) == (1, len(PNG))
    assert answer.document_annotation is None
    (page,) = answer.pages
    assert page.index == 0
    assert page.dimensions is not None
    assert (page.dimensions.width, page.dimensions.height, page.dimensions.dpi) == (999, 1998, 72)
    assert page.markdown == "\n\n".join(
        ["Running head", "# Title", "Some text.", *LINKS[:2], "Figure 1.", TABLE, LINKS[2], "Page foot"]
    )
    corners = [(i.id, i.top_left_x, i.top_left_y, i.bottom_right_x, i.bottom_right_y) for i in page.images]
    assert corners == [
        ("page-1-figure-1.png", 0, 80, 100, 280),
        ("page-1-figure-2.png", 200, 80, 210, 280),
        ("page-1-figure-3.png", 0, 800, 300, 1000),
    ]
    url = page.images[0].image_base64
    assert isinstance(url, str)
    assert url.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as figure:
        assert (figure.format, figure.size) == ("PNG", (100, 200))
        assert figure.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert (page.header, page.footer, page.tables) == (None, None, [])


def test_the_client_reads_the_blocks(mistral: Mistral, triton: FakeTriton) -> None:
    triton.says(PAGE)
    (page,) = mistral.ocr.process(model=None, document=IMAGE).pages  # type: ignore[arg-type]
    assert page.blocks
    assert [type(block) for block in page.blocks] == [
        OCRHeaderBlock,
        OCRTitleBlock,
        OCRTextBlock,
        OCRImageBlock,
        OCRImageBlock,
        OCRCaptionBlock,
        OCRTableBlock,
        OCRImageBlock,
        OCRFooterBlock,
    ]
    text, image = page.blocks[2], page.blocks[4]
    assert isinstance(text, OCRTextBlock)
    assert (text.top_left_x, text.top_left_y, text.bottom_right_x, text.bottom_right_y) == (0, 40, 600, 80)
    assert text.content == "Some text."
    assert isinstance(image, OCRImageBlock)
    assert (image.image_id, image.top_left_x, image.content) == ("page-1-figure-2.png", 200, LINKS[1])
    assert [image.image_base64 for image in page.images] == [None] * 3


def test_types_that_the_client_does_not_know(http: httpx.Client, triton: FakeTriton) -> None:
    types = {
        "sub_title": "title",
        "formula": "equation",
        "equation": "equation",
        "table_caption": "caption",
        "list": "list",
        "page_number": "text",
        "something_else": "text",
    }
    triton.says("No box.\n\n" + "".join(block(label, [[0, 0, 9, 9]], "x") for label in types))
    (page,) = read(http)["pages"]
    assert [block["type"] for block in page["blocks"]] == list(types.values())
    assert page["markdown"].startswith("No box.\n\nx\n\nx")


def test_without_blocks(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says(PAGE)
    assert read(http, include_blocks=False)["pages"][0]["blocks"] is None


def test_headers_and_footers_are_taken_out(mistral: Mistral, triton: FakeTriton) -> None:
    triton.says(PAGE)
    (page,) = mistral.ocr.process(
        model="deepseek-ocr",
        document=IMAGE,  # type: ignore[arg-type]
        extract_header=True,
        extract_footer=True,
    ).pages
    assert (page.header, page.footer) == ("Running head", "Page foot")
    assert page.markdown.startswith("# Title\n\nSome text.")
    assert page.markdown.endswith(LINKS[2])
    assert page.blocks and isinstance(page.blocks[0], OCRHeaderBlock)


def test_what_is_taken_out_keeps_its_neighbours_apart(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("Before" + block("header", [[0, 0, 9, 9]], "Head").rstrip() + "<|ref|>After<|/ref|>")
    assert read(http, extract_header=True)["pages"][0]["markdown"] == "Before\n\nAfter"
    triton.says("Before\n" + block("image", [[0, 0, 9, 9]]).rstrip() + "<|ref|>After<|/ref|>")
    assert read(http, image_limit=0)["pages"][0]["markdown"] == "Before\n\nAfter"


def test_tables_are_taken_out(mistral: Mistral, triton: FakeTriton) -> None:
    triton.says(PAGE)
    (page,) = mistral.ocr.process(
        model="deepseek-ocr",
        document=IMAGE,  # type: ignore[arg-type]
        table_format="html",
    ).pages
    assert page.tables
    assert [(table.id, table.content, table.format_) for table in page.tables] == [
        ("page-1-table-1.html", TABLE, "html")
    ]
    assert "Figure 1.\n\n[page-1-table-1.html](page-1-table-1.html)\n\n![page-1" in page.markdown
    assert "<table" not in page.markdown
    (table,) = (block for block in page.blocks or [] if isinstance(block, OCRTableBlock))
    assert (table.table_id, table.content) == ("page-1-table-1.html", TABLE)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"image_limit": 2}, [1, 2]),
        ({"image_limit": 0}, []),
        ({"image_min_size": 100}, [1, 3]),
        ({"image_min_size": 101}, [3]),
        ({"image_min_size": 100, "image_limit": 1}, [1]),
        ({"image_limit": 9}, [1, 2, 3]),
    ],
)
def test_figures_that_are_left_out(
    http: httpx.Client, triton: FakeTriton, fields: dict[str, int], kept: list[int]
) -> None:
    triton.says(PAGE)
    (page,) = read(http, include_image_base64=True, **fields)["pages"]
    ids = [f"page-1-figure-{number}.png" for number in kept]
    assert [image["id"] for image in page["images"]] == ids
    assert [block["image_id"] for block in page["blocks"] if block["type"] == "image"] == ids
    assert [link in page["markdown"] for link in LINKS] == [number in kept for number in (1, 2, 3)]
    assert "\n\n\n" not in page["markdown"]


def test_a_figure_that_comes_again_is_left_out(http: httpx.Client, triton: FakeTriton) -> None:
    again = block("image", [[0, 40, 100, 140]])
    triton.says("Before\n" + again + again + block("text", [[0, 0, 9, 9]], "After"))
    (page,) = read(http, include_image_base64=True)["pages"]
    assert [image["id"] for image in page["images"]] == ["page-1-figure-1.png"]
    assert [block["type"] for block in page["blocks"]] == ["image", "text"]
    assert page["markdown"] == f"Before\n\n{LINKS[0]}\n\nAfter"


def test_pictures_beyond_what_one_answer_may_hold(
    http: httpx.Client, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.ocr.results.MAX_PICTURE_BYTES", 10)
    triton.says(PAGE)
    assert len(read(http)["pages"][0]["images"]) == 3
    response = http.post(PATH, json={"document": IMAGE, "include_image_base64": True})
    assert response.status_code == 413
    error = response.json()["error"]
    assert error["param"] == "include_image_base64"
    assert error["message"].startswith("include_image_base64: the pictures are larger than 10 bytes")


@pytest.fixture
def numbered(triton: FakeTriton) -> list[Seen]:
    """Each page is answered with the colour of its middle, whatever the order of the calls, and a figure."""
    colours = {(255, 0, 0): "red", (0, 128, 0): "green", (0, 0, 255): "blue"}

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        with Image.open(io.BytesIO(seen.image)) as image:
            pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
        nearest = min(colours, key=lambda colour: sum(abs(a - b) for a, b in zip(colour, pixel, strict=True)))
        yield answer(colours[nearest] + "\n" + block("image", [[0, 0, 99, 99]]), finish="stop", usage=USAGE)

    triton.reply = reply
    return triton.seen


def colours_of(body: Any) -> dict[int, str]:
    return {page["index"]: page["markdown"].split()[0] for page in body["pages"]}


def test_a_pdf(mistral: Mistral, numbered: list[Seen]) -> None:
    answer = mistral.ocr.process(
        model="deepseek-ocr",
        document={"type": "document_url", "document_url": data_url(PDF, "application/pdf"), "document_name": "a"},
    )
    assert [(page.index, page.markdown.split()[0]) for page in answer.pages] == [(0, "red"), (1, "green"), (2, "blue")]
    assert answer.usage_info.pages_processed == 3
    assert answer.pages[0].dimensions is not None
    assert (answer.pages[0].dimensions.dpi, answer.pages[0].dimensions.width) == (144, 144)
    assert [page.images[0].id for page in answer.pages] == [f"page-{n}-figure-1.png" for n in (1, 2, 3)]
    prompts = {seen.inputs["text_input"] for seen in numbered}
    assert prompts == {"<image>\n<|grounding|>Convert the document to markdown."}
    assert {seen.sampling["no_repeat_ngram_size"] for seen in numbered} == {20}


@pytest.mark.parametrize(
    ("pages", "indices"),
    [
        ([0], [0]),
        ([2, 0, 2], [0, 2]),
        ("0", [0]),
        ("0,2", [0, 2]),
        ("1-2", [1, 2]),
        ("0, 1-2", [0, 1, 2]),
        (None, [0, 1, 2]),
    ],
)
def test_pages(mistral: Mistral, numbered: list[Seen], pages: Any, indices: list[int]) -> None:
    answer = mistral.ocr.process(model="deepseek-ocr", document=DOCUMENT, pages=pages)  # type: ignore[arg-type]
    assert [page.index for page in answer.pages] == indices
    colours = ["red", "green", "blue"]
    assert [page.markdown.split()[0] for page in answer.pages] == [colours[index] for index in indices]
    assert len(numbered) == len(indices)


@pytest.mark.parametrize("pages", [[3], "3", "1-3", "2-1", "x", "", [], "9" * 30])
def test_pages_that_are_not_there(http: httpx.Client, triton: FakeTriton, pages: Any) -> None:
    sentence = "there are 3 pages, chosen as in 1-3,7 (this sentence counts pages from 1, the request from 0)"
    refused(http, PATH, {"document": DOCUMENT, "pages": pages}, "pages", sentence)
    assert triton.seen == []


def test_the_limit_of_figures_is_the_document_s(http: httpx.Client, numbered: list[Seen]) -> None:
    body = read(http, DOCUMENT, image_limit=2)
    assert [len(page["images"]) for page in body["pages"]] == [1, 1, 0]


def test_all_frames_of_a_document_and_one_of_an_image(http: httpx.Client, numbered: list[Seen]) -> None:
    tiff = data_url(encoded("TIFF", ("red", "green", "blue"), (60, 40)), "image/tiff")
    assert colours_of(read(http, {"document_url": tiff})) == {0: "red", 1: "green", 2: "blue"}
    assert colours_of(read(http, {"type": "image_url", "image_url": {"url": tiff}})) == {0: "red"}


def test_detail(http: httpx.Client, triton: FakeTriton) -> None:
    for detail in ("low", "high", "auto"):
        read(http, {"type": "image_url", "image_url": {"url": data_url(PNG), "detail": detail}})
    given = [seen.inputs.get("image_parameters") for seen in triton.seen]
    assert given == ['{"mode":"small"}', '{"mode":"gundam"}', None]
    assert triton.seen[0].image == PNG


def test_the_model(http: httpx.Client, triton: FakeTriton, serve: Callable[..., httpx.Client]) -> None:
    assert read(http)["model"] == "deepseek-ocr"
    response = http.post(PATH, json={"document": IMAGE, "model": "mistral-ocr-latest"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    aliased = serve(models={"deepseek-ocr": "ocr", "mistral-ocr-latest": "other"})
    assert read(aliased, model="mistral-ocr-latest")["model"] == "mistral-ocr-latest"
    assert [seen.model for seen in triton.seen] == ["ocr", "other"]


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({}, "document", "is required"),
        ({"document": "x"}, "document", "must be an object"),
        ({"document": {"type": "file", "file_id": "x"}}, "document.type", "this server keeps no files"),
        ({"document": {"type": "document_url"}}, "document.document_url", "is required"),
        ({"document": {"type": "image_url"}}, "document.image_url", "is required"),
        ({"document": {"document_url": "a.pdf"}}, "document.document_url", "must be a data URL"),
        ({"document": {"document_url": "https://example.com"}}, "document.document_url", "ADAPTER_FETCH_IMAGES"),
        ({"document": {"document_url": data_url(b"hi")}}, "document.document_url", "can't be read as an image or PDF"),
        ({"document": {"image_url": data_url(PNG[:90])}}, "document.image_url", ""),
        ({"document": {"document_url": data_url(PDF[:40])}}, "document.document_url", ""),
        ({"document": IMAGE | {"x": 1}}, "document.x", "is not supported"),
        ({"document": IMAGE, "pages": [-1]}, "pages.0", "must be greater than or equal to 0"),
        ({"document": IMAGE, "pages": ["0"]}, "pages.0", "must be a valid integer"),
        ({"document": IMAGE, "pages": [1]}, "pages", "there is 1 page"),
        ({"document": IMAGE, "image_limit": -1}, "image_limit", "must be greater than or equal to 0"),
        ({"document": IMAGE, "table_format": "markdown"}, "table_format", '"markdown" is not supported; use "html"'),
        ({"document": IMAGE, "bbox_annotation_format": {}}, "bbox_annotation_format", "is not supported"),
        ({"document": IMAGE, "document_annotation_format": {}}, "document_annotation_format", "is not supported"),
        ({"document": IMAGE, "document_annotation_prompt": "x"}, "document_annotation_prompt", "is not supported"),
        ({"document": IMAGE, "confidence_scores_granularity": "page"}, "confidence_scores_granularity", "supported"),
    ],
)
def test_refused(http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], param: str, sentence: str) -> None:
    refused(http, PATH, fields, param, sentence)
    assert triton.seen == []


def test_the_client_raises_its_own_errors(mistral: Mistral) -> None:
    with pytest.raises(SDKError) as caught:
        mistral.ocr.process(model="deepseek-ocr", document={"type": "file", "file_id": "x"})
    assert caught.value.status_code == 400
    assert "keeps no files" in caught.value.body


def test_too_large(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(max_image_side=998, max_pages=2)
    for document, param in ((IMAGE, "document.image_url"), (DOCUMENT, "pages")):
        response = http.post(PATH, json={"document": document})
        assert (response.status_code, response.json()["error"]["param"]) == (413, param)
    assert triton.seen == []


def test_a_page_that_fails_fails_the_document(http: httpx.Client, numbered: list[Seen], triton: FakeTriton) -> None:
    reply = triton.reply

    async def second_fails(seen: Seen, context: Any) -> AsyncIterator[Any]:
        async for response in reply(seen, context):
            if b"green" in response.SerializeToString():
                await context.abort(StatusCode.INVALID_ARGUMENT, "image: it is green")
            yield response

    triton.reply = second_fails
    response = http.post(PATH, json={"document": DOCUMENT})
    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "document.document_url: it is green (at page 1, counted from 0)",
        "type": "invalid_request_error",
        "param": "document.document_url",
        "code": "invalid_value",
    }


def test_the_model_is_away(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(StatusCode.UNAVAILABLE, "Request for unknown model: 'ocr' is not found")
    response = http.post(PATH, json={"document": IMAGE})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")


def test_a_client_that_goes_away(session_adapter: Adapter, triton: FakeTriton) -> None:
    triton.hangs()
    with connect(session_adapter, PATH, {"document": DOCUMENT}):
        for _ in range(3):
            assert triton.arrived.acquire(timeout=WAIT_S)
    assert all(seen.cancelled.wait(WAIT_S) for seen in triton.seen)
