"""What each path asks for. Whatever is not named here needs a key where there are keys."""

from typing import Literal, TypeAlias

from adapter.settings import Settings

Access: TypeAlias = Literal["public", "key", "off"]

_DOCS = ("/docs", "/redoc", "/openapi.json", "/static-offline-docs")
_HEALTH = ("/health",)
_METRICS = ("/metrics",)
_GENERATING = frozenset(
    f"/v1/{name}" for name in ("chat/completions", "completions", "responses", "messages", "embeddings", "ocr")
)


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


def generates(method: str, path: str) -> bool:
    """Whether a request uses the models, and so a key's limits and budget. The path is the application's own."""
    return method == "POST" and (path in _GENERATING or _is_below(("/ocr",), path))


def _is_below(roots: tuple[str, ...], path: str) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
