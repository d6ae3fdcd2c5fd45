"""Images in `POST /v1/chat/completions`: what reaches the model, its defaults, and what is refused."""

import base64
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from grpc import StatusCode
from PIL import Image

from adapter.chat.images import ChatImages
from adapter.chat.schemas import ChatRequest
from adapter.documents.reader import DocumentReader
from adapter.documents.remote import ImageFetcher
from adapter.errors import InvalidRequest, TooLarge
from adapter.settings import Settings
from tests.adapter.conftest import WAIT_S, Adapter
from tests.adapter.fake_triton import USAGE, FakeTriton, answer
from tests.adapter.sse_reading import DONE, stream
from tests.adapter.test_disconnect import connect
from tests.adapter.test_sampling_fields import refused

PATH = "/v1/chat/completions"
OCR_SAMPLING = {
    "temperature": 0,
    "top_p": 0.95,
    "no_repeat_ngram_size": 30,
    "no_repeat_ngram_window": 90,
    "no_repeat_ngram_whitelist": ["<td>", "</td>"],
}


def encoded(colour: str, image_format: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, image_format)
    return file.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


RED, BLUE = encoded("red"), encoded("blue", "JPEG")
PDF = encoded("red", "PDF")


def image(data: bytes = RED, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(data), **fields}}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_the_order_of_parts_and_images_is_kept(http: httpx.Client, triton: FakeTriton) -> None:
    messages = [
        {"role": "system", "content": [text("be "), text("brief")]},
        user(text("a"), image(RED), text("b"), image(BLUE)),
        {"role": "assistant", "content": "c"},
        user({"type": "image_url", "image_url": data_url(RED)}),
        user(text("d"), text("e")),
    ]
    response = http.post(PATH, json={"messages": messages})
    assert response.status_code == 200, response.text
    assert response.json()["model"] == "deepseek-ocr"
    (seen,) = triton.seen
    assert seen.model == "ocr"
    assert seen.inputs.keys() == {"chat", "image", "stream", "sampling_parameters"}
    assert seen.inputs["image"] == [RED, BLUE, RED]
    assert seen.shapes["image"] == [1, 3]
    assert json.loads(seen.inputs["chat"])["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [text("a"), {"type": "image"}, text("b"), {"type": "image"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": [{"type": "image"}]},
        {"role": "user", "content": "de"},
    ]


@pytest.mark.parametrize("parts", [[image()], [text(" \n"), image()]])
def test_images_without_a_word_are_read_freely(
    http: httpx.Client, triton: FakeTriton, parts: list[dict[str, Any]]
) -> None:
    assert http.post(PATH, json={"messages": [user(*parts), user(image(BLUE))]}).status_code == 200
    turns = json.loads(triton.seen[0].inputs["chat"])["messages"]
    assert turns[1]["content"] == [{"type": "image"}, text("Free OCR.")]
    assert "Free OCR." not in json.dumps(turns[0])
    http.post(PATH, json={"messages": [{"role": "system", "content": "Read it."}, user(image())]})
    assert "Free OCR." not in triton.seen[1].inputs["chat"]


def test_the_defaults_of_the_ocr_model(http: httpx.Client, triton: FakeTriton) -> None:
    with_image = {"messages": [user(image())]}
    http.post(PATH, json=with_image)
    http.post(PATH, json={"messages": [user(text("hi"))], "model": "deepseek-ocr"})
    http.post(PATH, json={"messages": [user(text("hi"))]})
    http.post(PATH, json=with_image | {"model": "deepseek-coder"})
    own = {"temperature": 0.5, "no_repeat_ngram_window": 500, "no_repeat_ngram_whitelist": [7]}
    http.post(PATH, json=with_image | own)
    http.post(PATH, json=with_image | {"no_repeat_ngram_size": 100})
    http.post(PATH, json=with_image | {"no_repeat_ngram_size": 0})
    read, ocr_text, coder_text, coder_image, overridden, longer, off = triton.seen
    assert read.sampling == ocr_text.sampling == OCR_SAMPLING
    assert coder_text.sampling == coder_image.sampling == {"temperature": 0.7, "top_p": 0.95}
    assert [seen.model for seen in triton.seen] == ["ocr", "ocr", "coder", "coder", "ocr", "ocr", "ocr"]
    assert overridden.sampling == OCR_SAMPLING | own
    assert longer.sampling == OCR_SAMPLING | {"no_repeat_ngram_size": 100, "no_repeat_ngram_window": 100}
    assert off.sampling == {"temperature": 0, "top_p": 0.95, "no_repeat_ngram_size": 0}


