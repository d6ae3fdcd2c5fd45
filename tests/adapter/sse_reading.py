"""Reads event streams with a reader that is not ours."""

import json
from typing import Any

import httpx
import sseclient

DONE = "[DONE]"


def read_events(response: httpx.Response) -> list[Any]:
    """Each event's data, parsed, and `DONE` as it is."""
    data = [event.data for event in sseclient.SSEClient(response.iter_bytes()).events()]
    return [text if text == DONE else json.loads(text) for text in data]


def stream(http: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    with http.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        return read_events(response)
