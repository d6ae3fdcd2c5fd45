"""Text with line breaks as server-sent events, so that a reader by the HTML specification gets it back."""

import re

# No line may read like the end of the stream: it is told in two events.
_INSIDE_DONE = re.compile(r"(?m)(?<=^\[DO)(?=NE\]$)")


class TextEvents:
    """One text in pieces. The data of all events, joined, is the text; `\\r\\n` and `\\r` become `\\n`."""

    def __init__(self) -> None:
        self._ended_in_return = False

    def decode(self, piece: str) -> bytes:
        """Return the events of `piece`; none if it adds nothing."""
        if not piece:
            return b""
        # Its line break went out with the piece before.
        rest = piece.removeprefix("\n") if self._ended_in_return else piece
        self._ended_in_return = piece.endswith("\r")
        return text_event(rest) if rest else b""


def text_event(text: str) -> bytes:
    """One event whose data is `text`, of one line or several; two or more if a line of it is `[DONE]`."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return b"".join(b"data: " + data.replace("\n", "\ndata: ").encode() + b"\n\n" for data in _INSIDE_DONE.split(lines))
