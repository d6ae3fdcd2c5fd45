"""Who may read the metrics, the docs and the health is a setting, and so is what DeepSeek's URLs answer."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.adapter.access_keys import BODY, CHAT, bearer

KEY = "a-configured-key"
PATHS = {
    "metrics_access": ["/metrics"],
    "docs_access": ["/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/redoc.standalone.js"],
    "health_access": ["/health", "/health/live", "/health/ready"],
}
Serve = Callable[..., httpx.Client]


def statuses(http: httpx.Client, path: str) -> list[int]:
    """Without a key, with a wrong one, with a right one."""
    given: list[dict[str, str]] = [{}, bearer("a-wrong-key"), bearer(KEY)]
    return [http.get(path, headers=headers).status_code for headers in given]


@pytest.mark.parametrize("setting", PATHS)
@pytest.mark.parametrize("access", [None, "public", "key", "off"])
def test_public_with_a_key_or_off(serve: Serve, setting: str, access: str | None) -> None:
    given: dict[str, Any] = {} if access is None else {setting: access}
    http = serve(api_key=[KEY], **given)
    for name, paths in PATHS.items():
        for path in paths:
            found = 307 if path == "/" else 200
            expected = {"key": [401, 401, found], "off": [404] * 3} if name == setting else {}
            assert statuses(http, path) == expected.get(access or "public", [found] * 3)
    assert statuses(http, "/v1/models") == [401, 401, 200]


def test_where_there_are_no_keys_nobody_has_one(serve: Serve) -> None:
    http = serve(metrics_access="key")
    assert http.get("/metrics", headers=bearer("anything")).status_code == 401
    assert http.post(CHAT, json=BODY).status_code == 200


def error_of(response: httpx.Response) -> tuple[int, str | None, str]:
    error = response.json()["error"]
    return response.status_code, error["param"], error["type"]


@pytest.mark.parametrize("base", ["", "/beta"])
def test_a_bad_parameter_by_deepseek_s_urls(http: httpx.Client, base: str) -> None:
    for path, body, param in (
        ("/chat/completions", BODY | {"temperature": 9}, "temperature"),
        ("/chat/completions", BODY | {"nonsense": 1}, "nonsense"),
        ("/completions", {}, "prompt"),
    ):
        assert error_of(http.post(base + path, json=body)) == (422, param, "invalid_request_error")
        assert error_of(http.post(f"/v1{path}", json=body)) == (400, param, "invalid_request_error")


@pytest.mark.parametrize("content", ["{", "[]", '"x"', ""])
def test_a_body_that_is_not_well_formed(http: httpx.Client, content: str) -> None:
    for base in ("", "/beta", "/v1"):
        response = http.post(f"{base}/completions", content=content, headers={"content-type": "application/json"})
        assert error_of(response)[:2] == (400, None)


def test_what_is_not_found_is_not_invalid(http: httpx.Client) -> None:
    assert http.post("/completions", json={"model": "x", "prompt": "a"}).status_code == 404
    assert http.get("/models/x").status_code == 404


def test_the_sdk_s_error_is_deepseek_s(http: httpx.Client) -> None:
    url = str(http.base_url)
    with (
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as sdk,
        pytest.raises(openai.UnprocessableEntityError),
    ):
        sdk.completions.create(model="deepseek-chat", prompt="a", temperature=9)
