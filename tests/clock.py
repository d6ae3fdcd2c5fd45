"""A clock for tests."""


class StillClock:
    """Stands still unless it is set; called, it says the time in seconds."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s
