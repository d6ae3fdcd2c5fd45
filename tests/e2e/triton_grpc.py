"""A small raw gRPC client of the tensor contract, independent of the adapter's."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from tests.e2e.stack import Stack

TYPES = {name: "BYTES" for name in ("text_input", "chat", "sampling_parameters", "image", "image_parameters")}
TYPES |= {"task": "BYTES", "feed": "BYTES", "input_ids": "INT32", "feed_number": "UINT32"}

NUMPY_TYPES: dict[str, Any] = {"BYTES": np.object_, "INT32": np.int32, "UINT32": np.uint32, "BOOL": np.bool_}


def infer(stack: Stack, model: str = "coder", **inputs: Any) -> list[dict[str, Any]]:
    """Send one request; return the outputs of each response, or `{"error": …}`."""
    received: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(stack.grpc_address) as client:
        client.start_stream(lambda result, error: received.put(error or result))
        tensors = [_tensor(name, value) for name, value in inputs.items()]
        client.async_stream_infer(model, tensors, enable_empty_final_response=True)
        responses = []
        while True:
            result = received.get(timeout=60)
            if isinstance(result, Exception):
                responses.append({"error": str(result)})
                break
            response = result.get_response()
            responses.append({output.name: result.as_numpy(output.name)[0].tolist() for output in response.outputs})
            if response.parameters["triton_final_response"].bool_param:
                break
        client.stop_stream()
    return responses


@contextmanager
def open_feed(stack: Stack, name: str, model: str = "coder") -> Iterator[queue.Queue[dict[str, Any]]]:
    """A feed: each piece that comes on it, by the names of the outputs."""
    pieces: queue.Queue[Any] = queue.Queue()
    is_open = threading.Event()

    def receive(result: Any, error: Any) -> None:
        if error:
            pieces.put(error)
        else:
            names = [output.name for output in result.get_response().outputs]
            for row in zip(*(result.as_numpy(name)[0].tolist() for name in names), strict=True):
                pieces.put(dict(zip(names, row, strict=True)))
        is_open.set()

    with triton.InferenceServerClient(stack.grpc_address) as client:
        client.start_stream(receive)
        client.async_stream_infer(model, [_tensor("feed", name)])
        assert is_open.wait(60)
        try:
            yield pieces
        finally:
            client.stop_stream(cancel_requests=True)


def describe(stack: Stack, model: str) -> dict[str, Any]:
    [response] = infer(stack, model, describe=True)
    description: dict[str, Any] = json.loads(response["text_output"][0])
    return description


def _tensor(name: str, value: Any) -> triton.InferInput:
    kind = TYPES.get(name, "BOOL")
    if isinstance(value, dict):
        value = json.dumps(value)
    values = value if isinstance(value, list) else [value]
    if kind == "BYTES":
        values = [v.encode() if isinstance(v, str) else v for v in values]
    array = np.array([values], NUMPY_TYPES[kind])
    tensor = triton.InferInput(name, array.shape, kind)
    tensor.set_data_from_numpy(array)
    return tensor
