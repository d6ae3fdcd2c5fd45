"""`/v1/models` and `/health`: what Triton says of its models, and what the models say of themselves."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
from grpc import StatusCode

from adapter.triton_client import Description
from tests.adapter.fake_triton import DESCRIPTION, FakeTriton, Gate, Seen, answer, describe

MODEL = {"id": "deepseek-coder", "object": "model", "created": 1698883200, "owned_by": "deepseek"}
HEALTHY: dict[str, Any] = {
    "status": "healthy",
    "model": "deepseek-coder",
    "checkpoint": "demo/tiny",
    "device": "cpu",
    "dtype": "bfloat16",
    "max_context": 2048,
    "triton": "ready",
    "models": [
        {
            "id": served_id,
            "status": "healthy",
            "triton": "ready",
            "checkpoint": "demo/tiny",
            "device": "cpu",
            "dtype": "bfloat16",
            "max_context": 2048,
            "reason": None,
        }
        for served_id in ("deepseek-coder", "deepseek-ocr")
    ],
}
UNKNOWN = dict.fromkeys(["checkpoint", "device", "dtype", "max_context"])
UNDESCRIBED = HEALTHY | UNKNOWN | {"models": [model | UNKNOWN for model in HEALTHY["models"]]}
NOT_LOADED = "The model is not loaded, or is restarting."


def test_models(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(models={"deepseek-coder": "coder", "org/other": "other", "third": "coder"})
    assert http.get("/v1/models").json() == {"object": "list", "data": [MODEL, MODEL | {"id": "third"}]}
    triton.index = {"coder": "UNAVAILABLE", "other": "READY", "unserved": "READY"}
    assert http.get("/v1/models").json()["data"] == [MODEL | {"id": "org/other"}]
    assert http.get("/v1/models/org/other").json() == MODEL | {"id": "org/other"}
    response = http.get("/v1/models/third")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "unavailable"
    response = http.get("/v1/models/org/none")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_which_model_a_request_gets(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(models={"a": "model-a", "org/b": "model-b"}, default_model="org/b")
    body = {"prompt": "x"}
    for fields in ({}, {"model": "a"}, {"model": "org/b"}, {"model": None}):
        assert http.post("/v1/completions", json=body | fields).json()["model"] == (fields.get("model") or "org/b")
    assert [seen.model for seen in triton.seen] == ["model-b", "model-a", "model-b", "model-b"]


def test_the_sdk_lists_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["deepseek-coder", "deepseek-ocr"]
    assert sdk.models.retrieve("deepseek-coder").owned_by == "deepseek"


def test_healthy(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve()
    for _ in range(3):
        response = http.get("/health")
        assert (response.status_code, response.json()) == (200, HEALTHY)
    assert triton.num_describes == 2
    assert http.get("/health/ready").json() == {"status": "ready"}
    assert http.get("/health/live").json() == {"status": "live"}


def test_the_description_is_forgotten_with_the_model(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve()
    assert http.get("/health").status_code == 200
    triton.ready = False
    for path, served_ids in (("/health", ["deepseek-coder", "deepseek-ocr"]), ("/health/ready", ["deepseek-coder"])):
        response = http.get(path)
        assert (response.status_code, response.json()) == (503, unhealthy("ready", NOT_LOADED, served_ids))
    assert http.get("/health/live").status_code == 200
    triton.ready = True
    assert http.get("/health").json() == HEALTHY
    assert triton.num_describes == 4


def unhealthy(triton: str, reason: str, served_ids: list[str]) -> dict[str, Any]:
    state = {"status": "unavailable", "triton": triton, "reason": reason}
    models = [UNKNOWN | state | {"id": served_id} for served_id in served_ids]
    return state | {"model": "deepseek-coder", "models": models}


def test_triton_is_away(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve(triton_url="127.0.0.1:1")
    for path, served_ids in (("/health", ["deepseek-coder", "deepseek-ocr"]), ("/health/ready", ["deepseek-coder"])):
        response = http.get(path)
        expected = unhealthy("unreachable", "Triton is not reachable.", served_ids)
        assert (response.status_code, response.json()) == (503, expected)
    assert http.get("/health/live").status_code == 200


def test_a_busy_model_is_healthy(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve()
    gate = Gate(triton.loop)

    async def slow(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await gate.passed()
        async for response in describe(seen, context):
            yield response

    triton.describe = slow
    response = http.get("/health")
    assert (response.status_code, response.json()) == (200, UNDESCRIBED)
    gate.open()
    assert http.get("/health").json() == HEALTHY
    assert triton.num_describes == 2


def test_a_full_queue_is_healthy(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve()

    async def full(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        yield

    triton.describe = full
    assert http.get("/health").json() == UNDESCRIBED
    triton.describe = describe
    assert http.get("/health").json() == HEALTHY


def test_another_model_than_the_default(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    """Its state is told, and is not the adapter's; `/health/ready` does not even ask."""
    http = serve()
    triton.index = {"coder": "READY"}
    response = http.get("/health")
    assert response.status_code == 200
    coder, ocr = response.json().pop("models")
    assert (coder["status"], ocr) == ("healthy", unhealthy("ready", NOT_LOADED, ["deepseek-ocr"])["models"][0])
    num_describes = triton.num_describes
    assert http.get("/health/ready").status_code == 200
    assert triton.num_describes == num_describes
    http = serve(default_model="deepseek-ocr")
    assert http.get("/health").status_code == 503
    triton.index = {"ocr": "READY"}
    response = http.get("/health")
    assert (response.status_code, response.json()["model"]) == (200, "deepseek-ocr")
    assert [model["status"] for model in response.json()["models"]] == ["unavailable", "healthy"]


def test_a_model_that_cannot_describe_itself(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    http = serve()

    async def odd(seen: Seen, context: Any) -> AsyncIterator[Any]:
        yield answer('{"checkpoint": "x"}')

    async def dead(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(StatusCode.INTERNAL, "Stub process 'coder' is not healthy.")
        yield

    async def silent(seen: Seen, context: Any) -> AsyncIterator[Any]:
        return
        yield

    for triton.describe, reason in ((odd, "broke off"), (dead, NOT_LOADED), (silent, "broke off")):
        response = http.get("/health")
        assert response.status_code == 503
        assert response.json()["status"] == "unavailable"
        assert reason in response.json()["reason"]


def test_the_description_has_all_that_the_contract_names() -> None:
    assert set(Description.__slots__) == DESCRIPTION.keys()
