"""Pages of other origins may call the server, as far as the settings say."""

from collections.abc import Callable

import httpx
import pytest

ORIGIN = {"origin": "https://app.example"}


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(["*"], "*"), (["https://app.example"], "https://app.example"), (["https://other.example"], None), ([], None)],
)
def test_origins_are_let_in_or_not(serve: Callable[..., httpx.Client], origins: list[str], allowed: str | None) -> None:
    http = serve(cors_origins=origins)
    preflight = {**ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    answer = http.options("/ocr/file", headers=preflight)
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert (answer.status_code == 200) == (allowed is not None)
    for response in (http.get("/v1/models", headers=ORIGIN), http.post("/ocr", json={}, headers=ORIGIN)):
        assert response.headers.get("access-control-allow-origin") == allowed