def test_an_alias_of_the_ocr_model_has_its_defaults(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(models={"coder": "coder", "deepseek-ocr": "ocr", "deepseek-ai/DeepSeek-OCR": "ocr"})
    body = {"messages": [user(image())], "model": "deepseek-ai/DeepSeek-OCR"}
    assert http.post(PATH, json=body).json()["model"] == "deepseek-ai/DeepSeek-OCR"
    assert triton.seen[0].sampling == OCR_SAMPLING


def test_a_server_without_an_ocr_model(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(models={"deepseek-coder": "coder"})
    response = http.post(PATH, json={"messages": [user(image())]})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert http.post(PATH, json={"messages": [user(text("hi"))]}).status_code == 200
    assert triton.seen[0].sampling == {"temperature": 0.7, "top_p": 0.95}


def test_vllm_s_recipe(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    """What vLLM's recipe for DeepSeek-OCR sends to its server."""
    messages: list[Any] = [user(image(), text("Free OCR."))]
    completion = sdk.chat.completions.create(
        model="deepseek-ocr",
        messages=messages,
        max_tokens=2048,
        temperature=0.0,
        extra_body={
            "skip_special_tokens": False,
            "vllm_xargs": {"ngram_size": 20, "window_size": 50, "whitelist_token_ids": [128821, 128822]},
        },
    )
    assert completion.choices[0].message.content == "Hello world"
    assert triton.seen[0].sampling == {
        "temperature": 0,
        "top_p": 0.95,
        "max_tokens": 2048,
        "skip_special_tokens": False,
        "no_repeat_ngram_size": 20,
        "no_repeat_ngram_window": 50,
        "no_repeat_ngram_whitelist": [128821, 128822],
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("skip_special_tokens", True),
        ("no_repeat_ngram_size", 30),
        ("no_repeat_ngram_window", 90),
        ("no_repeat_ngram_whitelist", ["<td>", 7]),
    ],
)
@pytest.mark.parametrize(
    ("path", "required"), [(PATH, {"messages": [user(text("hi"))]}), ("/v1/completions", {"prompt": "hi"})]
)
def test_the_new_fields_arrive(
    http: httpx.Client, triton: FakeTriton, path: str, required: dict[str, Any], field: str, value: Any
) -> None:
    assert http.post(path, json=required | {field: value}).status_code == 200
    assert triton.seen[0].sampling.get(field) == value


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"skip_special_tokens": "no"}, "skip_special_tokens", "must be a valid boolean"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size", "must be greater than or equal to 0"),
        ({"no_repeat_ngram_size": 129}, "no_repeat_ngram_size", "must be less than or equal to 128"),
        ({"no_repeat_ngram_window": 0}, "no_repeat_ngram_window", "must be greater than or equal to 1"),
        ({"no_repeat_ngram_whitelist": ["a", ""]}, "no_repeat_ngram_whitelist.1", "must have at least 1 character"),
        ({"no_repeat_ngram_whitelist": [-1]}, "no_repeat_ngram_whitelist.0", "must be greater than or equal to 0"),
        ({"no_repeat_ngram_whitelist": [1] * 65}, "no_repeat_ngram_whitelist", "must have at most 64 items"),
        ({"vllm_xargs": {"temperature": 1}}, "vllm_xargs.temperature", "is not supported"),
        ({"vllm_xargs": {"ngram_size": "30"}}, "vllm_xargs.ngram_size", "must be a valid integer"),
        ({"vllm_xargs": {"whitelist_token_ids": ["<td>"]}}, "vllm_xargs.whitelist_token_ids.0", "valid integer"),
        ({"vllm_xargs": {"ngram_size": 30}, "no_repeat_ngram_size": 20}, "vllm_xargs.ngram_size", "differs from"),
    ],
)
def test_wrong_rules_are_refused(
    http: httpx.Client, triton: FakeTriton, fields: dict[str, Any], param: str, sentence: str
) -> None:
    refused(http, PATH, {"messages": [user(image())]} | fields, param, sentence)
    assert triton.seen == []


