"""The rule against loops: no run of so many tokens comes twice. Its bounds, and how DeepSeek itself sets it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

MAX_WHITELIST = 64
FIELDS = ("no_repeat_ngram_size", "no_repeat_ngram_window", "no_repeat_ngram_whitelist")
"""Their names in requests and in `sampling_parameters`."""

NgramSize = Annotated[int, Field(ge=0, le=128)]
NgramWindow = Annotated[int, Field(ge=1, le=2**31 - 1)]
TokenText = Annotated[str, Field(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True)
class NgramRule:
    """No `size` tokens in a row twice within `window` tokens, except with `whitelist`'s; size 0 turns it off."""

    size: int
    window: int
    whitelist: Sequence[str | int]

    def changed(
        self, size: int | None, window: int | None, whitelist: Sequence[str | int] | None = None
    ) -> "NgramRule":
        """With what a request gives of its own."""
        size = self.size if size is None else size
        # A window shorter than what it looks for would find nothing.
        window = max(self.window, size) if window is None else window
        return NgramRule(size, window, self.whitelist if whitelist is None else whitelist)

    @property
    def parameters(self) -> dict[str, Any]:
        """In a model's `sampling_parameters`."""
        values = (self.size, self.window, self.whitelist) if self.size else (0,)
        return dict(zip(FIELDS, values, strict=False))


# Without the rule the model loops on tables and forms.
_CELLS = ("<td>", "</td>")
IMAGE_NGRAMS = NgramRule(30, 90, _CELLS)
PDF_NGRAMS = NgramRule(20, 50, _CELLS)
