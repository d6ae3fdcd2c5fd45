"""A Triton model with no model in it: it says the same token again and again. What it costs is what sending costs.

`benchmarks/adapter.py` puts four of it into a repository: `paced` says a token every 20 ms, `busy` computes for 5 ms
before each, `merged` says them as fast as it can, and these send as the engine does; `unmerged` says as fast as it
can, and sends each token in its own response.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import Any

from engine.errors import EngineError
from engine.request import Listener, Output, Prompt, Request
from engine.response import merge
from engine.sender import Sender, Stream
from engine.triton import EngineModel, TritonReply
from engine.triton_inputs import Inputs

TOKEN = " tok"
INTERVAL_S = 0.02
STEP_S = 0.005
MAX_LIVE = 256
DEFAULT_TOKENS = 128


class Talker:
    """Stands where the engine does: a loop thread whose steps say one token to each request."""

    def __init__(self, interval_s: float, computes: bool) -> None:
        self._interval_s, self._computes = interval_s, computes
        self._live: dict[Request, int] = {}
        """Tokens that each is still to get."""
        self._news = threading.Condition()
        self._is_stopping = False
        self.num_said = 0
        """Tokens, since it was started."""
        self.waited_s = 0.0
        self._thread = threading.Thread(target=self._loop, name="talker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._news:
            self._is_stopping = True
            self._news.notify()
        self._thread.join()

    def check(self, request: Request) -> None:
        """Nothing is refused."""

    def submit(self, request: Request) -> None:
        with self._news:
            self._live[request] = request.params.max_tokens or DEFAULT_TOKENS
            self._news.notify()

    def cancel(self, request: Request) -> None:
        request.is_cancelled = True

    def _loop(self) -> None:
        next_s = 0.0
        while True:
            with self._news:
                self._news.wait_for(lambda: self._live or self._is_stopping)
                if self._is_stopping:
                    return
                requests = list(self._live.items())
            next_s = max(next_s + self._interval_s, time.monotonic())
            for request, num_left in requests:
                self._say(request, num_left)
            if self._computes:
                _compute(until_s=next_s)
            else:
                pause_s = max(0.0, next_s - time.monotonic())
                time.sleep(pause_s)
                self.waited_s += pause_s

    def _say(self, request: Request, num_left: int) -> None:
        reason = "cancelled" if request.is_cancelled else "length" if num_left == 1 else None
        if reason:
            del self._live[request]
            request.num_unfinished = 0
        else:
            self._live[request] = num_left - 1
        self.num_said += 1
        request.listener.on_output(Output(0, TOKEN, 1, finish_reason=reason))


def _compute(until_s: float) -> None:
    """Keep a core busy, as a model does: without Python's lock."""
    numbers = bytes(1 << 19)
    while time.monotonic() < until_s:
        hashlib.sha256(numbers)


class Direct:
    """Sends each token as it is said."""

    def __init__(self, reply: TritonReply) -> None:
        self._reply = reply

    def on_output(self, output: Output) -> None:
        self._reply.send(merge([output]), output.finish_reason is not None)

    def on_error(self, error: EngineError) -> None:
        self._reply.send_error(error)


class TimedSender(Sender):
    """Knows how long it computed."""

    sending_s = 0.0

    def _take_turns(self, first: Stream | None) -> None:
        started_s = time.thread_time()
        super()._take_turns(first)
        self.sending_s += time.thread_time() - started_s


class TalkerModel(EngineModel):
    """Takes the coder's requests; of their content only `max_tokens` matters."""

    interval_s = 0.0
    computes = False
    is_merged = True

    def initialize(self, args: dict[str, str]) -> None:
        self._talker = self._engine = Talker(self.interval_s, self.computes)  # type: ignore[assignment]
        self._token_bytes = None  # type: ignore[assignment]
        self._sender: TimedSender = TimedSender(self._engine, self._feeds)
        self._start(args)

    def execute(self, requests: list[Any]) -> None:
        for stream in self._open_all(requests):
            if stream:
                if self.is_merged:
                    self._sender.add(stream)
                self._engine.submit(stream.request)

    def _parse(self, inputs: Inputs, reply: TritonReply) -> Stream:
        stream = super()._parse(inputs, reply)
        if not self.is_merged:
            reply.feed = None
            listener: Listener = Direct(reply)
            stream.request.listener = listener
        return stream

    def _prompt(self, inputs: Inputs) -> tuple[Prompt, str | None]:
        return Prompt([0]), None

    def _describe(self) -> dict[str, Any]:
        names = {name: "talker" for name in ("version", "checkpoint", "architecture", "device", "dtype")}
        counts = {"max_context": 1 << 20, "max_sequences": MAX_LIVE, "num_parameters": 0}
        said = {"num_said": self._talker.num_said, "sending_s": self._sender.sending_s}
        return names | counts | said | {"quantization": None, "gpus": [], "num_requests": self._sender.num_live}


class Paced(TalkerModel):
    interval_s = INTERVAL_S


class Busy(TalkerModel):
    interval_s = STEP_S
    computes = True


class Merged(TalkerModel):
    pass


class Unmerged(TalkerModel):
    is_merged = False
