"""`/v1/models` and `/health`: what Triton says of its models, and what the models say of themselves."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
from grpc import StatusCode

from adapter.description import Description, Gpu
from tests.adapter.fake_triton import DESCRIPTION, FakeTriton, Gate, Reply, Seen, answer, describe

MODEL = {"id": "deepseek-coder", "object": "model", "created": 1698883200, "owned_by": "deepseek"}
HEALTHY: dict[str, Any] = {
    "status": "healthy",
    "model": "deepseek-coder",
    "checkpoint": "demo/tiny",
    "device": "cpu",
    "dtype": "bfloat16",
    "max_context": 2048,
    "gpus": 0,
    "nvidia_5090": False,
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
NO_GPUS_KNOWN = dict.fromkeys(["gpus", "nvidia_5090"])
UNDESCRIBED = HEALTHY | UNKNOWN | NO_GPUS_KNOWN | {"models": [model | UNKNOWN for model in HEALTHY["models"]]}
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
    gate = Gate(triton.loop)

    async def slow(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await gate.passed()
        async for response in describe(seen, context):
            yield response

    triton.describe = slow
    http = serve()
    response = http.get("/health")
    assert (response.status_code, response.json()) == (200, UNDESCRIBED)
    gate.open()
    assert http.get("/health").json() == HEALTHY
    assert triton.num_describes == 2


def test_a_full_queue_is_healthy(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    async def full(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        yield

    triton.describe = full
    http = serve()
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
    async def odd(seen: Seen, context: Any) -> AsyncIterator[Any]:
        yield answer('{"checkpoint": "x"}')

    async def dead(seen: Seen, context: Any) -> AsyncIterator[Any]:
        await context.abort(StatusCode.INTERNAL, "Stub process 'coder' is not healthy.")
        yield

    async def silent(seen: Seen, context: Any) -> AsyncIterator[Any]:
        return
        yield

    triton.describe = odd
    http = serve()
    for triton.describe, reason in ((odd, "broke off"), (dead, NOT_LOADED), (silent, "broke off")):
        response = http.get("/health")
        assert response.status_code == 503
        assert response.json()["status"] == "unavailable"
        assert reason in response.json()["reason"]


def test_the_description_has_all_that_the_contract_names() -> None:
    assert Description.__dataclass_fields__.keys() == DESCRIPTION.keys()
    assert set(Gpu.__slots__) == GPU.keys()


GPU: dict[str, Any] = {
    "index": 0,
    "uuid": "GPU-b",
    "name": "NVIDIA GeForce RTX 5090",
    "total_bytes": 32 * 2**30,
    "free_bytes": int(28.5 * 2**30),
    "compute_capability": "12.0",
    "driver_version": "570.86.16",
    "cuda_version": "12.8",
}
OTHER_GPU = GPU | {"index": 1, "uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "driver_version": None}


def on_gpus(**gpus: list[dict[str, Any]]) -> Reply:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        yield answer(json.dumps(DESCRIPTION | {"device": "cuda", "gpus": gpus[seen.model]}))

    return reply


def test_each_gpu_is_told_once(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    triton.describe = on_gpus(coder=[GPU], ocr=[OTHER_GPU, GPU])
    http = serve()
    shown = {
        "id": 0,
        "name": "NVIDIA GeForce RTX 5090",
        "total_memory_gb": 32.0,
        "free_memory_gb": 28.5,
        "compute_capability": "12.0",
        "driver_version": "570.86.16",
        "cuda_version": "12.8",
        "is_nvidia_5090": True,
        "is_nvidia_4090": False,
        "models": ["deepseek-coder", "deepseek-ocr"],
    }
    other = shown | {"id": 1, "name": "NVIDIA H100 80GB HBM3", "driver_version": None, "is_nvidia_5090": False}
    assert http.get("/v1/gpu/info").json() == {"gpus": [shown, other | {"models": ["deepseek-ocr"]}]}
    health = http.get("/health").json()
    assert (health["gpus"], health["nvidia_5090"]) == (2, True)


def test_on_cpu_there_are_no_gpus(http: httpx.Client) -> None:
    assert http.get("/v1/gpu/info").json() == {"gpus": []}


def test_gpus_of_the_models_that_answer(serve: Callable[..., httpx.Client], triton: FakeTriton) -> None:
    tell = on_gpus(coder=[GPU])

    async def only_the_coder(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if seen.model != "coder":
            await context.abort(StatusCode.UNAVAILABLE, "Request for unknown model: 'ocr' is not found")
        async for response in tell(seen, context):
            yield response

    triton.describe = only_the_coder
    assert [gpu["models"] for gpu in serve().get("/v1/gpu/info").json()["gpus"]] == [["deepseek-coder"]]
    response = serve(triton_url="127.0.0.1:1").get("/v1/gpu/info")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
