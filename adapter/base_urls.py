"""OpenAI's clients ask below `/v1`, DeepSeek's also below `/` and `/beta`: one set of endpoints answers all."""

from starlette.types import ASGIApp, Receive, Scope, Send

from adapter.request_log import record_of

CANONICAL = "/v1"
_OTHERS = ("/beta", "")
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/models")
"""What there is below each of them."""


class BaseUrls:
    """ASGI middleware: the application only ever sees `/v1`, and the request's record what was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = canonical(scope["path"])
            record_of(scope).is_deepseeks = path != scope["path"]
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def canonical(path: str) -> str:
    """Where an endpoint is found by its own name; other paths stay as they are."""
    for base in _OTHERS:
        rest = path.removeprefix(base)
        if path.startswith(base) and any(rest == name or rest.startswith(f"{name}/") for name in _ENDPOINTS):
            return CANONICAL + rest
    return path
