"""`POST /ocr/stream`: bare text, and JSON events."""

import base64
import json
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest
import sseclient
from grpc import StatusCode

from adapter.ocr import reader
from tests.adapter.fake_triton import USAGE, FakeTriton, Gate, answer
from tests.adapter.ocr_pages import GROUNDED, USAGE_FIELDS, base64_of, by_page, pdf, png, size_of, tiff, times_usage
from tests.adapter.sse_reading import DONE, read_events

STREAM = "/ocr/stream"
JSON_STREAM = "/ocr/stream?format=json"
REFUSED = (StatusCode.INVALID_ARGUMENT, "image: too odd")


class Event(NamedTuple):
    name: str
    data: str


@pytest.fixture(params=["form", "json", "stream field of /ocr", "stream field of /ocr/file"])
def send(request: pytest.FixtureRequest, http: httpx.Client) -> Callable[..., Any]:
    """Every way to ask for a stream."""

    @contextmanager
    def stream(data: bytes, *, params: dict[str, str] | None = None, **fields: Any) -> Any:
        file = {"file": ("page", data, "application/octet-stream")}
        body = {"image_base64": base64_of(data)} | fields
        requests: dict[str, tuple[str, dict[str, Any]]] = {
            "form": (STREAM, {"files": file, "data": fields}),
            "json": (STREAM, {"json": body}),
            "stream field of /ocr": ("/ocr", {"json": body | {"stream": True}}),
            "stream field of /ocr/file": ("/ocr/file", {"files": file, "data": fields | {"stream": "true"}}),
        }
        path, content = requests[request.param]
        with http.stream("POST", path, params=params or {}, **content) as response:
            yield response

    return stream


def read_text(response: httpx.Response) -> list[Event]:
    assert response.status_code == 200, response.read()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return [Event(event.event, event.data) for event in sseclient.SSEClient(response.iter_bytes()).events()]


def text_of(events: list[Event]) -> str:
    return "".join(event.data for event in events if event.name == "message" and event.data != DONE)


def test_text(send: Callable[..., Any], triton: FakeTriton) -> None:
    triton.says("Hello", " world\n", "again", "\n")
    with send(png()) as response:
        events = read_text(response)
    assert events == [("message", "Hello"), ("message", " world"), ("message", "\nagain"), ("message", DONE)]
    assert triton.seen[0].inputs["stream"] is True


def test_pages_have_a_blank_line_between_them(send: Callable[..., Any], triton: FakeTriton) -> None:
    triton.reply = by_page({2: "two\nlines\n"})
    with send(tiff(3), frames="all") as response:
        events = read_text(response)
    assert text_of(events) == "page 1\n\ntwo\nlines\n\npage 3"
    assert events[-1].data == DONE


