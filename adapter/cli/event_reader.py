"""Reads server-sent events."""


class EventReader:
    """The data of each event, as the HTML specification reads a stream; an event without its blank line never was one.

    httpx's own `iter_lines` won't do: it also breaks lines at U+2028 and the like, which JSON may hold.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._after_cr = False

    def decode(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes; linear in all of the stream, however it is cut."""
        events: list[bytes] = []
        for line in chunk.splitlines(keepends=True):
            if not (self._after_cr and line == b"\n"):  # else the second half of \r\n
                self._line.append(line)
                if line.endswith((b"\r", b"\n")):
                    self._end_line(events)
            self._after_cr = line.endswith(b"\r")
        return events

    def _end_line(self, events: list[bytes]) -> None:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line.clear()
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
