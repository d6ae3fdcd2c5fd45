"""OCR requests that fail: each with a status, a sentence and the field's name."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from grpc import StatusCode
from pydantic import ValidationError

from adapter.ocr import reader
from adapter.ocr.fields import OcrFields
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.ocr_pages import base64_of, pdf, png, tiff

PATHS = pytest.mark.parametrize("path", ["/ocr", "/ocr/file", "/ocr/stream"])
IMAGE = base64_of(png())


def post(http: httpx.Client, path: str, data: bytes, media_type: str = "image/png", **fields: str) -> httpx.Response:
    if path == "/ocr":
        return http.post("/ocr", json={"image_base64": f"data:{media_type};base64,{base64_of(data)}"} | fields)
    return http.post(path, files={"file": ("page", data, media_type)}, data=fields)


def expect(response: httpx.Response, status: int, code: str, param: str | None, sentence: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error
    assert sentence in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
    return buffer.getvalue()


@PATHS
@pytest.mark.parametrize(
    ("data", "media_type", "status", "code"),
    [
        (b"hello", "image/png", 400, "invalid_value"),
        (png()[:40], "image/png", 400, "invalid_value"),
        (pdf(1)[:100], "application/pdf", 400, "invalid_value"),
        (b"hello", "text/plain", 415, "unsupported_media_type"),
        (zipped(), "application/zip", 415, "unsupported_media_type"),
    ],
    ids=["no image", "half an image", "half a pdf", "text", "zip"],
)
def test_a_document_that_cannot_be_read(
    http: httpx.Client, triton: FakeTriton, path: str, data: bytes, media_type: str, status: int, code: str
) -> None:
    expect(post(http, path, data, media_type), status, code, "image_base64" if path == "/ocr" else "file", "")
    assert triton.seen == []


@PATHS
def test_limits(serve: Callable[..., httpx.Client], triton: FakeTriton, path: str) -> None:
    field = "image_base64" if path == "/ocr" else "file"
    http = serve(max_image_side=100, max_image_pixels=5000, max_image_bytes=10_000, max_pages=2)
    assert post(http, path, png(50, 50)).status_code == 200
    expect(post(http, path, png(101, 1)), 413, "too_large", field, "101")
    expect(post(http, path, png(100, 51)), 413, "too_large", field, "5000")
    expect(post(http, path, png() + bytes(10_000)), 413, "too_large", field, "10000")
    expect(post(http, path, tiff(3), frames="all"), 413, "too_large", "pages", "2")
    expect(post(http, path, pdf(3)), 413, "too_large", "pages", "2")
    assert len(triton.seen) == 1


@pytest.mark.parametrize("path", ["/ocr", "/ocr/file", "/ocr/stream", "/ocr/batch"])
def test_a_body_too_large(serve: Callable[..., httpx.Client], path: str) -> None:
    http = serve(max_body_bytes=100, max_document_body_bytes=4000)
    if path == "/ocr/batch":
        assert http.post(path, json={"requests": [{"image_base64": IMAGE}]}).status_code == 200
    else:
        assert post(http, path, png()).status_code == 200
    response = post(http, path, bytes(4000)) if path != "/ocr/batch" else http.post(path, content=bytes(4001))
    expect(response, 413, "body_too_large", None, "larger than 4000 bytes")
    assert http.post("/v1/completions", json={"prompt": "a" * 100}).status_code == 413


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/ocr", "text/plain"),
        ("/ocr", "multipart/form-data; boundary=x"),
        ("/ocr/batch", "multipart/form-data; boundary=x"),
        ("/ocr/file", "application/json"),
        ("/ocr/file", "application/x-www-form-urlencoded"),
        ("/ocr/file", "image/png"),
        ("/ocr/stream", "image/png"),
        ("/ocr/stream", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_of_another_type(http: httpx.Client, path: str, media_type: str) -> None:
    response = http.post(path, content=b"x", headers={"content-type": media_type})
    expect(response, 415, "unsupported_media_type", None, "The body must be ")
    assert http.post(path).status_code == 415


@pytest.mark.parametrize("path", ["/ocr", "/ocr/stream"])
@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        (b"{", None, "not valid JSON"),
        (b'{"image_base64":\n"\x00"}', None, "not valid JSON"),
        (b"[]", None, "must be a JSON object"),
        (b"{}", "image_base64", "is required"),
        (b'{"image_base64": ""}', "image_base64", "at least 1 character"),
        (b'{"image_base64": 5}', "image_base64", "valid string"),
        (b'{"image_base64": "&"}', "image_base64", "base64"),
        (b'{"image_base64": "data:image/png,abc"}', "image_base64", "data URL"),
    ],
)
def test_a_json_body(http: httpx.Client, path: str, body: bytes, param: str | None, sentence: str) -> None:
    response = http.post(path, content=body, headers={"content-type": "application/json"})
    expect(response, 400, "invalid_value", param, sentence)


# Field, value as text of a form, what is wrong.
BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"temperature": "2.5"}, "temperature", "less than or equal to 2"),
    ({"temperature": "warm"}, "temperature", "valid number"),
    ({"temperature": "nan"}, "temperature", "finite number"),
    ({"max_tokens": "0"}, "max_tokens", "greater than or equal to 1"),
    ({"max_tokens": "1.5"}, "max_tokens", "valid integer"),
    ({"top_p": "0"}, "top_p", "greater than 0"),
    ({"seed": "x"}, "seed", "valid integer"),
    ({"retry": "perhaps"}, "retry", "valid boolean"),
    ({"mode": "huge"}, "mode", '"huge" is not supported; use "tiny"'),
    ({"mode": "tiny", "base_size": "512"}, "base_size", "without mode"),
    ({"base_size": "0"}, "base_size", "greater than or equal to 64"),
    ({"image_size": "1344"}, "image_size", "less than or equal to 1280"),
    ({"image_size": "641"}, "image_size", "multiple of 64"),
    ({"crop_mode": "x"}, "crop_mode", "valid boolean"),
    ({"pages": "2"}, "pages", "1"),
    ({"pages": "x"}, "pages", ""),
    ({"pages": "1," * 5000 + "1"}, "pages", "at most 10000 characters"),
    ({"dpi": "5000"}, "dpi", "less than or equal to 600"),
    ({"frames": "some"}, "frames", "is not supported"),
    ({"output": "html"}, "output.0", '"html" is not supported; use "text"'),
    ({"output": ["text", "html"]}, "output.1", "is not supported"),
    ({"output": ",".join(["text"] * 17)}, "output", "at most 16 items"),
    ({"output": "text," * 16 + "," * 100_000}, "output", "at most 16 items"),
    ({"no_repeat_ngram_size": "-1"}, "no_repeat_ngram_size", "greater than or equal to 0"),
    ({"no_repeat_ngram_size": "0", "no_repeat_ngram_window": "5"}, "no_repeat_ngram_window", "above 0"),
    ({"no_repeat_ngram_whitelist": ""}, "no_repeat_ngram_whitelist.0", "at least 1 character"),
    ({"prompt": ""}, "prompt", "empty"),
    ({"prompt": "<image><image>"}, "prompt", "at most once"),
    ({"prompt": "locate"}, "object", "locate"),
    ({"object": "a"}, "object", "locate"),
    ({"prompt": ["a", "b"]}, "prompt", "more than once"),
    ({"colour": "red"}, "colour", "is not supported by this server; leave it out"),
    ({"image_base64": "x"}, "image_base64", "is not supported by this server; leave it out"),
]


@pytest.mark.parametrize("path", ["/ocr/file", "/ocr/stream"])
@pytest.mark.parametrize(("fields", "param", "sentence"), BAD_FIELDS)
def test_a_field_of_a_form(
    http: httpx.Client, triton: FakeTriton, path: str, fields: dict[str, Any], param: str, sentence: str
) -> None:
    expect(http.post(path, files={"file": png()}, data=fields), 400, "invalid_value", param, sentence)
    assert triton.seen == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "0"}, "temperature"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"retry": "true"}, "retry"),
        ({"pages": 1}, "pages"),
        ({"output": 5}, "output"),
        ({"output": []}, "output"),
        ({"no_repeat_ngram_whitelist": "<td>"}, "no_repeat_ngram_whitelist"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_a_field_of_json_is_not_text(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    response = http.post("/ocr", json={"image_base64": IMAGE} | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/ocr", "/ocr/file", "/ocr/stream", "/ocr/batch", "/ocr/jobs"])
@pytest.mark.parametrize("name", ["pages", "prompt", "format"])
def test_a_field_in_the_query(http: httpx.Client, triton: FakeTriton, path: str, name: str) -> None:
    if name == "format" and path not in ("/ocr/batch", "/ocr/jobs"):
        return
    if path in ("/ocr", "/ocr/batch"):
        item = {"image_base64": IMAGE}
        response = http.post(f"{path}?{name}=text", json=item if path == "/ocr" else {"requests": [item]})
    else:
        response = http.post(f"{path}?{name}=text", files={"file": png()})
    expect(response, 400, "invalid_value", name, f"{name}: is not read from the query; send it in the body")
    assert triton.seen == []


def test_a_flood_of_parts_is_not_taken_apart() -> None:
    with pytest.raises(ValidationError) as caught:
        OcrFields.model_validate({"output": "text," * 100_000})
    assert len(caught.value.errors()[0]["input"]) <= 17


@pytest.mark.parametrize("path", ["/ocr/file", "/ocr/stream"])
def test_many_fields_of_a_form(http: httpx.Client, path: str) -> None:
    fields = {f"a{number}": "x" for number in range(129)}
    response = http.post(path, files={"file": png()}, data=fields)
    assert response.status_code == 400
    assert "Maximum number of fields is 128" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/ocr/file", "/ocr/stream"])
def test_the_file_of_a_form(http: httpx.Client, path: str) -> None:
    image = ("page.png", png(), "image/png")
    expect(http.post(path, files={"prompt": (None, "free")}), 400, "invalid_value", "file", "is required")
    expect(http.post(path, files={"file": (None, "abc")}), 400, "invalid_value", "file", "must be an upload")
    expect(http.post(path, files=[("file", image)] * 2), 400, "invalid_value", "file", "more than once")
    expect(http.post(path, files={"image": image}), 400, "invalid_value", "image", "sent as file")
    expect(http.post(path, files={"file": ("page.png", b"")}), 400, "invalid_value", "file", "empty")


@pytest.mark.parametrize("content", [b"", b"--x\r\n", b"--x\r\n\r\n", b"nothing", b"--x--\r\n"])
@pytest.mark.parametrize("header", ["multipart/form-data; boundary=x", "multipart/form-data"])
def test_a_form_that_is_none(http: httpx.Client, content: bytes, header: str) -> None:
    response = http.post("/ocr/file", content=content, headers={"content-type": header})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_value"


@PATHS
@pytest.mark.parametrize(
    ("failure", "status", "code", "param", "sentence"),
    [
        ((StatusCode.INVALID_ARGUMENT, "image: 9 MB are too large"), 400, "invalid_value", "<image>", ": 9 MB"),
        ((StatusCode.INVALID_ARGUMENT, "image_parameters: odd"), 400, "invalid_value", "mode", "mode: odd"),
        ((StatusCode.INVALID_ARGUMENT, "text_input: odd"), 400, "invalid_value", "prompt", "prompt: odd"),
        ((StatusCode.INVALID_ARGUMENT, "max_tokens: 9 > 5"), 400, "invalid_value", "max_tokens", "9 > 5"),
        (
            (StatusCode.INVALID_ARGUMENT, "unexpected inference input 'image' for model 'coder'"),
            400,
            "invalid_value",
            "model",
            "does not read images",
        ),
        ((StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), 429, "overloaded", None, "queue is full"),
        ((StatusCode.UNAVAILABLE, "Request for unknown model: 'ocr'"), 503, "unavailable", None, "not loaded"),
        ((StatusCode.UNAVAILABLE, "failed to connect"), 503, "unavailable", None, "not reachable"),
        ((StatusCode.INTERNAL, "KeyError: 'x'"), 500, "internal_error", None, "failed to handle"),
    ],
)
def test_a_failure_of_the_model(
    http: httpx.Client,
    triton: FakeTriton,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    failure: tuple[StatusCode, str],
    status: int,
    code: str,
    param: str | None,
    sentence: str,
) -> None:
    monkeypatch.setattr(reader, "QUEUE_WAITS_S", (0,))
    triton.fails(*failure)
    if param == "<image>":
        param = "image_base64" if path == "/ocr" else "file"
    response = post(http, path, png())
    expect(response, status, code, param, sentence)
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)


@PATHS
@pytest.mark.parametrize("field", ["mode", "base_size", "image_size"])
def test_what_the_model_refuses_of_the_image_s_sizes(
    http: httpx.Client, triton: FakeTriton, path: str, field: str
) -> None:
    triton.fails(StatusCode.INVALID_ARGUMENT, "image_parameters: it has no such view")
    value: Any = "tiny" if field == "mode" else 640
    if path == "/ocr":
        response = http.post("/ocr", json={"image_base64": IMAGE, field: value})
    else:
        response = http.post(path, files={"file": png()}, data={field: str(value)})
    expect(response, 400, "invalid_value", field, f"{field}: it has no such view")


@PATHS
def test_triton_is_away(serve: Callable[..., httpx.Client], path: str) -> None:
    http = serve(triton_url="127.0.0.1:1")
    expect(post(http, path, png()), 503, "unavailable", None, "Triton is not reachable.")


@PATHS
def test_an_unknown_model(http: httpx.Client, path: str) -> None:
    sentence = "there is no model 'gpt'; this server has deepseek-coder, deepseek-ocr"
    expect(post(http, path, png(), model="gpt"), 404, "model_not_found", "model", sentence)


def test_a_server_of_the_coder_alone(serve: Callable[..., httpx.Client]) -> None:
    http = serve(models={"deepseek-coder": "coder"})
    expect(post(http, "/ocr", png()), 404, "model_not_found", "model", "this server has deepseek-coder")


@PATHS
def test_an_error_of_our_own(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("adapter.ocr.results.read_page", fail)
    response = post(http, path, png())
    if path == "/ocr/stream":
        error = json.loads(response.text.split("event: error\ndata: ")[1])["error"]
        assert "data: [DONE]" not in response.text
    else:
        expect(response, 500, "internal_error", None, "The server failed to handle this request")
        error = response.json()["error"]
    assert "secret" not in error["message"]
    assert "ZeroDivisionError: secret" in caplog.text
