"""What the generations of one document have used."""

from collections.abc import Callable

from adapter.tensors import Usage


class Tally:
    """So far: also of pages that are still read, were read twice, or whose reader has gone away."""

    def __init__(self) -> None:
        self._usages: list[Usage] = []

    def begin(self) -> Callable[[Usage], None]:
        """Of one more generation; call what is returned with all that it has used so far."""
        index = len(self._usages)
        self._usages.append(Usage())

        def note(usage: Usage) -> None:
            self._usages[index] = usage

        return note

    @property
    def total(self) -> Usage:
        return sum(self._usages, Usage())
