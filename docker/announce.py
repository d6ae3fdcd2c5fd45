"""Waits until the service really answers, and says what runs where. Standard library only: Docker mode runs it too.

Usage: python announce.py MODE   (reads ADAPTER_PORT and the TRITON_… ports)
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

QUESTION = "Write a Python function to sort a list"


def call(url: str, body: dict[str, Any] | None = None, timeout_s: float = 60) -> Any:
    """GET, or POST JSON; returns the parsed answer, an error's too."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def announce(mode: str, url: str, public_url: str) -> bool:
    """Ask for one completion, and print the summary; False if no answer came."""
    body = {"messages": [{"role": "user", "content": QUESTION}]}
    answer = call(f"{url}/v1/chat/completions", body)
    if "choices" not in answer:
        print(f"The service does not answer: {answer}", file=sys.stderr)
        return False
    health = call(f"{url}/health")
    ports = {name: os.environ[f"TRITON_{name}_PORT"] for name in ("GRPC", "HTTP", "METRICS")}
    print(f"""
DeepSeek on Triton is up: {mode}.

  model     {health["model"]} = {health["checkpoint"]} ({health["dtype"]} on {health["device"]})
  API       {public_url}/v1
  docs      {public_url}/docs
  health    {public_url}/health
  Triton    gRPC localhost:{ports["GRPC"]}, HTTP localhost:{ports["HTTP"]}, metrics http://localhost:{ports["METRICS"]}/metrics

Try:

  curl {public_url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{json.dumps(body)}'
""")
    return True


if __name__ == "__main__":
    inside, outside = os.environ.get("ADAPTER_PORT_INSIDE"), os.environ["ADAPTER_PORT"]
    sys.exit(not announce(sys.argv[1], f"http://localhost:{inside or outside}", f"http://localhost:{outside}"))
