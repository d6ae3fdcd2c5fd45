"""Which tensors a response has, and which responses are sent, with a stand-in for Triton's module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import EngineStopped, FeedLost, InvalidRequest, StepFailed
from engine.feed import Fed, Feed
from engine.request import Prompt, Request, TokenLogprob
from engine.response import ChoicePiece
from engine.sampling_params import SamplingParams

FINAL = 1


class ResponseSender:
    """Keeps what is sent: the outputs of each response, and whether it is the last."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, bool]] = []

    def send(self, response: Any = None, flags: int = 0) -> None:
        self.sent.append((response, flags == FINAL))

    def is_cancelled(self) -> bool:
        return False


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`engine.triton`, where a response is a dictionary of its tensors, or its error."""

    class TritonError(Exception):
        INTERNAL, INVALID_ARG, UNAVAILABLE = "internal", "invalid", "unavailable"

    utils = ModuleType("triton_python_backend_utils")
    vars(utils).update(
        TritonError=TritonError,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
        Tensor=lambda name, array: (name, array),
        InferenceResponse=lambda tensors=(), error=None: error.args if error else dict(tensors),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.delitem(sys.modules, "engine.triton", raising=False)
    yield importlib.import_module("engine.triton")
    sys.modules.pop("engine.triton", None)


class Service:
    def __init__(self, triton: Any) -> None:
        self.sender, self.feed_sender = ResponseSender(), ResponseSender()
        self.counted: list[Request] = []
        counters = SimpleNamespace(add=self.counted.append)
        self.reply = triton.TritonReply(self.sender, lambda token: b"t", counters)
        self.reply.request = Request(Prompt([1, 2]), SamplingParams(), None)  # type: ignore[arg-type]
        self.feed = Feed(triton.TritonFeedReply(self.feed_sender))

    def join_feed(self) -> None:
        self.reply.feed, self.reply.feed_number = self.feed, 7

    def say(self, text: str, is_last: bool = False, **more: Any) -> None:
        reason = "stop" if is_last else None
        self.reply.send({0: ChoicePiece(text, 1, finish_reason=reason, **more)}, is_last)  # type: ignore[arg-type]

    @property
    def responses(self) -> list[tuple[dict[str, Any], bool]]:
        return [(plain(response), is_last) for response, is_last in self.sender.sent]


def plain(response: dict[str, Any]) -> dict[str, Any]:
    """The tensors' rows, their texts as such."""
    rows = {name: array[0].tolist() for name, array in response.items()}
    return {name: [x.decode() if isinstance(x, bytes) else x for x in row] for name, row in rows.items()}


COUNTS = {"num_input_tokens": [2], "num_output_tokens": [2], "num_cached_tokens": [0]}


def test_a_response_has_what_says_something_and_the_last_one_the_counts(triton: Any) -> None:
    service = Service(triton)
    service.say("a")
    service.say("b", is_last=True)
    assert service.responses == [
        ({"text_output": ["a"]}, False),
        ({"text_output": ["b"], "finish_reason": ["stop"], **COUNTS}, True),
    ]
    assert service.counted == [service.reply.request]


def test_words_go_on_a_feed_up_to_the_first_response_of_its_own(triton: Any) -> None:
    service = Service(triton)
    service.join_feed()
    service.reply.echo = "> "
    service.say("a")
    service.say("b")
    assert service.sender.sent == []
    service.feed.flush()
    [(fed, is_last)] = service.feed_sender.sent
    assert fed["feed_number"].dtype == np.uint32
    assert (plain(fed), is_last) == ({"feed_number": [7, 7], "text_output": ["> a", "> b"]}, False)
    service.say("c", logprobs=[TokenLogprob(1, -0.5, ())])
    service.say("e")
    (own, is_last), later = service.responses
    assert "t" in own.pop("logprobs")[0]
    assert (own, is_last, later) == ({"text_output": ["> c"], "num_fed": [2]}, False, ({"text_output": ["> e"]}, False))


def test_thoughts_and_counts_are_columns_of_a_feed_beside_the_text(triton: Any) -> None:
    service = Service(triton)
    service.join_feed()
    service.feed.add(Fed(6, "of another"))
    service.reply.has_counts = True
    assert service.reply.request
    service.reply.request.num_cached_tokens, service.reply.request.num_reasoning_tokens = 1, 1
    service.say("", reasoning="a")
    service.say("b")
    service.feed.flush()
    [(fed, _)] = service.feed_sender.sent
    assert plain(fed) == {
        "feed_number": [6, 7, 7],
        "text_output": ["of another", "", "b"],
        "reasoning_content": ["", "a", ""],
        "num_input_tokens": [0, 2, 2],
        "num_output_tokens": [0, 1, 2],
        "num_cached_tokens": [0, 1, 1],
        "num_reasoning_tokens": [0, 1, 1],
    }
    service.say("c", is_last=True)
    counts = {"num_input_tokens": [2], "num_output_tokens": [3], "num_cached_tokens": [1], "num_reasoning_tokens": [1]}
    assert service.responses == [({"text_output": ["c"], "finish_reason": ["stop"], "num_fed": [2], **counts}, True)]


@pytest.mark.parametrize("is_last", [False, True])
def test_what_follows_a_lost_text_is_an_error(triton: Any, is_last: bool) -> None:
    service = Service(triton)
    service.join_feed()
    service.say("a")
    service.feed.close()
    with pytest.raises(FeedLost):
        service.say("b", is_last)
    assert service.sender.sent == []
    assert service.feed_sender.sent == [(None, True)]


def test_how_much_is_on_a_feed_is_said_before_an_error(triton: Any) -> None:
    service = Service(triton)
    service.join_feed()
    service.say("a")
    service.reply.send_error(StepFailed("out of memory"))
    [(own, is_last), (error, ends)] = service.sender.sent
    assert (plain(own), is_last) == ({"text_output": [""], "num_fed": [1]}, False)
    assert (error, ends) == (("out of memory", "internal"), True)


def test_of_a_feed_that_has_ended_nothing_is_said_before_an_error(triton: Any) -> None:
    service = Service(triton)
    service.join_feed()
    service.say("a")
    service.feed.close()
    service.reply.send_error(FeedLost())
    assert service.sender.sent == [((str(FeedLost()), "internal"), True)]


def test_an_answer_of_one_response_owes_its_feed_nothing(triton: Any) -> None:
    service = Service(triton)
    service.join_feed()
    service.feed.close()
    service.say("ab", is_last=True)
    [(response, _)] = service.responses
    assert response["text_output"] == ["ab"]
    assert "num_fed" not in response


def test_outputs_that_are_switched_off_are_missing_and_counts_may_be_in_all(triton: Any) -> None:
    service = Service(triton)
    service.reply.has_counts = True
    service.reply.hidden = {"num_input_tokens", "finish_reason"}
    service.say("a")
    service.say("b", is_last=True)
    shown = {"num_cached_tokens": [0]}
    assert service.responses == [
        ({"text_output": ["a"], "num_output_tokens": [1], **shown}, False),
        ({"text_output": ["b"], "num_output_tokens": [2], **shown}, True),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("n", "too many"), "invalid"),
        (EngineStopped("it stops"), "unavailable"),
        (StepFailed("it failed"), "internal"),
    ],
)
def test_an_error_has_a_code_and_is_the_last(triton: Any, error: Any, code: str) -> None:
    service = Service(triton)
    service.reply.send_error(error)
    assert service.sender.sent == [((str(error), code), True)]