def test_text_is_without_tags(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says(*GROUNDED)
    with http.stream("POST", STREAM, files={"file": png()}) as response:
        assert text_of(read_text(response)) == "Hello"


def test_a_text_that_reads_like_the_end(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says(DONE, "\n", DONE)
    with http.stream("POST", STREAM, files={"file": png()}) as response:
        *events, last = read_text(response)
    assert last.data == DONE
    assert DONE not in [event.data for event in events]
    assert "".join(event.data for event in events) == f"{DONE}\n{DONE}"


def test_a_page_without_text(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("")
    with http.stream("POST", STREAM, files={"file": png()}) as response:
        assert read_text(response) == [("message", DONE)]


def test_json(send: Callable[..., Any], triton: FakeTriton) -> None:
    triton.says("<|ref|>title<|/ref|><|det|>[[0, 0, 999, 500]]<|/det|>\nHel", "lo")
    with send(png(200, 100), params={"format": "json"}, output="text,markdown,blocks,annotated") as response:
        start, *events, usage, done = read_events(response)
    assert start.pop("id").startswith("ocr-")
    assert start == {"type": "start", "model": "deepseek-ocr", "pages": 1}
    texts = [event for event in events if event["type"] == "text"]
    assert {event["page"] for event in texts} == {1}
    assert [event["text"] for event in texts] == ["Hel", "lo"]
    block = {"type": "title", "text": "Hello", "boxes": [[0, 0, 200, 50]], "page": 1}
    assert events[len(texts)] == {"type": "block", "page": 1, "block": block}
    page = events[len(texts) + 1]
    assert size_of(base64.b64decode(page["result"].pop("annotated"))) == (200, 100)
    assert page == {
        "type": "page",
        "page": 1,
        "result": {
            "page": 1,
            "width": 200,
            "height": 100,
            "finish_reason": "stop",
            "text": "Hello",
            "markdown": "Hello",
            "blocks": [block],
        },
    }
    assert usage == {"type": "usage", "usage": USAGE_FIELDS}
    assert done == DONE


def test_json_of_a_pdf(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = by_page({2: REFUSED})
    with http.stream("POST", JSON_STREAM, files={"file": pdf(4)}, data={"pages": "2-", "dpi": "72"}) as response:
        start, *events, usage, done = read_events(response)
    assert start["pages"] == 3
    # The first page's failure waits for the first page that does not fail.
    assert [(event["type"], event["page"]) for event in events] == [
        ("page", 2),
        *[(kind, page) for page in (3, 4) for kind in ("text", "block", "page")],
    ]
    assert events[0]["result"] == {
        "page": 2,
        "error": {
            "message": "file: too odd",
            "type": "invalid_request_error",
            "param": "file",
            "code": "invalid_value",
        },
    }
    assert (usage["usage"], done) == (times_usage(2), DONE)


def test_a_page_that_fails_in_the_text_is_told_and_not_done(http: httpx.Client, triton: FakeTriton) -> None:
    triton.reply = by_page({2: REFUSED})
    with http.stream("POST", STREAM, files={"file": tiff(3)}, data={"frames": "all"}) as response:
        first, error, last = read_text(response)
    assert (first.data, error.name, last) == ("page 1", "error", ("message", "\n\npage 3"))
    assert json.loads(error.data)["page"] == 2
    assert json.loads(error.data)["error"]["message"] == "file: too odd"


def test_if_every_page_fails_it_is_no_stream(send: Callable[..., Any], triton: FakeTriton) -> None:
    triton.reply = by_page({1: REFUSED, 2: REFUSED})
    for params in ({}, {"format": "json"}):
        with send(tiff(2), frames="all", params=params) as response:
            assert response.status_code == 400
            assert json.loads(response.read())["error"]["message"].endswith(": too odd")


def test_an_error_after_the_first_event(send: Callable[..., Any], triton: FakeTriton) -> None:
    triton.fails(StatusCode.UNAVAILABLE, "Exceeds maximum queue size", after=["Hel", "lo"])
    with send(png()) as response:
        *events, error = read_text(response)
    assert text_of(events) == "Hello"
    assert error.name == "error"
    assert json.loads(error.data)["error"]["code"] == "overloaded"
    with send(png(), params={"format": "json"}) as response:
        *events, last = read_events(response)
    assert [event["type"] for event in events] == ["start", "text", "text"]
    assert last["error"]["code"] == "overloaded"


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        ((StatusCode.UNAVAILABLE, "Request for unknown model: 'ocr' is not found"), 503, "unavailable"),
        ((StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), 429, "overloaded"),
        ((StatusCode.INTERNAL, "?"), 500, "internal_error"),
        ((StatusCode.INVALID_ARGUMENT, "image: too odd"), 400, "invalid_value"),
    ],
)
def test_an_error_before_the_first_event(
    send: Callable[..., Any],
    triton: FakeTriton,
    monkeypatch: pytest.MonkeyPatch,
    failure: tuple[StatusCode, str],
    status: int,
    code: str,
) -> None:
    monkeypatch.setattr(reader, "QUEUE_WAITS_S", (0,))
    triton.fails(*failure)
    for params in ({}, {"format": "json"}):
        with send(png(), params=params) as response:
            assert response.status_code == status
            assert json.loads(response.read())["error"]["code"] == code


def test_a_broken_off_answer(http: httpx.Client, triton: FakeTriton) -> None:
    triton.replies(answer("Hel"))
    with http.stream("POST", STREAM, files={"file": png()}) as response:
        text, error = read_text(response)
    assert (text.data, error.name) == ("Hel", "error")
    assert json.loads(error.data)["error"]["code"] == "broken_answer"
    with http.stream("POST", JSON_STREAM, files={"file": png()}) as response:
        _, text, page, _, done = read_events(response)
    assert (page["result"]["error"]["code"], done) == ("broken_answer", DONE)


def test_pages_alone_are_read_again(http: httpx.Client, triton: FakeTriton) -> None:
    async def reply(seen: Any, context: Any) -> Any:
        looped = seen.sampling["temperature"] == 0
        yield answer("aaa" if looped else "Hello", finish="repetition" if looped else "stop", usage=USAGE)

    triton.reply = reply
    with http.stream("POST", STREAM + "?format=pages", files={"file": png()}) as response:
        start, page, usage, done = read_events(response)
    assert (start["type"], start["pages"]) == ("start", 1)
    assert (page["type"], page["result"]["text"]) == ("page", "Hello")
    assert (usage["usage"], done) == (times_usage(2), DONE)


def test_a_stream_does_not_read_again(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("aaa", finish="repetition")
    with http.stream("POST", JSON_STREAM, files={"file": png()}) as response:
        events = read_events(response)
    (page,) = [event for event in events if event != DONE and event["type"] == "page"]
    assert page["result"]["finish_reason"] == "repetition"
    assert len(triton.seen) == 1


def test_a_silent_stream_is_kept_alive(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    gate = triton.hangs("Hello")
    with serve(keep_alive_s=0.02).stream("POST", STREAM, files={"file": png()}) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if line.startswith("data: ")) == "data: Hello"
        assert next(line for line in lines if line) == ": keep-alive"
        gate.open()
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_text_goes_out_as_it_comes(http: httpx.Client, triton: FakeTriton) -> None:
    gate = Gate(triton.loop)

    async def reply(seen: Any, context: Any) -> Any:
        yield answer("Hello")
        await gate.passed()
        yield answer(" world", finish="stop", usage=USAGE)

    triton.reply = reply
    with http.stream("POST", STREAM, files={"file": png()}) as response:
        events = sseclient.SSEClient(response.iter_bytes()).events()
        assert next(events).data == "Hello"
        gate.open()
        assert [event.data for event in events] == [" world", DONE]


def test_a_pdf_s_first_text_comes_before_its_other_pages_are_read(http: httpx.Client, triton: FakeTriton) -> None:
    gates = {number: Gate(triton.loop) for number in range(2, 51)}
    triton.reply = by_page(gates=gates)
    with http.stream("POST", STREAM, files={"file": pdf(50)}, data={"dpi": "72"}) as response:
        events = sseclient.SSEClient(response.iter_bytes()).events()
        assert next(events).data == "page 1"
        for gate in gates.values():
            gate.open()
        text = "page 1" + "".join(event.data for event in events if event.data != DONE)
    assert text == "\n\n".join(f"page {number}" for number in range(1, 51))


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (STREAM + "?format=xml", {}, "format"),
        (STREAM, {"stream": "false"}, "stream"),
        ("/ocr/file?format=json", {}, "format"),
    ],
)
def test_fields_that_do_not_fit(http: httpx.Client, path: str, fields: dict[str, str], param: str) -> None:
    response = http.post(path, files={"file": png()}, data=fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
