"""What a task is: how it is asked for, how it is solved, and how a solution is checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One thing the demo model can write.

    `asks` are imperative phrases ("sort a list"); `held_out` is one more that is never trained on. `solutions` are
    alternatives under the same name. `checks` are expressions that must be true after a solution and `setup` ran, in
    an empty folder; the first one becomes the example under the code unless `example` is false. `intro` replaces the
    sentence that is made from the first phrase. `hints` are annotations where those seen in the checks would not do: a
    parameter's name, or a function's with `()` for what it returns, and the annotation.
    """

    asks: tuple[str, ...]
    held_out: str
    solutions: tuple[str, ...]
    checks: tuple[str, ...]
    setup: str = ""
    example: bool = True
    intro: str | None = None
    hints: Mapping[str, str] = field(default_factory=dict, hash=False)
