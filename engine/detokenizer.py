"""Tokens to text, a piece at a time: whole characters only, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from transformers.convert_slow_tokenizer import bytes_to_unicode

_INCOMPLETE = "\ufffd"
"""What decoding gives for bytes that are not, or not yet, a character."""
_MAX_WINDOW = 16
"""Tokens decoded again at most: far more than the four bytes of a character can take."""


class Detokenizer(Protocol):
    """Incremental decoding: the pieces joined are what decoding all tokens at once gives."""

    def decode(self, token: int) -> str:
        """Return the text that this token completes, perhaps none."""

    def flush(self) -> str:
        """Return what was held back, at the end of the tokens."""


def make_detokenizer(
    tokenizer: Tokenizer, token_bytes: TokenBytes, skip_special_tokens: bool = True, kept: frozenset[int] = frozenset()
) -> Detokenizer:
    """`kept`: tokens that are not skipped in any case."""
    if token_bytes.is_byte_level:
        return ByteDetokenizer(token_bytes, token_bytes.special - kept if skip_special_tokens else frozenset())
    return WindowDetokenizer(tokenizer, skip_special_tokens and not kept & token_bytes.special)


class ByteDetokenizer:
    """For tokens that stand for bytes, whatever is around them: GPT-2's scheme, which all of DeepSeek's models have."""

    def __init__(self, token_bytes: TokenBytes, skipped: frozenset[int]) -> None:
        self._token_bytes = token_bytes
        self._skipped = skipped
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, token: int) -> str:
        return "" if token in self._skipped else self._decoder.decode(self._token_bytes(token))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class WindowDetokenizer:
    """For any tokenizer.

    It decodes a short window of the newest tokens again at each step, since some tokenizers write a token
    differently at the start of a text, and holds back a last character whose bytes may not all be there.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window: list[int] = []
        self._num_emitted = 0

    def decode(self, token: int) -> str:
        self._window.append(token)
        text = self._decode()
        # Only the last character can still change: what went wrong before it stays wrong.
        certain = text.removesuffix(_INCOMPLETE)
        piece = certain[self._num_emitted :]
        self._num_emitted += len(piece)
        if len(self._window) > _MAX_WINDOW:
            self._slide(text)
        return piece

    def flush(self) -> str:
        piece = self._decode()[self._num_emitted :]
        self._window, self._num_emitted = [], 0
        return piece

    def _slide(self, text: str) -> None:
        """Forget the window's older half: `text`, all of it but a last incomplete character, is emitted."""
        num_pending = len(text) - self._num_emitted
        self._window = self._window[-_MAX_WINDOW // 2 :]
        self._num_emitted = len(self._decode()) - num_pending

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(self._window, skip_special_tokens=self._skip_special_tokens)
        return text


class StopFinder:
    """Finds the first stop string in a text that comes in pieces, and never lets a part of one through."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text; of several at one place, the first that was given."""

    def decode(self, piece: str) -> tuple[str, bool]:
        """Return the text that is certain by now, and whether a stop string ended it."""
        if not self._stops:
            return piece, False
        text = self._held + piece
        found = [(i, stop) for stop in self._stops if (i := text.find(stop)) >= 0]
        if found:
            end, self.found = min(found, key=lambda place: place[0])
            self._held = ""
            return text[:end], True
        num_held = max(overlap(text, stop) for stop in self._stops)
        cut = len(text) - num_held
        self._held = text[cut:]
        return text[:cut], False

    def flush(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class TextStream:
    """The text of one sequence: tokens in, text that may be shown out."""

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stop_finder = StopFinder(stops)

    @property
    def stop_string(self) -> str | None:
        """The one that ended it."""
        return self._stop_finder.found

    def decode(self, token: int, may_stop: bool) -> tuple[str, bool]:
        """Return the text that this token makes certain, and whether a stop string ended it.

        While it may not stop yet (`min_tokens`), stop strings are text like any other.
        """
        piece = self._detokenizer.decode(token)
        return self._stop_finder.decode(piece) if may_stop else (piece, False)

    def flush(self) -> tuple[str, bool]:
        """Return what is left at the end of the tokens, and whether a stop string ended it."""
        text, stopped = self._stop_finder.decode(self._detokenizer.flush())
        return text if stopped else text + self._stop_finder.flush(), stopped


class TokenBytes:
    """The bytes of single tokens, which alone need not be whole characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.is_byte_level = isinstance(tokenizer.decoder, ByteLevel)
        """Whether a text is no more than the bytes of its tokens."""
        self._has_byte_level = "ByteLevel" in repr(tokenizer.decoder)  # it may be one of a sequence of decoders
        added = tokenizer.get_added_tokens_decoder().items()
        self.special = frozenset(i for i, token in added if token.special)
        self._byte_of = {character: byte for byte, character in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
        self._known: dict[int, bytes] = {}

    def __call__(self, token_id: int) -> bytes:
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._bytes(token_id)
        return known

    def _bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id) or ""
        if token_id not in self.special and self._has_byte_level and all(c in self._byte_of for c in token):
            return bytes(self._byte_of[character] for character in token)
        return token.encode()