@pytest.mark.parametrize(
    ("details", "parameters"),
    [
        (["low"], {"mode": "small"}),
        (["high"], {"mode": "gundam"}),
        (["auto"], None),
        ([None], None),
        ([None, "high", "auto", "high"], {"mode": "gundam"}),
    ],
)
def test_detail(http: httpx.Client, triton: FakeTriton, details: list[str | None], parameters: Any) -> None:
    parts = [image() if detail is None else image(detail=detail) for detail in details]
    assert http.post(PATH, json={"messages": [user(*parts)]}).status_code == 200
    given = triton.seen[0].inputs.get("image_parameters")
    assert (given and json.loads(given)) == parameters


def test_streaming(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(answer("Te"), answer("xt"), answer("", finish="repetition", usage=USAGE))
    *chunks, done = stream(http, PATH, {"messages": [user(image())]})
    assert done == DONE
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "Te", "xt", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "repetition"
    assert {chunk["model"] for chunk in chunks} == {"deepseek-ocr"}
    assert triton.seen[0].inputs["image"] == [RED]


async def test_the_async_sdk_streams(async_sdk: openai.AsyncOpenAI, triton: FakeTriton) -> None:
    messages: list[Any] = [user(image(BLUE, detail="low"), text("what is it?"))]
    content = ""
    chunks = await async_sdk.chat.completions.create(model="deepseek-ocr", messages=messages, stream=True)
    async for chunk in chunks:
        content += chunk.choices[0].delta.content or ""
    assert content == "Hello world"
    assert triton.seen[0].inputs["image"] == [BLUE]


def test_a_repetition_is_told(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("aaaa", finish="repetition")
    whole = http.post(PATH, json={"messages": [user(image())]}).json()
    assert whole["choices"][0]["finish_reason"] == "repetition"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("refusal", "param", "message"),
    [
        ("image: the second image is too small", "messages", "messages: the second image is too small"),
        ("image_parameters: no such mode", "messages", "messages: no such mode"),
        ("chat: two images, one <image>", "messages", "messages: two images, one <image>"),
        ("temperature: too hot", "temperature", "temperature: too hot"),
        (
            "[request id: 1] unexpected inference input 'image' for model 'coder'",
            "model",
            "model: this model does not read images; use one that does",
        ),
    ],
)
def test_what_the_model_refuses(
    http: httpx.Client, triton: FakeTriton, refusal: str, param: str, message: str, streamed: bool
) -> None:
    triton.fails(StatusCode.INVALID_ARGUMENT, refusal)
    response = http.post(PATH, json={"messages": [user(image())], "stream": streamed})
    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_value",
    }


URL = "messages.0.content.0.image_url.url"


