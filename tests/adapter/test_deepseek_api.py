"""What DeepSeek's own API has beside OpenAI's: its base URLs and names, gaps, answers that are begun, comments."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import openai
import pytest
from pydantic import ValidationError

from adapter.base_urls import canonical
from adapter.settings import Settings
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.sse_reading import DONE, read_events, stream

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTION = {"role": "user", "content": "Please write quick sort code"}
BEGUN = {"role": "assistant", "content": "```python\n"}
KEEP_ALIVE = ": keep-alive"


def refused(response: httpx.Response, param: str, sentence: str) -> None:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert sentence in error["message"]


@pytest.mark.parametrize("base", ["", "/v1", "/beta"])
def test_every_base_url_answers(http: httpx.Client, base: str) -> None:
    url = str(http.base_url).rstrip("/") + base
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as sdk:
        chat: Any = [QUESTION]
        assert sdk.chat.completions.create(model="deepseek-chat", messages=chat).choices[0].message.content
        assert sdk.completions.create(model="deepseek-chat", prompt="a").choices[0].text == "Hello world"
        assert [model.id for model in sdk.models.list()] == ["deepseek-coder", "deepseek-ocr"]
        assert sdk.models.retrieve("deepseek-coder").id == "deepseek-coder"


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/beta", "/ocr", "/completionsx", "/modelsx/a", "/v1/models", "/betax/models", "/v2/models"]
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert canonical(path) == path


def test_a_chat_with_images_may_be_as_large_below_any(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(max_body_bytes=100, max_document_body_bytes=1000)
    for path in (CHAT, "/chat/completions"):
        assert http.post(path, json={"messages": [{"role": "user", "content": "a" * 200}]}).status_code == 413


@pytest.mark.parametrize("alias", ["deepseek-chat", "deepseek-reasoner"])
def test_deepseek_s_names_are_the_coder_s(http: httpx.Client, triton: FakeTriton, alias: str) -> None:
    body = http.post(CHAT, json={"model": alias, "messages": [QUESTION]}).json()
    assert body["model"] == alias
    assert triton.seen[0].model == "coder"
    assert http.get(f"/v1/models/{alias}").json()["id"] == alias


def test_aliases_are_a_setting(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(models={"a": "model-a", "b": "model-b"}, model_aliases={"gpt-4o": "b"})
    assert http.post(COMPLETIONS, json={"model": "gpt-4o", "prompt": "x"}).status_code == 200
    assert triton.seen[0].model == "model-b"
    assert http.post(COMPLETIONS, json={"model": "deepseek-chat", "prompt": "x"}).status_code == 404


@pytest.mark.parametrize("aliases", [{"x": "nowhere"}, {"deepseek-coder": "deepseek-ocr"}])
def test_an_alias_is_another_name_of_a_model(aliases: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="must be another name of one of models"):
        Settings(model_aliases=aliases)


def test_cached_tokens_have_deepseek_s_names_too(http: httpx.Client) -> None:
    usage = http.post(CHAT, json={"messages": [QUESTION]}).json()["usage"]
    assert (usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]) == (2, 3)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}


def test_a_gap_goes_to_the_model(http: httpx.Client, triton: FakeTriton) -> None:
    body = {"prompt": ["def f(", "def g("], "suffix": "):\n    pass\n"}
    assert http.post(COMPLETIONS, json=body).status_code == 200
    assert [(seen.inputs["text_input"], seen.inputs["suffix"]) for seen in triton.seen] == [
        ("def f(", body["suffix"]),
        ("def g(", body["suffix"]),
    ]
    for empty in ("", None):
        http.post(COMPLETIONS, json={"prompt": "a", "suffix": empty})
        assert "suffix" not in triton.seen[-1].inputs


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2]]])
def test_a_gap_lies_in_texts(http: httpx.Client, triton: FakeTriton, prompt: Any) -> None:
    refused(http.post(COMPLETIONS, json={"prompt": prompt, "suffix": "b"}), "suffix", "only for prompts that are texts")
    assert triton.seen == []


def test_a_model_without_gaps_says_so(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(grpc.StatusCode.INVALID_ARGUMENT, "suffix: this checkpoint fills no gaps; leave it out")
    refused(http.post(COMPLETIONS, json={"prompt": "a", "suffix": "b"}), "suffix", "fills no gaps")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [QUESTION, BEGUN | {"prefix": True}]},
        {"messages": [QUESTION, BEGUN], "continue_final_message": True},
        {"messages": [QUESTION, BEGUN], "continue_final_message": True, "add_generation_prompt": False},
        {"messages": [QUESTION, BEGUN | {"prefix": True}], "add_generation_prompt": False},
    ],
)
def test_an_answer_that_is_begun(http: httpx.Client, triton: FakeTriton, body: dict[str, Any]) -> None:
    answer = http.post(CHAT, json=body).json()
    assert json.loads(triton.seen[0].inputs["chat"]) == {"messages": [QUESTION, BEGUN], "continue_final_message": True}
    assert answer["choices"][0]["message"]["content"] == "Hello world", "what it goes on from is not repeated"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [QUESTION, BEGUN]},
        {"messages": [QUESTION, BEGUN | {"prefix": False}], "add_generation_prompt": True},
        {"messages": [QUESTION, BEGUN], "continue_final_message": False},
    ],
)
def test_an_answer_that_is_not(http: httpx.Client, triton: FakeTriton, body: dict[str, Any]) -> None:
    assert http.post(CHAT, json=body).status_code == 200
    assert json.loads(triton.seen[0].inputs["chat"]) == {"messages": [QUESTION, BEGUN]}


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        ({"messages": [QUESTION | {"prefix": True}]}, "messages.0.prefix", "is only for the last message"),
        ({"messages": [BEGUN | {"prefix": True}, QUESTION]}, "messages.0.prefix", "is only for the last message"),
        ({"messages": [QUESTION], "continue_final_message": True}, "messages.0", "must be an assistant's"),
        (
            {"messages": [QUESTION, {"role": "assistant", "content": "", "prefix": True}]},
            "messages.1",
            "with some text",
        ),
        ({"messages": [QUESTION], "add_generation_prompt": False}, "add_generation_prompt", "is false only with"),
        (
            {"messages": [QUESTION, BEGUN], "continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
            "must be false with",
        ),
    ],
)
def test_what_cannot_be_gone_on_with(
    http: httpx.Client, triton: FakeTriton, body: dict[str, Any], param: str, sentence: str
) -> None:
    refused(http.post(CHAT, json=body), param, sentence)
    assert triton.seen == []


def test_a_model_that_begins_no_answers_says_so(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(grpc.StatusCode.INVALID_ARGUMENT, "continue_final_message: these models know no roles; leave it out")
    body = {"model": "deepseek-ocr", "messages": [QUESTION, BEGUN | {"prefix": True}]}
    refused(http.post(CHAT, json=body), "messages.1.prefix", "know no roles")


@pytest.mark.parametrize(("path", "body"), [(CHAT, {"messages": [QUESTION]}), (COMPLETIONS, {"prompt": "a"})])
def test_a_stream_that_waits_is_kept_alive(
    serve: Callable[..., httpx.Client], triton: FakeTriton, path: str, body: dict[str, Any]
) -> None:
    http = serve(keep_alive_s=0.02)
    gate = triton.hangs()
    with http.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        assert [next(lines) for _ in range(4)] == [KEEP_ALIVE, "", KEEP_ALIVE, ""]
        gate.open()
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "stop"


def test_the_sdk_reads_over_it(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(keep_alive_s=0.02)
    gate = triton.hangs("Hello")
    with openai.OpenAI(base_url=f"{str(http.base_url).rstrip('/')}/v1", api_key="none", max_retries=0) as sdk:
        chat: Any = [QUESTION]
        chunks = sdk.chat.completions.create(model="deepseek-coder", messages=chat, stream=True)
        text = next(chunks).choices[0].delta.content or ""
        assert gate.reached.wait(10)
        gate.open()
        assert text + "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"


def test_what_fails_after_a_comment_is_an_event(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(keep_alive_s=0.02, first_response_timeout_s=0.3)
    triton.hangs()
    with http.stream("POST", CHAT, json={"messages": [QUESTION], "stream": True}) as response:
        assert response.status_code == 200
        (event,) = read_events(response)
    assert event["error"]["code"] == "timeout"


def test_a_stream_that_talks_has_no_comments(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(keep_alive_s=30)
    assert stream(http, CHAT, {"messages": [QUESTION]})[-1] == DONE
    with http.stream("POST", CHAT, json={"messages": [QUESTION], "stream": True}) as response:
        assert KEEP_ALIVE not in response.read().decode()
