"""The OpenAPI document, and its pages, which work without the internet."""

import re

import httpx
import pytest


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_loads_only_from_here(http: httpx.Client, path: str) -> None:
    page = http.get(path)
    assert page.status_code == 200
    urls = re.findall(r"""(?:src|href|url|spec-url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert "/openapi.json" in urls
    assert any(url.endswith(".js") for url in urls)
    for url in urls:
        assert url.startswith("/")
        assert http.get(url).status_code == 200


def test_the_document(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["paths"].keys() == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/tokenize",
        "/detokenize",
        "/v1/gpu/info",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/models/{model_id}",
        "/ocr",
        "/ocr/file",
        "/ocr/stream",
        "/ocr/batch",
        "/ocr/jobs",
        "/ocr/jobs/{job_id}",
        "/ocr/jobs/{job_id}/pages",
        "/ocr/jobs/{job_id}/result",
        "/ocr/jobs/{job_id}/events",
        "/v1/ocr",
        "/health",
        "/health/live",
        "/health/ready",
        "/user/balance",
        "/metrics",
    }
    for path, request, answer, failure in (
        ("/v1/chat/completions", "ChatRequest", "ChatCompletion", "ErrorResponse"),
        ("/v1/completions", "CompletionRequest", "Completion", "ErrorResponse"),
        ("/v1/responses", "ResponsesRequest", "ResponseAnswer", "ErrorResponse"),
        ("/v1/messages", "MessagesRequest", "MessageAnswer", "MessagesErrorResponse"),
    ):
        operation = document["paths"][path]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": f"#/components/schemas/{request}"}
        assert document["components"]["schemas"][request]["examples"]
        assert operation["responses"].keys() == {"200", "default"}
        content = operation["responses"]["200"]["content"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{answer}"}
        assert "text/event-stream" in content
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert error == {"$ref": f"#/components/schemas/{failure}"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.parametrize(
    ("path", "example"),
    [
        ("/v1/chat/completions", "ChatRequest"),
        ("/v1/completions", "CompletionRequest"),
        ("/v1/embeddings", "EmbeddingRequest"),
        ("/tokenize", "TokenizeRequest"),
        ("/detokenize", "DetokenizeRequest"),
        ("/v1/responses", "ResponsesRequest"),
        ("/v1/messages", "MessagesRequest"),
        ("/ocr", "OcrRequest"),
        ("/ocr/batch", "BatchRequest"),
    ],
)
def test_the_examples_work(http: httpx.Client, path: str, example: str) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    for body in schemas[example]["examples"]:
        assert http.post(path, json=body).status_code == 200


def test_a_form_and_what_it_answers(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    for path in ("/ocr/file", "/ocr/stream"):
        form = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == ["file"]
        assert {"file", "prompt", "output", "no_repeat_ngram_whitelist", "stream"} <= form["properties"].keys()
    responses = document["paths"]["/ocr/file"]["post"]["responses"]
    assert responses["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/OcrAnswer"}
    either = document["paths"]["/ocr/stream"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert either == {"$ref": "#/components/schemas/OcrRequest"}
    assert "OcrRequest" in document["components"]["schemas"]
