"""Who is let in, and that nothing is left open."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import openai
import pytest
from fastapi.routing import APIRoute
from starlette.datastructures import Headers

from adapter.access.async_store import AsyncKeyStore
from adapter.access.errors import InvalidKey
from adapter.access.keyring import Keyring
from adapter.access.keys import Key, configured, digest_of
from adapter.access.rules import use_of_models
from adapter.app import create_app
from adapter.settings import Settings, SettingsError, load_settings
from tests.adapter.access_keys import BODY, CHAT, bearer, make_key, revoke
from tests.adapter.conftest import Adapter, Loop
from tests.adapter.fake_triton import FakeTriton

KEY = "your-secret-key"
PUBLIC = {"/", "/metrics"}
COUNTING = {"/tokenize", "/detokenize", "/v1/messages/count_tokens"}
"""They generate nothing, and take of the limits of requests alone."""
PUBLIC_BELOW = ("/health", "/docs", "/redoc", "/openapi.json", "/static-offline-docs")

Serve = Callable[..., httpx.Client]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database says counts for the next request."""
    monkeypatch.setattr("adapter.access.keyring.REFRESH_S", 0.0)


def endpoints() -> Iterator[tuple[str, str]]:
    """Of the document, which has every route but the redirects."""
    for path, operations in create_app(Settings()).openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{", "").replace("}", "")


ENDPOINTS = list(endpoints())
PROTECTED = [(m, p) for m, p in ENDPOINTS if p not in PUBLIC and not p.startswith(PUBLIC_BELOW)]


def refused(response: httpx.Response) -> None:
    assert response.status_code == 401, response.text
    error = response.json()["error"]
    assert error.get("code", "invalid_api_key") == "invalid_api_key"
    assert error["type"] in ("invalid_request_error", "authentication_error")
    assert response.headers["www-authenticate"] == "Bearer"
    assert KEY not in response.text


def test_most_endpoints_are_protected() -> None:
    assert len(PROTECTED) > 12
    assert {path for _, path in ENDPOINTS if path.startswith("/v1")} <= {path for _, path in PROTECTED}


@pytest.fixture(scope="module")
def locked(loop: Loop, session_triton: FakeTriton) -> Iterator[httpx.Client]:
    adapter = Adapter(loop, Settings(triton_url=f"127.0.0.1:{session_triton.port}", api_key=[KEY, "another-key"]))
    with httpx.Client(base_url=adapter.url) as client:
        yield client
    adapter.stop()


@pytest.mark.parametrize(("method", "path"), [*PROTECTED, ("GET", "/nowhere"), ("POST", "/beta/completions")])
def test_every_endpoint_asks_for_a_key(locked: httpx.Client, method: str, path: str) -> None:
    refused(locked.request(method, path))
    refused(locked.request(method, path, headers=bearer("wrong-key-wrong-key")))
    assert locked.request(method, path, headers=bearer(KEY)).status_code != 401


def test_every_route_is_in_the_document() -> None:
    app = create_app(Settings())
    hidden = [route.path for route in app.routes if isinstance(route, APIRoute) and not route.include_in_schema]
    assert set(hidden) <= {"/", "/docs", "/redoc", "/docs/oauth2-redirect", "/v1/models/"}


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_whatever_is_posted_is_metered(method: str, path: str) -> None:
    use = "requests" if path in COUNTING else "tokens"
    assert use_of_models(method, path) == (use if method == "POST" else None)


