"""How a request can be refused before anybody looks at what it asks for."""

from adapter.errors import ApiError, RetryLater, Unavailable


class InvalidKey(ApiError):
    status, type, code = 401, "authentication_error", "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class InsufficientQuota(ApiError):
    """The key's token budget is spent."""

    status, type, code = 402, "insufficient_quota", "insufficient_quota"


class RateLimited(RetryLater):
    """Too many requests or tokens in a minute, or too many requests at once."""

    code = "rate_limit_exceeded"


class KeysUnavailable(Unavailable):
    """The keys' database can't be used now: a full disk, a lock that stays, damage."""

    def __init__(self, cause: str) -> None:
        super().__init__("The API keys can't be checked now; the server's log says why.", cause=cause)


class RatesUnavailable(Unavailable):
    """The store of the rate limits does not answer."""

    def __init__(self, cause: str) -> None:
        super().__init__("The rate limits can't be checked now; the server's log says why.", cause=cause)
