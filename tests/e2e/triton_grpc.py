"""A small raw gRPC client of the tensor contract, independent of the adapter's."""

from __future__ import annotations

import json
import queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from tests.e2e.stack import Stack

TYPES = {name: "BYTES" for name in ("text_input", "chat", "sampling_parameters", "image", "image_parameters")}
TYPES["task"] = "BYTES"
TYPES["input_ids"] = "INT32"


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
    array = np.array([values], {"BYTES": np.object_, "INT32": np.int32, "BOOL": np.bool_}[kind])
    tensor = triton.InferInput(name, array.shape, kind)
    tensor.set_data_from_numpy(array)
    return tensor
