"""Every way in which Triton or a model can fail, before the first response and after it."""

import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest
from grpc import StatusCode

from adapter.errors import ApiError, InternalError
from adapter.grpc_errors import BY_STATUS, Failure, translate
from tests.adapter.conftest import Loop
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer, messages, raw_answer, strings
from tests.adapter.ocr_pages import base64_of, png
from tests.adapter.sse_reading import DONE, read_events

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}

INTERNAL = (500, "server_error", "internal_error", None, "The server failed to handle this request")
FULL = (429, "rate_limit_error", "overloaded", None, "The model's queue is full")
AWAY = (503, "service_unavailable_error", "unavailable", None, "Triton is not reachable")
NOT_LOADED = (503, "service_unavailable_error", "unavailable", None, "The model is not loaded, or is restarting")
CANCELLED = (503, "service_unavailable_error", "cancelled", None, "cancelled on the server's side")


def refusal(param: str, sentence: str) -> tuple[int, str, str, str, str]:
    return (400, "invalid_request_error", "invalid_value", param, f"{param}: {sentence}")


# Triton's texts come with a status, or alone in `error_message`: they mean the same.
TEXTS = [
    ("max_tokens: 9 exceeds", StatusCode.INVALID_ARGUMENT, refusal("max_tokens", "9 exceeds")),
    ("chat: too\nlong", StatusCode.INVALID_ARGUMENT, refusal("messages", "too\nlong")),
    ("text_input: holds no tokens", StatusCode.INVALID_ARGUMENT, refusal("prompt", "holds no tokens")),
    ("input_ids: outside", StatusCode.INVALID_ARGUMENT, refusal("prompt", "outside")),
    (
        "[request id: a] unexpected inference input 'image' for model 'coder'",
        StatusCode.INVALID_ARGUMENT,
        refusal("model", "this model does not read images"),
    ),
    (
        "[request id: a] unexpected inference input 'suffix' for model 'ocr'",
        StatusCode.INVALID_ARGUMENT,
        refusal("suffix", "this model fills no gaps"),
    ),
    ("messages.0.role: odd", StatusCode.INVALID_ARGUMENT, refusal("messages.0.role", "odd")),
    ("unexpected inference input 'x' for model 'coder'", StatusCode.INVALID_ARGUMENT, INTERNAL),
    ("[request id: a] expected 1 inputs but got 0", StatusCode.INVALID_ARGUMENT, INTERNAL),
    ("[request id: a] Exceeds maximum queue size", StatusCode.UNAVAILABLE, FULL),
    (
        "[request id: a] Request timeout expired",
        StatusCode.UNAVAILABLE,
        (429, "rate_limit_error", "overloaded", None, "waited in the model's queue for too long"),
    ),
    ("Request for unknown model: 'coder' is not found", StatusCode.UNAVAILABLE, NOT_LOADED),
    ("Request for unknown model: 'coder' is not found", StatusCode.NOT_FOUND, NOT_LOADED),
    ("Request for unknown model: 'coder' has no available versions", StatusCode.UNAVAILABLE, NOT_LOADED),
    ("in ensemble 'x', model 'coder' version 1 is not ready", StatusCode.UNAVAILABLE, NOT_LOADED),
    ("the model is being unloaded; send the request again later", StatusCode.UNAVAILABLE, NOT_LOADED),
    ("Stub process 'coder_0_0' is not healthy.", StatusCode.INTERNAL, NOT_LOADED),
    ("Failed to process the request(s): failed to restart the stub", StatusCode.INTERNAL, NOT_LOADED),
    ("Failed to process the request(s), message: KeyError: 'x'", StatusCode.INTERNAL, INTERNAL),
    ("std::bad_alloc", StatusCode.UNKNOWN, INTERNAL),
]


def expect(error: dict[str, Any], status: int, expected: tuple[int, str, str, str | None, str]) -> None:
    assert status == expected[0]
    assert (error["type"], error["code"], error["param"]) == expected[1:4]
    assert expected[4] in error["message"]
    assert error.keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("text", "code", "expected"), TEXTS)
def test_a_failure_before_the_first_response(
    http: httpx.Client, triton: FakeTriton, text: str, code: StatusCode, expected: Any, streamed: bool
) -> None:
    triton.fails(code, text)
    response = http.post(CHAT, json=BODY | {"stream": streamed})
    expect(response.json()["error"], response.status_code, expected)
    assert response.headers.get("retry-after") == ("1" if expected[0] == 429 else None)

    triton.replies(messages.ModelStreamInferResponse(error_message=text))
    again = http.post(CHAT, json=BODY | {"stream": streamed})
    assert (again.status_code, again.content) == (response.status_code, response.content)


@pytest.mark.parametrize(("text", "code", "expected"), TEXTS)
def test_a_failure_after_the_first_response(
    http: httpx.Client, triton: FakeTriton, text: str, code: StatusCode, expected: Any
) -> None:
    triton.fails(code, text, after=["Hel", "lo"])
    with http.stream("POST", COMPLETIONS, json={"prompt": "a", "stream": True}) as response:
        assert response.status_code == 200
        *chunks, last = read_events(response)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hel", "lo"]
    expect(last["error"], expected[0], expected)
    whole = http.post(COMPLETIONS, json={"prompt": "a"})
    expect(whole.json()["error"], whole.status_code, expected)


