"""Asks the service for one answer, and says what runs where. Standard library only: Docker mode runs it too.

Usage: python announce.py MODE   (reads ADAPTER_PORT and the TRITON_… ports)
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

QUESTION = "Write a Python function to sort a list"
PROBE_TIMEOUT_S = 300


def call(url: str, body: dict[str, Any] | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> Any:
    """GET, or POST JSON; returns the parsed answer, an error's too.

    Raises:
        OSError: nothing answers.
        ValueError: what answers is not JSON.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def announce(mode: str, url: str, ports: Mapping[str, str]) -> bool:
    """Ask for the first tokens of a completion, and print the summary; False if no answer came."""
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    try:
        answer = call(f"{url}/v1/chat/completions", body | {"max_tokens": 8})
        health = call(f"{url}/health")
    except (OSError, ValueError) as error:
        answer, health = {"error": str(error)}, {}
    asks_for_key = _is_refused(answer)
    if not ("choices" in answer or asks_for_key) or not ("models" in health or _is_refused(health)):
        print(f"The service does not answer: {answer}", file=sys.stderr)
        return False
    models = "\n".join(map(_model_line, health.get("models", ())))
    key = " -H 'Authorization: Bearer KEY'" if asks_for_key else ""
    public_url = f"http://localhost:{ports['ADAPTER_PORT']}"
    print(f"""
DeepSeek on Triton is up: {mode}.

{models}
  API       {public_url}/v1
  docs      {public_url}/docs
  health    {public_url}/health
  Triton    gRPC localhost:{ports["TRITON_GRPC_PORT"]}, HTTP localhost:{ports["TRITON_HTTP_PORT"]}, \
metrics http://localhost:{ports["TRITON_METRICS_PORT"]}/metrics

Try:

  curl {public_url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\
    -d '{json.dumps(body)}'
  curl {public_url}/ocr/file{key} -F file=@demo/ocr/page.png
""")
    return True


def is_up(ready: Mapping[str, Any]) -> bool:
    """What `/health/ready` has answered: that all is ready, or that this is not for everybody to know."""
    return ready.get("status") == "ready" or _is_refused(ready)


def _is_refused(answer: Mapping[str, Any]) -> bool:
    """Whether the adapter is up and only for those with a key, or says nothing of this to anybody."""
    error = answer.get("error")
    return isinstance(error, dict) and error.get("code") in ("invalid_api_key", "not_found")


def _model_line(model: dict[str, Any]) -> str:
    loaded = f"{model['checkpoint']} ({model['dtype']} on {model['device']})"
    return f"  model     {model['id']} = {loaded if model['checkpoint'] else model['reason'] or 'busy'}"


if __name__ == "__main__":
    inside = os.environ.get("ADAPTER_PORT_INSIDE") or os.environ["ADAPTER_PORT"]
    sys.exit(not announce(sys.argv[1], f"http://localhost:{inside}", os.environ))
