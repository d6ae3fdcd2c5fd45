"""A listener that remembers what the engine says."""

from __future__ import annotations

import threading

from engine.errors import EngineError
from engine.loop import Engine
from engine.request import Output, Prompt, Request
from engine.sampling_params import SamplingParams


class Recorder:
    """One request: what each choice said, and how it ended."""

    def __init__(self, prompt: list[int] | Prompt, **params: object) -> None:
        prompt = prompt if isinstance(prompt, Prompt) else Prompt(prompt)
        self.request = Request(prompt, SamplingParams(**params), self)
        self.outputs: list[Output] = []
        self.errors: list[EngineError] = []
        self.has_output = threading.Event()
        self._ended = threading.Event()

    def on_output(self, output: Output) -> None:
        assert not self._ended.is_set(), "spoke after its end"
        self.outputs.append(output)
        self.has_output.set()
        if len(self.finish_reasons) == self.request.params.n:
            self._ended.set()

    def on_error(self, error: EngineError) -> None:
        assert not self._ended.is_set(), "failed after its end"
        self.errors.append(error)
        self._ended.set()

    @property
    def finish_reasons(self) -> dict[int, str]:
        return {output.choice: output.finish_reason for output in self.outputs if output.finish_reason}

    def text(self, choice: int = 0) -> str:
        return "".join(output.text for output in self.outputs if output.choice == choice)

    def num_tokens(self, choice: int = 0) -> int:
        return sum(output.num_tokens for output in self.outputs if output.choice == choice)

    def wait(self) -> Recorder:
        assert self._ended.wait(60), "never ended"
        return self


def run(engine: Engine, prompt: list[int] | Prompt, **params: object) -> Recorder:
    """Serve one request to its end."""
    recorder = Recorder(prompt, **params)
    engine.check(recorder.request)
    engine.submit(recorder.request)
    return recorder.wait()
