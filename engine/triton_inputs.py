"""Reads the tensors of one Triton request."""

from __future__ import annotations

from typing import Any

from engine.errors import InvalidRequest


class Inputs:
    """The input tensors of one Triton request, `[1, …]` each."""

    def __init__(self, request: Any) -> None:
        self._tensors = {tensor.name(): tensor for tensor in request.inputs()}

    @property
    def names(self) -> list[str]:
        return list(self._tensors)

    def has(self, name: str) -> bool:
        return name in self._tensors

    def array(self, name: str) -> Any:
        """The tensor without its batch dimension, `[…]`, as numpy.

        Raises:
            InvalidRequest: it holds several requests.
        """
        values = self._tensors[name].as_numpy()
        if values.shape[0] != 1:
            raise InvalidRequest(name, f"its batch dimension is {values.shape[0]}; send each prompt as its own request")
        return values[0]

    def only_one_of(self, *names: str) -> str:
        """The one of these that is given.

        Raises:
            InvalidRequest: none is, or several are.
        """
        given = [name for name in names if self.has(name)]
        if len(given) != 1:
            choices = f"{', '.join(names[:-1])} and {names[-1]}"
            raise InvalidRequest(names[0], f"give one of {choices}; got {given or 'none'}")
        return given[0]

    def data(self, name: str) -> bytes:
        value = self.array(name)[0]
        return value if isinstance(value, bytes) else str(value).encode()

    def string(self, name: str) -> str:
        """A text.

        Raises:
            InvalidRequest: it is not UTF-8.
        """
        try:
            return self.data(name).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(name, f"it is not UTF-8: {error.reason} at byte {error.start}") from error

    def flag(self, name: str, *, default: bool) -> bool:
        return bool(self.array(name)[0]) if self.has(name) else default
