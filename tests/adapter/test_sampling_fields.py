"""Every sampling field: its way to the model, and what each endpoint refuses."""

from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from adapter.chat.schemas import ChatRequest
from adapter.completions.schemas import CompletionRequest
from adapter.sampling import FORWARDED
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.test_tools import DEEP

CHAT = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
COMPLETIONS = ("/v1/completions", {"prompt": "hi"})
ENDPOINTS = pytest.mark.parametrize(("path", "required"), [CHAT, COMPLETIONS], ids=["chat", "completions"])

# Field, value, what the model gets.
ARRIVE = [
    ("temperature", 0, 0),
    ("temperature", 1.5, 1.5),
    ("top_p", 0.5, 0.5),
    ("top_k", 5, 5),
    ("top_k", -1, -1),
    ("top_k", 0, -1),
    ("min_p", 0.1, 0.1),
    ("max_tokens", 9, 9),
    ("min_tokens", 3, 3),
    ("n", 1, None),
    ("seed", 0, 0),
    ("seed", -(2**63), -(2**63)),
    ("seed", 2**63 - 1, 2**63 - 1),
    ("stop", "a", ["a"]),
    ("stop", ["a", "é"], ["a", "é"]),
    ("stop", [], None),
    ("stop_token_ids", [1, 2], [1, 2]),
    ("ignore_eos", True, True),
    ("presence_penalty", -2, -2),
    ("frequency_penalty", 2, 2),
    ("repetition_penalty", 1.1, 1.1),
    ("logit_bias", {"5": -100, "6": 0.5}, {"5": -100, "6": 0.5}),
    ("skip_special_tokens", False, False),
    ("no_repeat_ngram_size", 30, 30),
    ("no_repeat_ngram_window", 90, 90),
    ("no_repeat_ngram_whitelist", ["<td>", 7], ["<td>", 7]),
    ("guided_json", {"type": "object"}, {"type": "object"}),
    ("guided_json", '{"type": "object"}', '{"type": "object"}'),
    ("guided_regex", "a+", "a+"),
    ("guided_grammar", 'start: "a"', 'start: "a"'),
    ("guided_choice", ["a", "b"], ["a", "b"]),
]
# Read by the adapter itself; each has a test of its own.
ADAPTER_FIELDS = {"model", "stream", "stream_options", "messages", "prompt", "max_completion_tokens", "logprobs"}
ADAPTER_FIELDS |= {"top_logprobs", "vllm_xargs", "suffix", "echo", "continue_final_message", "add_generation_prompt"}
ADAPTER_FIELDS |= {"thinking", "reasoning_effort", "chat_template_kwargs", "thinking_token_budget"}
INERT = {
    "user": "u",
    "metadata": {"a": "b"},
    "store": False,
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"a": 1},
    "prediction": {"type": "content", "content": "x"},
    "service_tier": "auto",
    "modalities": ["text"],
    "verbosity": "medium",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "tools": [],
    "tool_choice": "none",
    "best_of": 1,
}


@ENDPOINTS
@pytest.mark.parametrize(("field", "value", "arrives"), ARRIVE)
def test_it_arrives(
    http: httpx.Client, triton: FakeTriton, path: str, required: dict[str, Any], field: str, value: Any, arrives: Any
) -> None:
    response = http.post(path, json=required | {field: value})
    assert response.status_code == 200, response.text
    assert triton.seen[0].sampling.get(field) == arrives


@ENDPOINTS
def test_null_is_absent(http: httpx.Client, triton: FakeTriton, path: str, required: dict[str, Any]) -> None:
    schema = ChatRequest if path == CHAT[0] else CompletionRequest
    nulls = dict.fromkeys(schema.model_fields) | {"functions": None, "suffix": None} | required
    for body in (required, nulls):
        assert http.post(path, json=body).status_code == 200
    assert triton.seen[0].inputs == triton.seen[1].inputs


@pytest.mark.parametrize("schema", [ChatRequest, CompletionRequest])
def test_every_field_is_handled(schema: type[BaseModel]) -> None:
    arriving = {field for field, _, _ in ARRIVE}
    assert schema.model_fields.keys() <= arriving | ADAPTER_FIELDS | INERT.keys()
    assert set(FORWARDED) <= arriving & schema.model_fields.keys()


@ENDPOINTS
def test_inert_fields_are_accepted(http: httpx.Client, triton: FakeTriton, path: str, required: dict[str, Any]) -> None:
    schema = ChatRequest if path == CHAT[0] else CompletionRequest
    inert = {field: value for field, value in INERT.items() if field in schema.model_fields}
    assert inert
    assert http.post(path, json=required | inert).status_code == 200
    http.post(path, json=required)
    assert triton.seen[0].inputs == triton.seen[1].inputs


