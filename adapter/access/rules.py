"""What each path asks for. Whatever is not named here needs a key where there are keys."""

from typing import Literal, TypeAlias

from adapter.settings import Settings

Access: TypeAlias = Literal["public", "key", "off"]
Use: TypeAlias = Literal["requests", "tokens"]
"""Requests alone, where the models only count tokens; else tokens too."""

_DOCS = ("/docs", "/redoc", "/openapi.json", "/static-offline-docs")
_HEALTH = ("/health",)
_METRICS = ("/metrics",)
_GENERATING = frozenset(
    f"/v1/{name}" for name in ("chat/completions", "completions", "responses", "messages", "embeddings", "ocr")
)
_COUNTING = frozenset(("/tokenize", "/detokenize", "/v1/messages/count_tokens"))


class Rules:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def of(self, path: str) -> Access | None:
        """None: a key, where there are keys."""
        if path == "/" or _is_below(_DOCS, path):  # the root only leads to the docs
            return self._settings.docs_access
        if _is_below(_HEALTH, path):
            return self._settings.health_access
        if _is_below(_METRICS, path):
            return self._settings.metrics_access
        return None


def use_of_models(method: str, path: str) -> Use | None:
    """What a request takes of a key's limits and budget; None: nothing. The path is the application's own."""
    if method != "POST":
        return None
    if path in _COUNTING:
        return "requests"
    return "tokens" if path in _GENERATING or _is_below(("/ocr",), path) else None


def _is_below(roots: tuple[str, ...], path: str) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
