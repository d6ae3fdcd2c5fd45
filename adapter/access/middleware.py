"""Stands before every endpoint: whose key it is, what that key may still use, and what it used in the end."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter.access.keyring import Keyring
from adapter.access.meter import Meter, Visit
from adapter.access.rules import Rules, use_of_models
from adapter.errors import ApiError, NotFound, error_response
from adapter.request_log import record_of


class AccessControl:
    """ASGI middleware; sees the paths as the application does.

    The body of a request that is refused is never read. A charge is written before the answer's last byte is sent: who
    has the whole answer finds it charged.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, meter: Meter, rules: Rules) -> None:
        self._app = app
        self._keyring = keyring
        self._meter = meter
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_of(scope)
        try:
            await self._identify(scope)
        except ApiError as error:
            await error_response(record.fail(error))(scope, receive, send)
            return
        visit = self._visit(scope)
        if visit is None:
            await self._app(scope, receive, send)
        else:
            await self._answer_metered(visit, scope, receive, send)

    async def _identify(self, scope: Scope) -> None:
        """Note whose request it is; raises `ApiError`."""
        rule = self._rules.of(scope["path"])
        if rule == "off":
            raise NotFound(f"There is nothing at {scope['method']} {scope['path']}.")
        if rule != "public":
            record_of(scope).key = await self._keyring.find(Headers(scope=scope), required=rule == "key")

    def _visit(self, scope: Scope) -> Visit | None:
        use = use_of_models(scope["method"], scope["path"])
        if use is None:
            return None
        address = scope["client"][0] if scope.get("client") else ""
        return self._meter.visit(record_of(scope).key, address, use)

    async def _answer_metered(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        record.is_charged = visit.counts_tokens

        async def send_metered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *visit.headers]
            elif not message.get("more_body", False):
                await visit.end(record)
            await send(message)

        try:
            try:
                await visit.begin()
            except ApiError as error:
                await error_response(record.fail(error))(scope, receive, send_metered)
                return
            await self._app(scope, receive, send_metered)
        finally:
            await visit.end(record)