@pytest.mark.parametrize("key", [KEY, "another-key"])
def test_both_headers_are_read(locked: httpx.Client, triton: FakeTriton, key: str) -> None:
    for headers in (bearer(key), {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
        assert locked.post(CHAT, json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {digest_of(KEY)}"},
        {"x-api-key": ""},
    ],
)
def test_what_is_no_key(locked: httpx.Client, headers: dict[str, str]) -> None:
    refused(locked.get("/v1/models", headers=headers))


def test_bytes_that_are_no_text(locked: httpx.Client) -> None:
    refused(locked.get("/v1/models", headers=[(b"authorization", b"Bearer \xff\xfe\xe9")]))


def test_the_sdk_says_what_is_wrong(locked: httpx.Client) -> None:
    url = f"{str(locked.base_url).rstrip('/')}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as sdk, pytest.raises(openai.AuthenticationError):
        sdk.models.list()


def test_a_page_of_another_origin_may_ask_first(locked: httpx.Client) -> None:
    preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
    preflight["access-control-request-headers"] = "authorization"
    assert locked.options(CHAT, headers=preflight).status_code == 200
    exposed = locked.get("/v1/models", headers=bearer(KEY) | {"origin": "https://app.example"})
    names = exposed.headers["access-control-expose-headers"].lower()
    for name in ("x-request-id", "retry-after", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests"):
        assert name in names
    assert locked.get("/v1/models", headers={"origin": "https://app.example"}).headers["access-control-allow-origin"]


def test_without_keys_nobody_is_asked(serve: Serve, path: Path) -> None:
    http = serve(keys_db=str(path))
    assert http.post(CHAT, json=BODY, headers=bearer("none")).status_code == 200
    assert not path.exists()


def test_a_running_server_follows(serve: Serve, path: Path) -> None:
    http = serve(keys_db=str(path))
    assert http.get("/v1/models").status_code == 200
    key = make_key(path)
    refused(http.get("/v1/models"))
    assert http.get("/v1/models", headers=bearer(key)).status_code == 200
    other = make_key(path, "bob")
    revoke(path)
    refused(http.get("/v1/models", headers=bearer(key)))
    assert http.get("/v1/models", headers=bearer(other)).status_code == 200
    revoke(path, "bob")
    refused(http.get("/v1/models"))  # the last is gone: that opens nothing


async def test_the_database_is_read_at_most_once_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter.access.keyring.REFRESH_S", 1.0)
    now_s = 0.0
    store = AsyncKeyStore(path)
    keyring = Keyring(store, (), clock=lambda: now_s)
    key = make_key(path)
    assert await keyring.find(Headers(bearer(key))) == Key("ann", digest_of(key))
    revoke(path)
    now_s = 0.9
    assert await keyring.find(Headers(bearer(key))) is not None
    now_s = 1.0
    with pytest.raises(InvalidKey, match="unknown or revoked"):
        await keyring.find(Headers(bearer(key)))
    await store.close()


def test_no_key_is_on_disk(serve: Serve, path: Path) -> None:
    key = make_key(path)
    http = serve(keys_db=str(path), api_key=KEY)
    for one in (key, KEY):
        assert http.post(CHAT, json=BODY, headers=bearer(one)).status_code == 200
    files = [file.read_bytes() for file in path.parent.glob("keys.db*")]
    assert digest_of(key).encode() in b"".join(files)
    for content in files:
        assert key.encode() not in content and KEY.encode() not in content


def test_settings_keep_hashes_alone() -> None:
    settings = Settings(api_key=KEY)
    assert settings.api_key == [digest_of(KEY)]
    assert KEY not in repr(settings) and digest_of(KEY) not in repr(settings)


def test_a_database_that_is_broken_lets_nobody_in(serve: Serve, path: Path) -> None:
    path.write_bytes(b"what is this? " * 1000)
    http = serve(keys_db=str(path))
    response = http.get("/v1/models")
    assert response.status_code == 503
    assert str(path) not in response.text
    assert http.get("/health/live").status_code == 200
    path.unlink()
    assert http.get("/v1/models").status_code == 200


def test_a_database_that_breaks_lets_nobody_in(serve: Serve, path: Path) -> None:
    key = make_key(path)
    http = serve(keys_db=str(path))
    assert http.get("/v1/models", headers=bearer(key)).status_code == 200
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE keys RENAME TO gone")
    assert http.get("/v1/models", headers=bearer(key)).status_code == 503
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE gone RENAME TO keys")
    assert http.get("/v1/models", headers=bearer(key)).status_code == 200


def test_the_log_has_the_key_s_name(serve: Serve, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = make_key(path, "ann.laptop")
    http = serve(keys_db=str(path))
    with caplog.at_level(logging.DEBUG):
        http.get("/v1/models", headers=bearer(key))
        http.get("/v1/models", headers=bearer("a-wrong-key"))
        http.get("/health", headers=bearer(key))
    assert "GET /v1/models 200" in caplog.text and "key=ann.laptop" in caplog.text
    assert "error=invalid_api_key" in caplog.text
    assert key not in caplog.text and "a-wrong-key" not in caplog.text


def test_a_configured_key_is_the_same_wherever_it_stands() -> None:
    first, second = configured(Settings(api_key=[KEY, "another-key"]).api_key or ())
    again, _ = configured(Settings(api_key=["another-key", KEY]).api_key or ())
    assert first.id != second.id and again.id == second.id
    assert [key.name for key in (first, second)] == ["config-1", "config-2"]


@pytest.mark.parametrize(
    "content",
    ['server:\n  api_key: "your-secret-key"\n  port: 1', "api_key: [your-secret-key]\nserver: {port: 1}"],
)
def test_the_key_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve, triton: FakeTriton, content: str
) -> None:
    monkeypatch.setenv("ADAPTER_CONFIG", str(tmp_path / "config.yaml"))
    (tmp_path / "config.yaml").write_text(content)
    settings = load_settings()
    assert (settings.port, settings.api_key) == (1, [digest_of(KEY)])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("server: [a]", "setting server: must map the names of settings to values"),
        ("server: {prot: 1}", "unknown setting prot"),
        ("port: 1\nserver: {port: 1}", "setting port is given twice, alone and below server"),
        ("api_key: short", "setting api_key: a key is a text of 8 to 256 printable ASCII characters"),
        ("api_key: 12345678", "setting api_key: give one key, or a list of keys"),
        ("api_key: []", "setting api_key: give one key, or a list of keys"),
        ("api_key: [with space]", "setting api_key: a key is a text"),
        ("api_key: '[broken'", "setting api_key: give one key, or a JSON list of keys"),
        ("rate_limit_storage: postgres://x", "setting rate_limit_storage: "),
    ],
)
def test_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, sentence: str) -> None:
    monkeypatch.setenv("ADAPTER_CONFIG", str(tmp_path / "config.yaml"))
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("value", "keys"),
    [("1234567890", ["1234567890"]), (KEY, [KEY]), (f'["{KEY}", "another-key"]', [KEY, "another-key"])],
)
def test_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, keys: list[str]) -> None:
    monkeypatch.setenv("ADAPTER_API_KEY", value)
    assert load_settings().api_key == [digest_of(key) for key in keys]