def test_the_defaults_are_settings(serve: Any, triton: FakeTriton) -> None:
    http = serve(default_temperature=0.1, default_top_p=0.2, default_completion_max_tokens=3)
    http.post(CHAT[0], json=CHAT[1])
    http.post(COMPLETIONS[0], json=COMPLETIONS[1])
    chat, completion = triton.seen
    assert chat.sampling == {"temperature": 0.1, "top_p": 0.2}
    assert completion.sampling == {"temperature": 0.1, "top_p": 0.2, "max_tokens": 3}


# Field, bad value, a part of the sentence.
REFUSED = [
    ("temperature", -0.1, "must be greater than or equal to 0"),
    ("temperature", 2.1, "must be less than or equal to 2"),
    ("temperature", "0.7", "must be a valid number"),
    ("temperature", True, "must be a valid number"),
    ("temperature", [1], "must be a valid number"),
    ("top_p", 0, "must be greater than 0"),
    ("top_p", 1.1, "must be less than or equal to 1"),
    ("top_k", -2, "must be greater than or equal to -1"),
    ("top_k", 1.5, "must be a valid integer"),
    ("top_k", 2**31, "must be less than"),
    ("min_p", 1.5, "must be less than or equal to 1"),
    ("max_tokens", -1, "must be greater than or equal to "),
    ("max_tokens", 5.0, "must be a valid integer"),
    ("max_tokens", True, "must be a valid integer"),
    ("max_tokens", "5", "must be a valid integer"),
    ("min_tokens", -1, "must be greater than or equal to 0"),
    ("n", 0, "must be greater than or equal to 1"),
    ("n", 17, "must be at most 16"),
    ("seed", 1.5, "must be a valid integer"),
    ("seed", 2**63, "must be less than or equal to"),
    ("seed", 2**64, "must be a valid integer"),
    ("stop", "", "must have at least 1 character"),
    ("stop", 5, "must be a valid string"),
    ("stop.1", ["a", ""], "must have at least 1 character"),
    ("stop", ["a"] * 17, "must have at most 16 items"),
    ("stop_token_ids.0", [-1], "must be greater than or equal to 0"),
    ("stop_token_ids", 1, "must be a valid list"),
    ("ignore_eos", 1, "must be a valid boolean"),
    ("presence_penalty", 2.5, "must be less than or equal to 2"),
    ("frequency_penalty", -2.5, "must be greater than or equal to -2"),
    ("repetition_penalty", 0, "must be greater than or equal to 0.01"),
    ("repetition_penalty", 2.5, "must be less than or equal to 2"),
    ("logit_bias.x", {"x": 1}, "must match pattern"),
    ("logit_bias.-1", {"-1": 1}, "must match pattern"),
    ("logit_bias.5", {"5": 101}, "must be less than or equal to 100"),
    ("logit_bias", [1], "must be a valid dictionary"),
    ("stream", "yes", "must be a valid boolean"),
    ("stream_options", {"include_usage": True}, "is only for requests with stream: true"),
    ("stream_options.chunks", {"chunks": 1}, "is not supported"),
    ("model", 5, "must be a valid string"),
    ("user", 5, "must be a valid string"),
    ("store", True, "true is not supported; use false"),
    ("service_tier", "flex", '"flex" is not supported; use "auto" or "default"'),
    ("service_tier", DEEP, 'this value is not supported; use "auto" or "default"'),
    ("temprature", 1, "is not supported by this server; leave it out"),
    ("functions", [], "is not supported by this server; leave it out"),
]


@ENDPOINTS
@pytest.mark.parametrize(("param", "value", "sentence"), REFUSED)
def test_it_is_refused_by_name(
    http: httpx.Client, triton: FakeTriton, path: str, required: dict[str, Any], param: str, value: Any, sentence: str
) -> None:
    refused(http, path, required | {param.split(".")[0]: value}, param, sentence)
    assert triton.seen == []


@ENDPOINTS
def test_min_tokens_stay_below_max_tokens(http: httpx.Client, path: str, required: dict[str, Any]) -> None:
    refused(http, path, required | {"min_tokens": 6, "max_tokens": 5}, "min_tokens", "exceeds max_tokens, which is 5")


def test_min_tokens_stay_below_the_default_of_completions(http: httpx.Client) -> None:
    path, required = COMPLETIONS
    refused(http, path, required | {"min_tokens": 17}, "min_tokens", "exceeds max_tokens, which is 16")


def refused(http: httpx.Client, path: str, body: dict[str, Any], param: str | None, sentence: str) -> None:
    response = http.post(path, json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    message = error.pop("message")
    assert error == {"type": "invalid_request_error", "param": param, "code": "invalid_value"}
    assert message.startswith(f"{param}: ")
    assert sentence in message
