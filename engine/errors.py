"""What can go wrong in the engine. Each class says who can mend it."""

from __future__ import annotations


class EngineError(Exception):
    """Base of every error the engine raises on purpose; its text may be shown to a client."""


class InvalidRequest(EngineError):
    """A request that can't be served as asked; the client can mend it.

    The text reads `field: sentence`, where the field is an input tensor's or a sampling parameter's name.
    """

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(f"{field}: {sentence}")
        self.field = field
        self.sentence = sentence


class LoadError(EngineError):
    """A checkpoint or `engine.json` that can't be loaded; the operator can mend it."""


class StepFailed(EngineError):
    """A step of the loop failed under this request; the cause is in the server's log."""


class FeedLost(EngineError):
    """What was put on a feed did not get to its client."""

    def __init__(self) -> None:
        super().__init__("what was said before was lost; send the request again")


class EngineStopped(EngineError):
    """The engine stopped before the request was finished."""
