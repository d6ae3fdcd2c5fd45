"""Time to first token of the same request, straight over gRPC and through the adapter, in turn, one at a time.

Needs a running service (`make up`). Usage: python -m benchmarks.time_to_first_token [--requests 200]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import time

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.machine import machine

MESSAGES = [{"role": "user", "content": "Write a Python function to sort a list"}]
PARAMS = {"max_tokens": 8, "temperature": 0}
FIRST_TEXT = re.compile(rb'"content":"[^"]')


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


async def over_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    """Seconds to the first event with text, through the adapter; plain sockets, so that no HTTP client is measured."""
    body = json.dumps({"messages": MESSAGES, "stream": True, **PARAMS}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    start = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    received, first = b"", None
    while not received.endswith(b"0\r\n\r\n"):
        received += await reader.read(65536)
        if first is None and FIRST_TEXT.search(received):
            first = time.perf_counter() - start
    assert first, received
    return first


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    num_requests = parser.parse_args().requests
    grpc_port, http_port = os.environ.get("TRITON_GRPC_PORT", "8001"), os.environ.get("ADAPTER_PORT", "8000")
    reader, writer = await asyncio.open_connection("localhost", int(http_port))
    async with grpc.aio.insecure_channel(f"localhost:{grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(10):
            await over_grpc(stub)
            await over_http(reader, writer)
        pairs = [(await over_grpc(stub), await over_http(reader, writer)) for _ in range(num_requests)]
    writer.close()
    direct, adapter = zip(*pairs, strict=True)
    print(f"{machine()}\n{num_requests} requests each, in turn, concurrency 1\n")
    print("| time to first token | median ms | p90 ms |\n|---|---|---|")
    for name, times in (("straight over gRPC", direct), ("through the adapter", adapter)):
        print(f"| {name} | {statistics.median(times) * 1e3:.2f} | {statistics.quantiles(times, n=10)[8] * 1e3:.2f} |")
    difference = statistics.median(b - a for a, b in pairs)
    print(f"| the adapter adds (median of the pairs) | {difference * 1e3:.2f} | |")


if __name__ == "__main__":
    asyncio.run(main())
