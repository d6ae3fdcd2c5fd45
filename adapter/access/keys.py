"""API keys: how they are made, what is kept of them, and what each may use."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
FIT_KEY: Final = re.compile(r"[\x21-\x7e]{8,256}")
"""What a key from the configuration must be: it travels in a header."""

_NUM_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None: as in the settings, and there: without a limit."""

    budget_tokens: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None

    def over(self, defaults: "KeyLimits") -> "KeyLimits":
        """These, and the `defaults` where there is none."""
        chosen = (getattr(self, field.name) for field in fields(self))
        return KeyLimits(
            *(
                getattr(defaults, field.name) if own is None else own
                for field, own in zip(fields(self), chosen, strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class Key:
    """The key itself is not kept, only its SHA-256 in hexadecimal."""

    name: str
    digest: str
    limits: KeyLimits = KeyLimits()

    @property
    def id(self) -> str:
        """The same after a restart, and for a key of the configuration whatever its place in the list."""
        return self.digest[:16]


def new_key() -> str:
    return "sk-" + secrets.token_urlsafe(_NUM_RANDOM_BYTES)


def digest_of(key: str) -> str:
    """One round of SHA-256, which is enough for the 256 random bits of a made key.

    A key of the settings is as hard to find from its digest as it is to guess: that of a word is in a dictionary.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def configured(digests: Sequence[str]) -> list[Key]:
    """The keys of the setting `api_key`."""
    names = ["config"] if len(digests) == 1 else [f"config-{number}" for number in range(1, len(digests) + 1)]
    return [Key(name, digest) for name, digest in zip(names, digests, strict=True)]
