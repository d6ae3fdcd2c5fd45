"""What Prometheus reads of the adapter, of one process and of several."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from tests.adapter.access_keys import BODY, CHAT, bearer
from tests.adapter.conftest import WAIT_S
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.jobs_app import until
from tests.adapter.sse_reading import stream

Serve = Callable[..., httpx.Client]


def samples(http: httpx.Client) -> dict[tuple[str, ...], float]:
    """By name and labels' values; read by Prometheus's own parser."""
    response = http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name.removeprefix("adapter_"), *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_and_tokens(serve: Serve) -> None:
    http = serve()
    http.post(CHAT, json=BODY)
    stream(http, CHAT, BODY)
    http.post("/completions", json={"prompt": "a"})
    http.post(CHAT, json={})
    until(lambda: samples(http).get(("requests_total", CHAT, "200")) == 2)
    seen = samples(http)
    assert seen["requests_total", "/v1/completions", "200"] == 1
    assert seen["requests_total", CHAT, "400"] == 1
    assert seen["request_seconds_count", CHAT] == 3
    assert seen["prompt_tokens_total",] == 15
    assert seen["completion_tokens_total",] == 9
    assert seen["requests_in_flight",] == 1  # this one
    assert seen["request_errors_total", "invalid_value"] == 1


def test_labels_are_bounded(serve: Serve, triton: FakeTriton) -> None:
    http = serve()
    for number in range(20):
        http.get(f"/nowhere/{number}")
        http.get(f"/v1/models/{number}")
        http.get(f"/ocr/jobs/job-{number}")
    routes = {labels[0] for name, *labels in samples(http) if name == "requests_total"}
    assert routes == {"none", "/v1/models/{model_id:path}", "/ocr/jobs/{job_id}"}


def test_why_requests_were_refused(serve: Serve, triton: FakeTriton) -> None:
    http = serve(api_key=["a-configured-key"], requests_per_minute=3, budget_tokens=8)
    http.post(CHAT, json=BODY)
    key = bearer("a-configured-key")
    for _ in range(3):
        http.post(CHAT, json=BODY, headers=key)
    triton.fails(StatusCode.UNKNOWN, "?")
    seen = samples(http)
    assert seen["request_errors_total", "invalid_api_key"] == 1
    assert seen["request_errors_total", "insufficient_quota"] == 2
    assert seen["requests_total", "none", "401"] == 1
    assert seen["requests_total", "none", "402"] == 2
    assert seen["requests_total", CHAT, "200"] == 1


def test_a_stream_that_is_running_and_one_that_was_left(serve: Serve, triton: FakeTriton) -> None:
    http = serve()
    triton.hangs("Hello")
    with http.stream("POST", CHAT, json=BODY | {"stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        assert samples(http)["requests_in_flight",] == 2
    until(lambda: samples(http)["requests_in_flight",] == 1)
    assert samples(http)["request_errors_total", "client_disconnected"] == 1


@pytest.fixture
def workers(triton: FakeTriton, tmp_path: Path) -> Iterator[str]:
    """The URL of an adapter of three processes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTER_")}
    settings = {"HOST": "127.0.0.1", "PORT": "0", "WORKERS": "3", "TRITON_URL": f"127.0.0.1:{triton.port}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "adapter"],
        env=environment
        | {f"ADAPTER_{name}": value for name, value in settings.items()}
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield re.findall(r"listening on (\S+),", process.stderr.readline())[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)
    assert list(tmp_path.glob("adapter-metrics-*")) == []


def test_of_several_workers_each_tells_the_sum(workers: str) -> None:
    num_requests = 30
    for _ in range(num_requests):  # each by a connection of its own, for the workers to take turns
        assert httpx.post(f"{workers}{CHAT}", json=BODY, timeout=WAIT_S).status_code == 200
    for _ in range(5):
        with httpx.Client(base_url=workers, timeout=WAIT_S) as http:
            until(lambda http=http: samples(http)["requests_total", CHAT, "200"] == num_requests)
            assert samples(http)["prompt_tokens_total",] == 5 * num_requests
            assert samples(http)["requests_in_flight",] == 1
