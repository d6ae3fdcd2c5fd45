"""What an operator can set: `ADAPTER_*` variables over a YAML file over the defaults here."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from adapter.access.keys import FIT_KEY, KeyLimits, digest_of
from adapter.documents.page import MAX_DPI, MIN_DPI

_HOST_PORT = re.compile(r"(dns:///)?[^/:\s]+:[0-9]+|\[[0-9A-Fa-f:]+\]:[0-9]+")

PREFIX = "ADAPTER_"
CONFIG_VARIABLE = "ADAPTER_CONFIG"
DEFAULT_CONFIG = "config.yaml"
SERVER_GROUP = "server"


class SettingsError(Exception):
    """A setting is unknown, missing or wrong; the text is one sentence for the operator."""


def _digests(given: object) -> object:
    """Of one key or several, those from the environment perhaps as a JSON list."""
    if given is None:
        return None
    if isinstance(given, str) and given.startswith("["):
        try:
            given = json.loads(given)
        except ValueError:
            raise ValueError("give one key, or a JSON list of keys") from None
    keys = [given] if isinstance(given, str) else given
    if not isinstance(keys, list) or not keys:
        raise ValueError("give one key, or a list of keys")
    if not all(isinstance(key, str) and FIT_KEY.fullmatch(key) for key in keys):
        raise ValueError("a key is a text of 8 to 256 printable ASCII characters without spaces; quote it")
    return [digest_of(key) for key in keys]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: Annotated[str, Field(description="Address to listen on.")] = "0.0.0.0"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 picks a free one.")] = 8000
    workers: Annotated[int, Field(ge=1, description="Adapter processes sharing the port.")] = 1
    api_key: Annotated[
        Sequence[str] | None,
        NoDecode,
        BeforeValidator(_digests),
        Field(
            repr=False,
            description="Key that clients must send, or a list of keys (JSON in the environment); only their hashes "
            "are kept.",
        ),
    ] = None
    keys_db: Annotated[
        str,
        Field(min_length=1, description="SQLite file of the keys made by `python -m adapter keys`, and of all usage."),
    ] = ".run/keys.db"
    budget_tokens: Annotated[
        int | None, Field(ge=1, description="Tokens that a key may use in all, where it has no budget of its own.")
    ] = None
    requests_per_minute: Annotated[
        int | None,
        Field(ge=1, description="Of a key without a limit of its own; without keys, of a client's address."),
    ] = None
    tokens_per_minute: Annotated[
        int | None, Field(ge=1, description="Likewise; a request is let in while there are tokens left.")
    ] = None
    max_concurrent_requests: Annotated[
        int | None, Field(ge=1, description="Likewise, of requests that run at once; each worker counts its own.")
    ] = None
    rate_limit_storage: Annotated[
        str,
        Field(
            pattern=r"^(memory://|rediss?://.+)$",
            description="Where the two are counted; in memory each worker counts its own, at `redis://host:6379` all "
            "count together.",
        ),
    ] = "memory://"
    metrics_access: Annotated[
        Literal["public", "key", "off"],
        Field(description="Who may read `/metrics`: everybody, who has a key, or nobody."),
    ] = "public"
    docs_access: Annotated[
        Literal["public", "key", "off"], Field(description="Who may read `/docs`, `/redoc` and `/openapi.json`.")
    ] = "public"
    health_access: Annotated[
        Literal["public", "key", "off"], Field(description="Who may read `/health` and what is below it.")
    ] = "public"
    triton_url: Annotated[
        str,
        Field(
            min_length=1,
            description="Triton's gRPC endpoint, `host:port`. Several, separated by commas, or `dns:///name:port`: "
            "requests are spread over them in turn.",
        ),
    ] = "localhost:8001"
    models: Annotated[
        dict[str, str],
        Field(min_length=1, description="Served model id to Triton model name; JSON in the environment."),
    ] = {"deepseek-coder": "coder", "deepseek-ocr": "ocr"}
    model_aliases: Annotated[
        dict[str, str], Field(description="Further names of served models, which are not listed.")
    ] = {"deepseek-chat": "deepseek-coder", "deepseek-reasoner": "deepseek-coder"}
    default_model: Annotated[
        str | None, Field(description="Model of a request that names none; the first of `models` if not set.")
    ] = None
    ocr_model: Annotated[str, Field(description="Model of an OCR request that names none, as in `models`.")] = (
        "deepseek-ocr"
    )
    request_timeout_s: Annotated[float, Field(gt=0, description="Longest time one generation may take.")] = 600
    first_response_timeout_s: Annotated[
        float, Field(gt=0, description="Longest wait, queue included, for the first response of a streamed generation.")
    ] = 120
    keep_alive_s: Annotated[
        float, Field(gt=0, description="Silence of an event stream after which it carries a comment, begun or not.")
    ] = 15
    shutdown_timeout_s: Annotated[
        int, Field(ge=0, description="How long a stopping adapter lets running requests finish.")
    ] = 20
    retry_after_s: Annotated[int, Field(ge=0, description="`Retry-After` of a 429.")] = 1
    max_body_bytes: Annotated[int, Field(ge=1, description="Largest request body without images.")] = 10 * 1024 * 1024
    max_document_body_bytes: Annotated[
        int, Field(ge=1, description="Largest request body where images or documents may be in it.")
    ] = 200 * 1024 * 1024
    max_image_bytes: Annotated[int, Field(ge=1, description="Largest image, encoded.")] = 50 * 1024 * 1024
    max_image_pixels: Annotated[int, Field(ge=1, description="Most pixels of an image or of a rendered page.")] = (
        100_000_000
    )
    max_image_side: Annotated[int, Field(ge=1, description="Longest side of an image, in pixels.")] = 30_000
    max_pages: Annotated[int, Field(ge=1, description="Most pages read in one request or job.")] = 1000
    max_batch_images: Annotated[int, Field(ge=1, description="Most images in one `/ocr/batch`.")] = 100
    max_parallel_pages: Annotated[
        int, Field(ge=1, description="Pages of one request or job in the model's queue at once.")
    ] = 16
    default_dpi: Annotated[
        int, Field(ge=MIN_DPI, le=MAX_DPI, description="`dpi` where a request for a PDF has none.")
    ] = 144
    render_processes: Annotated[int, Field(ge=1, description="Processes that render PDF pages.")] = 2
    render_timeout_s: Annotated[float, Field(gt=0, description="Longest time one PDF page may take to render.")] = 60
    fetch_images: Annotated[
        bool, Field(description="Fetch images given by http(s) URL; private addresses never are.")
    ] = False
    fetch_timeout_s: Annotated[float, Field(gt=0, description="Longest time fetching an image may take.")] = 10
    jobs_dir: Annotated[str, Field(min_length=1, description="Folder of the OCR jobs' database and files.")] = (
        ".run/jobs"
    )
    job_ttl_s: Annotated[int, Field(ge=1, description="How long a finished OCR job is kept.")] = 86_400
    max_jobs: Annotated[
        int, Field(ge=1, description="Most OCR jobs kept at once; the ones that ended first give way.")
    ] = 1000
    max_running_jobs: Annotated[int, Field(ge=1, description="Most OCR jobs running at once; others wait.")] = 2
    max_prompts: Annotated[
        int, Field(ge=1, description="Most prompts in one completions request, or inputs of embeddings.")
    ] = 64
    max_choices: Annotated[int, Field(ge=1, description="Largest `n`.")] = 16
    default_temperature: Annotated[float, Field(ge=0, le=2, description="`temperature` where a request has none.")] = (
        0.7
    )
    default_top_p: Annotated[float, Field(gt=0, le=1, description="`top_p` where a request has none.")] = 0.95
    default_completion_max_tokens: Annotated[
        int,
        Field(
            ge=1,
            description="`max_tokens` of a completions request without one; a chat has the engine's own.",
        ),
    ] = 16
    cors_origins: Annotated[
        list[str], Field(description="Web origins whose pages may call this server; JSON in the environment.")
    ] = ["*"]
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least severe message that is logged.")
    ] = "info"
    access_log: Annotated[bool, Field(description="Log one line per request.")] = True

    @property
    def key_limits(self) -> KeyLimits:
        """Of a key that has none of its own."""
        return KeyLimits(
            self.budget_tokens, self.requests_per_minute, self.tokens_per_minute, self.max_concurrent_requests
        )

    @field_validator("triton_url")
    @classmethod
    def _host_and_port(cls, triton_url: str) -> str:
        urls = triton_url.split(",")
        if any(_HOST_PORT.fullmatch(url.strip()) is None for url in urls) or ("dns:" in triton_url and len(urls) > 1):
            raise ValueError("give host:port of Triton's gRPC endpoint, several host:port, or one dns:///name:port")
        return triton_url

    @model_validator(mode="after")
    def _default_is_served(self) -> "Settings":
        # Not an error where it was never asked for: a server of the coder alone.
        if "ocr_model" in self.model_fields_set and self.ocr_model not in self.models:
            raise ValueError(f"ocr_model {self.ocr_model!r} is not one of models: {', '.join(self.models)}")
        if "model_aliases" in self.model_fields_set:
            for alias, served_id in self.model_aliases.items():
                if served_id not in self.models or alias in self.models:
                    raise ValueError(
                        f"model_aliases: {alias!r} must be another name of one of models: {', '.join(self.models)}"
                    )
        if self.default_model is not None and self.default_model not in self.models:
            raise ValueError(f"default_model {self.default_model!r} is not one of models: {', '.join(self.models)}")
        return self


def load_settings() -> Settings:
    """Raises `SettingsError`, also for an `ADAPTER_*` variable that is no setting."""
    known = {_variable(name) for name in Settings.model_fields} | {CONFIG_VARIABLE}
    given = {name.upper() for name in os.environ if name.upper().startswith(PREFIX)}
    if unknown := sorted(given - known):
        raise SettingsError(f"unknown setting {unknown[0]} in the environment")
    try:
        return Settings(**{name: value for name, value in _read_config().items() if _variable(name) not in given})
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_sentence(problem["loc"], problem["msg"]) for problem in error.errors())
        ) from None
    except SourceError as error:
        raise SettingsError(f"cannot read the settings: {error}") from None


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _read_config() -> dict[str, Any]:
    path = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))
    if CONFIG_VARIABLE not in os.environ and not path.exists():
        return {}
    try:
        config = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if config is None:
        return {}
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise SettingsError(f"cannot read {path}: it must map the names of settings to values")
    return _without_groups(config)


def _without_groups(config: dict[str, Any]) -> dict[str, Any]:
    """Settings may stand below `server:`, which is where other servers have `host`, `port` and `api_key`."""
    server = config.pop(SERVER_GROUP, {})
    if not isinstance(server, dict) or not all(isinstance(name, str) for name in server):
        raise SettingsError("setting server: must map the names of settings to values")
    if twice := sorted(config.keys() & server.keys()):
        raise SettingsError(f"setting {twice[0]} is given twice, alone and below server")
    return config | server


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, location))
    if message == "Extra inputs are not permitted":
        return f"unknown setting {name}"
    message = message.removeprefix("Value error, ").replace("Input should", "must")
    return f"setting {name}: {message}" if name else message