@pytest.mark.parametrize(
    ("messages", "param", "sentence"),
    [
        ([user({"type": "input_audio", "input_audio": {}})], "messages.0.content.0.type", 'must be "text" or "image'),
        ([user({"type": "file", "file": {"file_id": "x"}})], "messages.0.content.0.type", "/ocr/file"),
        ([user({"image_url": {"url": "x"}})], "messages.0.content.0.type", "is required"),
        ([user({"type": "image_url"})], "messages.0.content.0.image_url", "is required"),
        ([user({"type": "image_url", "image_url": {}})], URL, "is required"),
        ([user({"type": "image_url", "image_url": {"url": 5}})], URL, "must be a valid string"),
        ([user({"type": "image_url", "image_url": 5})], "messages.0.content.0.image_url", "must be an object"),
        ([user(image() | {"uuid": "x"})], "messages.0.content.0.uuid", "is not supported"),
        ([user(image(detail="best"))], "messages.0.content.0.image_url.detail", '"best" is not supported'),
        ([user(image(x=1))], "messages.0.content.0.image_url.x", "is not supported"),
        ([user(text("a") | {"image_url": "x"})], "messages.0.content.0.image_url", "is not supported"),
        (
            [user(image(detail="low"), image(detail="high"))],
            "messages.0.content.1.image_url.detail",
            "differs from another image's",
        ),
        ([{"role": "system", "content": [image()]}, user(text("a"))], "messages.0.content", "only a user's message"),
        ([user(text("a")), {"role": "assistant", "content": [image()]}], "messages.1.content", "only a user's message"),
        ([user(*[image()] * 10), user(*[image()] * 7)], "messages", "may have at most 16 images"),
        ([user({"type": "image_url", "image_url": ""})], URL, "must be a data URL"),
        ([user({"type": "image_url", "image_url": "file:///etc/passwd"})], URL, "must be a data URL"),
        ([user({"type": "image_url", "image_url": "data:image/png;base64,%%%"})], URL, "is not valid base64"),
        ([user({"type": "image_url", "image_url": "data:image/png,abc"})], URL, "must be base64"),
        ([user({"type": "image_url", "image_url": "data:image/png;base64,"})], URL, "is empty"),
        ([user(image(b"hello"))], URL, "can't be read as an image"),
        ([user(image(RED[:40]))], URL, ""),
        ([user(text("a"), image(PDF))], "messages.0.content.1.image_url.url", "send PDFs to /ocr/file"),
        ([user({"type": "image_url", "image_url": "http://example.com/a.png"})], URL, "ADAPTER_FETCH_IMAGES"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_bad_parts(
    http: httpx.Client, triton: FakeTriton, messages: list[Any], param: str, sentence: str, streamed: bool
) -> None:
    refused(http, PATH, {"messages": messages, "stream": streamed}, param, sentence)
    assert triton.seen == []


def test_another_media_type(http: httpx.Client) -> None:
    part = {"type": "image_url", "image_url": data_url(b"hello", "text/plain")}
    response = http.post(PATH, json={"messages": [user(part)]})
    assert (response.status_code, response.json()["error"]["param"]) == (415, URL)


@pytest.mark.parametrize("limits", [{"max_image_bytes": 50}, {"max_image_pixels": 47}, {"max_image_side": 7}])
def test_too_large(serve: Callable[..., httpx.Client], triton: FakeTriton, limits: dict[str, int]) -> None:
    http = serve(**limits)
    response = http.post(PATH, json={"messages": [user(text("a"), image())]})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (413, "too_large")
    assert error["param"] == "messages.0.content.1.image_url.url"
    assert triton.seen == []


def test_private_addresses_are_not_fetched(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(fetch_images=True)
    part = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}
    refused(http, PATH, {"messages": [user(part)]}, URL, "only public addresses")
    assert triton.seen == []


@pytest.fixture
def pictures() -> Iterator[str]:
    """The address of a web server whose every page is `RED`."""

    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "image/png")
            self.end_headers()
            self.wfile.write(RED)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(WAIT_S)


async def test_images_by_url(pictures: str) -> None:
    settings = Settings(fetch_images=True)
    fetcher = ImageFetcher(settings, allows=lambda address, port: True)

    def chat(*urls: str) -> ChatRequest:
        parts = [{"type": "image_url", "image_url": url} for url in urls]
        return ChatRequest.model_validate({"messages": [user(*parts)]})

    documents = DocumentReader(settings)
    images = ChatImages(documents, fetcher, 2 * len(RED))
    two = chat(f"{pictures}/a.png", data_url(RED))
    assert await images.read(two) == [RED, RED]
    with pytest.raises(TooLarge, match=f"messages: the images are larger than {2 * len(RED)} bytes"):
        await images.read(chat(*[f"{pictures}/a.png"] * 3))
    with pytest.raises(InvalidRequest, match="url: must be an http"):
        await images.read(chat("http://"))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_goes_away(session_adapter: Adapter, triton: FakeTriton, streamed: bool) -> None:
    gate = triton.hangs("Hello")
    with connect(session_adapter, PATH, {"messages": [user(image())], "stream": streamed}):
        assert gate.reached.wait(WAIT_S)
    assert triton.seen[0].cancelled.wait(WAIT_S)
