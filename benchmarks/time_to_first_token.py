"""Time to first token of the same request, straight over gRPC and through the adapter, in turn, one at a time.

Needs a running service (`make up`). Usage: python -m benchmarks.time_to_first_token [--requests 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time

import grpc
import httpx
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.machine import machine

MESSAGES = [{"role": "user", "content": "Write a Python function to sort a list"}]
PARAMS = {"max_tokens": 8, "temperature": 0}


def infer_request() -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="coder")
    for name, value in (("chat", {"messages": MESSAGES}), ("sampling_parameters", PARAMS)):
        request.inputs.add(name=name, datatype="BYTES", shape=[1, 1])
        data = json.dumps(value).encode()
        request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    return request


async def over_grpc(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> float:
    """Seconds to the first response of the model."""
    start = time.perf_counter()
    call = stub.ModelStreamInfer(iter([infer_request()]))
    first = None
    async for response in call:
        assert not response.error_message, response.error_message
        first = first or time.perf_counter() - start
    assert first
    return first


async def over_http(client: httpx.AsyncClient) -> float:
    """Seconds to the first event with text, through the adapter."""
    start = time.perf_counter()
    first = None
    body = {"messages": MESSAGES, "stream": True, **PARAMS}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        async for chunk in response.aiter_bytes():
            if first is None and b'"content":"' in chunk.replace(b'"content":""', b""):
                first = time.perf_counter() - start
    assert first
    return first


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    num_requests = parser.parse_args().requests
    grpc_port, http_port = os.environ.get("TRITON_GRPC_PORT", "8001"), os.environ.get("ADAPTER_PORT", "8000")
    async with (
        grpc.aio.insecure_channel(f"localhost:{grpc_port}") as channel,
        httpx.AsyncClient(base_url=f"http://localhost:{http_port}", timeout=60) as client,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(10):
            await over_grpc(stub)
            await over_http(client)
        pairs = [(await over_grpc(stub), await over_http(client)) for _ in range(num_requests)]
    direct, adapter = zip(*pairs, strict=True)
    print(f"{machine()}\n{num_requests} requests each, in turn, concurrency 1\n")
    print("| time to first token | median ms | p90 ms |\n|---|---|---|")
    for name, times in (("straight over gRPC", direct), ("through the adapter", adapter)):
        print(f"| {name} | {statistics.median(times) * 1e3:.2f} | {statistics.quantiles(times, n=10)[8] * 1e3:.2f} |")
    difference = statistics.median(b - a for a, b in pairs)
    print(f"| the adapter adds (median of the pairs) | {difference * 1e3:.2f} | |")


if __name__ == "__main__":
    asyncio.run(main())