@pytest.mark.parametrize("code", StatusCode)
def test_every_status_has_a_meaning(code: StatusCode) -> None:
    assert isinstance(translate(Failure(code, "?", timeout_s=1, retry_after_s=1)), ApiError)


def test_the_statuses_that_are_not_our_fault() -> None:
    meanings = {code: translate(Failure(code, "?", timeout_s=1.5, retry_after_s=1)) for code in BY_STATUS}
    kept = {code: error for code, error in meanings.items() if not isinstance(error, InternalError)}
    assert {code: (error.status, error.code) for code, error in kept.items()} == {
        StatusCode.CANCELLED: (503, "cancelled"),
        StatusCode.DEADLINE_EXCEEDED: (503, "timeout"),
        StatusCode.UNAVAILABLE: (503, "unavailable"),
    }
    assert kept[StatusCode.DEADLINE_EXCEEDED].message == "There was no answer within 1.5 seconds."


WHOLE = {"text_output": strings(["a"]), "finish_reason": strings(["stop"])}
COUNTS = {f"num_{kind}_tokens": struct.pack("<I", 1) for kind in ("input", "output", "cached")}


@pytest.mark.parametrize(
    ("replies", "num_choices"),
    [
        pytest.param([], 1, id="no response"),
        pytest.param([messages.ModelStreamInferResponse()], 1, id="only the final flag"),
        pytest.param([answer("a")], 1, id="no finish"),
        pytest.param([answer("a", finish="stop")], 1, id="no counts"),
        pytest.param([answer("a", usage=USAGE)], 1, id="counts and no finish"),
        pytest.param([answer("a", index=[1], finish="stop", usage=USAGE)], 2, id="one choice of two"),
        pytest.param([answer("a", finish="stop"), answer("b", finish="stop", usage=USAGE)], 1, id="text after the end"),
        pytest.param([answer("a", index=[1], finish="stop", usage=USAGE)], 1, id="unknown choice"),
        pytest.param([answer("a", "b", finish=["stop"], index=[0, 1], usage=USAGE)], 2, id="too few finishes"),
        pytest.param([answer("a", "b", finish="stop", usage=USAGE)], 2, id="choices without an index"),
        pytest.param([answer("a", finish="odd", usage=USAGE)], 1, id="unknown finish"),
        pytest.param([raw_answer(WHOLE | COUNTS | {"text_output": b"\x05\0\0\0abc"})], 1, id="cut off string"),
        pytest.param([raw_answer(WHOLE | COUNTS | {"text_output": b"\x01\0\0\0\xff"})], 1, id="not UTF-8"),
        pytest.param([raw_answer(WHOLE | COUNTS | {"num_input_tokens": b"\0"})], 1, id="cut off count"),
        pytest.param([raw_answer(WHOLE | COUNTS | {"logprobs": strings(["{"])})], 1, id="logprobs are no JSON"),
        pytest.param([raw_answer(WHOLE | COUNTS | {"logprobs": strings(['[{"token": 1}]'])})], 1, id="odd logprobs"),
    ],
)
def test_no_broken_answer_looks_whole(
    http: httpx.Client, triton: FakeTriton, replies: list[Any], num_choices: int
) -> None:
    expected = (500, "server_error", "broken_answer", None, "The model's answer broke off.")
    triton.replies(*replies)
    response = http.post(CHAT, json=BODY | {"n": num_choices})
    expect(response.json()["error"], response.status_code, expected)

    triton.replies(answer("Hello"), *replies)
    with http.stream("POST", CHAT, json=BODY | {"n": num_choices, "stream": True}) as streamed:
        events = read_events(streamed)
    assert DONE not in events
    expect(events[-1]["error"], 500, expected)


@pytest.mark.parametrize("after", [[], [answer("Hel")]])
def test_a_cancel_that_the_client_did_not_ask_for(http: httpx.Client, triton: FakeTriton, after: list[Any]) -> None:
    expected = (503, "service_unavailable_error", "cancelled", None, "gave the request up")
    triton.replies(*after, answer("lo", finish="cancelled", usage=USAGE))
    response = http.post(CHAT, json=BODY)
    expect(response.json()["error"], response.status_code, expected)
    with http.stream("POST", CHAT, json=BODY | {"stream": True}) as streamed:
        if after:
            *_, last = read_events(streamed)
            expect(last["error"], 503, expected)
        else:
            assert streamed.status_code == 503


