"""`POST /ocr/batch`: each item has its own answer or error, in its place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from grpc import StatusCode

from adapter.ocr import reader
from adapter.ocr.schemas import BatchAnswer
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.ocr_pages import USAGE_FIELDS, base64_of, by_page, page_of, pdf, png, times_usage


def item(number: int, **fields: Any) -> dict[str, Any]:
    return {"image_base64": base64_of(png(10 + number, 8))} | fields


def post(http: httpx.Client, items: list[Any]) -> Any:
    response = http.post("/ocr/batch", json={"requests": items})
    assert response.status_code == 200, response.text
    BatchAnswer.model_validate(response.json())
    return response.json()


def test_a_hundred_images_with_three_bad_ones(http: httpx.Client, triton: FakeTriton) -> None:
    running = most_running = 0

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        if page_of(seen) == 61:
            await context.abort(StatusCode.INVALID_ARGUMENT, "image: too odd")
        yield answer(f"page {page_of(seen)}")
        running -= 1
        yield answer("!", finish="stop", usage=USAGE)

    triton.reply = reply
    items: list[Any] = [item(number) for number in range(100)]
    items[17] = {"image_base64": "no base64"}
    items[42] = item(42, temperature=5)
    body = post(http, items)
    assert [result["index"] for result in body["results"]] == list(range(100))
    assert body["num_failed"] == 3
    assert body["usage"] == times_usage(97)
    errors = {result["index"]: result for result in body["results"] if "error" in result}
    assert {index: (error["status"], error["error"]["param"]) for index, error in errors.items()} == {
        17: (400, "image_base64"),
        42: (400, "temperature"),
        61: (400, "image_base64"),
    }
    assert errors[61]["error"]["message"] == "image_base64: too odd"
    for result in body["results"]:
        if result["index"] not in errors:
            assert result["text"] == f"page {result['index']}!"
            assert result["usage"] == USAGE_FIELDS
    assert len(triton.seen) == 98
    assert most_running <= 16


def test_the_pictures_of_all_items_are_bounded(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.ocr.results.MAX_PICTURE_BYTES", 1000)
    body = post(http, [item(number, output="annotated") for number in range(50)])
    assert 0 < body["num_failed"] < 50
    assert {result["status"] for result in body["results"] if "error" in result} == {413}
    items = [item(number, output="annotated") for number in range(50)] + [item(number) for number in range(10)]
    assert [result for result in post(http, items)["results"][50:] if "error" in result] == []


def test_each_item_is_as_of_ocr(http: httpx.Client, triton: FakeTriton) -> None:
    triton.says("a\n\nb")
    marked = item(500, prompt="markdown", output=["markdown"])
    items = [marked, item(501, mode="tiny"), {"image_base64": base64_of(pdf(3))}]
    first, second, third = post(http, items)["results"]
    assert first["markdown"] == "a\n\nb"
    assert "markdown" not in second
    assert len(third["pages"]) == 3
    prompts = {page_of(seen): seen.inputs["text_input"] for seen in triton.seen}  # in any order
    assert [page for page, prompt in prompts.items() if "markdown" in prompt] == [500]
    assert len({result["id"] for result in (first, second, third)}) == 3


@pytest.mark.parametrize(
    ("bad", "status", "param"),
    [
        (5, 400, None),
        (None, 400, None),
        ({}, 400, "image_base64"),
        (item(0, stream=True), 400, "stream"),
        (item(0, model="nope"), 404, "model"),
        (item(0, pages="2"), 400, "pages"),
        (item(0, prompt="locate"), 400, "object"),
        (item(0, colour="red"), 400, "colour"),
        ({"image_base64": base64_of(b"hello")}, 400, "image_base64"),
        ({"image_base64": "data:text/html;base64," + base64_of(b"<html>")}, 415, "image_base64"),
    ],
)
def test_a_bad_item(http: httpx.Client, bad: Any, status: int, param: str | None) -> None:
    good, failed, good_too = post(http, [item(0), bad, item(1)])["results"]
    assert (failed["status"], failed["error"]["param"]) == (status, param)
    assert failed["index"] == 1
    assert good["text"] == good_too["text"] == "Hello world"


def test_an_image_beyond_a_limit(serve: Callable[..., httpx.Client]) -> None:
    http = serve(max_image_side=50)
    good, failed = post(http, [item(0), item(50)])["results"]
    assert (good["text"], failed["status"]) == ("Hello world", 413)


def test_a_model_that_goes_away(http: httpx.Client, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "QUEUE_WAITS_S", (0,))
    triton.reply = by_page(
        {1: (StatusCode.UNAVAILABLE, "Exceeds maximum queue size"), 2: (StatusCode.UNAVAILABLE, "failed to connect")}
    )
    results = post(http, [item(number) for number in range(3)])["results"]
    assert [result.get("status") for result in results] == [None, 429, 503]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "requests"),
        ({"requests": []}, "requests"),
        ({"requests": {}}, "requests"),
        ({"requests": [item(0)] * 101}, "requests"),
        ({"requests": [item(0)], "model": "deepseek-ocr"}, "model"),
    ],
)
def test_a_wrong_envelope(http: httpx.Client, triton: FakeTriton, body: Any, param: str) -> None:
    response = http.post("/ocr/batch", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert triton.seen == []


def test_the_most_images_are_a_setting(serve: Callable[..., httpx.Client]) -> None:
    http = serve(max_batch_images=2)
    assert len(post(http, [item(0)] * 2)["results"]) == 2
    response = http.post("/ocr/batch", json={"requests": [item(0)] * 3})
    assert response.json()["error"]["message"] == "requests: must have at most 2 items"


def test_a_slow_item_keeps_its_place(http: httpx.Client, triton: FakeTriton) -> None:
    """The first is answered last, and still comes first."""
    others_answered = asyncio.Event()
    num_answered = 0

    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        nonlocal num_answered
        if page_of(seen) == 0:
            await others_answered.wait()
        yield answer(f"page {page_of(seen)}", finish="stop", usage=USAGE)
        num_answered += 1
        if num_answered == 4:
            others_answered.set()

    triton.reply = reply
    results = post(http, [item(number) for number in range(5)])["results"]
    assert [result["text"] for result in results] == [f"page {number}" for number in range(5)]