def test_the_deadline(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(request_timeout_s=0.2)
    expected = (503, "service_unavailable_error", "timeout", None, "There was no answer within 0.2 seconds.")
    triton.hangs()
    response = http.post(CHAT, json=BODY)
    expect(response.json()["error"], response.status_code, expected)
    triton.hangs("Hel")
    with http.stream("POST", CHAT, json=BODY | {"stream": True}) as streamed:
        *_, last = read_events(streamed)
    expect(last["error"], 503, expected)
    assert all(seen.cancelled.wait(10) for seen in triton.seen)


def test_the_wait_for_the_first_response(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(first_response_timeout_s=0.2)
    triton.hangs()
    response = http.post(CHAT, json=BODY | {"stream": True})
    expected = (503, "service_unavailable_error", "timeout", None, "did not begin to answer within 0.2 seconds")
    expect(response.json()["error"], response.status_code, expected)
    assert triton.seen[0].cancelled.wait(10)


def test_who_waits_for_the_whole_waits_longer(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    """Also where the model answers bit by bit, for a key to be charged and for pages."""
    http = serve(api_key="a-key-to-charge", first_response_timeout_s=0.2, request_timeout_s=0.5)
    http.headers["authorization"] = "Bearer a-key-to-charge"
    triton.hangs()
    image = {"image_base64": base64_of(png())}
    for path, body, seconds in (
        (CHAT, BODY, "0.5"),
        ("/ocr", image, "0.5"),
        (CHAT, BODY | {"stream": True}, "0.2"),
        ("/ocr/stream", image, "0.2"),
    ):
        assert f"within {seconds} seconds" in http.post(path, json=body).text
    assert all(seen.inputs["stream"] for seen in triton.seen)


def test_triton_away_and_back(loop: Loop, serve: Callable[..., httpx.Client]) -> None:
    triton = FakeTriton(loop.loop)
    loop.do(triton.start())
    http = serve(triton_url=f"127.0.0.1:{triton.port}")
    assert http.post(CHAT, json=BODY).status_code == 200
    loop.do(triton.stop())
    for body in (BODY, BODY | {"stream": True}):
        response = http.post(CHAT, json=body)
        expect(response.json()["error"], response.status_code, AWAY)
    assert http.get("/v1/models").status_code == 503
    loop.do(triton.start())
    while (again := http.post(CHAT, json=BODY)).status_code == 503:
        pass
    assert again.status_code == 200
    loop.do(triton.stop())


def test_triton_dies_in_the_middle(loop: Loop, serve: Callable[..., httpx.Client]) -> None:
    triton = FakeTriton(loop.loop)
    loop.do(triton.start())
    http = serve(triton_url=f"127.0.0.1:{triton.port}")
    gate = triton.hangs("Hel")
    with http.stream("POST", COMPLETIONS, json={"prompt": "a", "stream": True}) as response:
        assert response.status_code == 200
        assert gate.reached.wait(10)
        loop.do(triton.stop())
        *chunks, last = read_events(response)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hel"]
    assert last["error"]["type"] == "service_unavailable_error"


def test_several_tritons_share_the_work(loop: Loop, serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    other = FakeTriton(loop.loop)
    loop.do(other.start())
    http = serve(triton_url=f"127.0.0.1:{triton.port}, localhost:{other.port}")
    while not (triton.seen and other.seen):
        assert http.post(CHAT, json=BODY).status_code == 200
    loop.do(other.stop())
    for _ in range(4):
        assert http.post(CHAT, json=BODY).status_code == 200


def test_an_error_of_our_own(
    http: httpx.Client, triton: FakeTriton, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("adapter.triton_client.decode", fail)
    response = http.post(CHAT, json=BODY, headers={"x-request-id": "abc"})
    expect(response.json()["error"], response.status_code, INTERNAL)
    assert "secret" not in response.text
    assert response.headers["x-request-id"] == "abc"
    assert "ZeroDivisionError: secret" in caplog.text


def test_the_cause_is_logged_and_not_told(
    http: httpx.Client, triton: FakeTriton, caplog: pytest.LogCaptureFixture
) -> None:
    triton.fails(StatusCode.UNKNOWN, "secret")
    response = http.post(CHAT, json=BODY, headers={"x-request-id": "abc"})
    assert "secret" not in response.text
    assert "abc internal_error: Triton: UNKNOWN: secret" in caplog.text


def test_the_sdk_raises_its_own_errors(sdk: openai.OpenAI, triton: FakeTriton) -> None:
    body: Any = BODY["messages"]
    triton.fails(StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
    with pytest.raises(openai.RateLimitError):
        sdk.chat.completions.create(model="deepseek-coder", messages=body)
    triton.fails(StatusCode.UNKNOWN, "?", after=["Hel"])
    with (
        pytest.raises(openai.APIError, match="The server failed"),
        sdk.chat.completions.create(model="deepseek-coder", messages=body, stream=True) as chunks,
    ):
        list(chunks)


def test_the_model_fails_while_others_go_on(http: httpx.Client, triton: FakeTriton) -> None:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if "bad" in seen.inputs["chat"]:
            await context.abort(StatusCode.INTERNAL, "?")
        yield answer("ok", finish="stop", usage=USAGE)

    triton.reply = reply
    assert http.post(CHAT, json={"messages": [{"role": "user", "content": "bad"}]}).status_code == 500
    assert http.post(CHAT, json=BODY).status_code == 200
