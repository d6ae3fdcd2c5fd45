"""Settings from the environment and a YAML file, and `python -m adapter` with good and bad ones."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from adapter.settings import Settings, SettingsError, load_settings
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.sse_reading import read_events


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ADAPTER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_the_defaults_are_valid() -> None:
    settings = load_settings()
    assert (settings.port, settings.triton_url, settings.models) == (
        8000,
        "localhost:8001",
        {"deepseek-coder": "coder", "deepseek-ocr": "ocr"},
    )


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("port: 1\nmodels:\n  a: b\n  org/c: d\n")
    monkeypatch.setenv("ADAPTER_PORT", "2")
    settings = load_settings()
    assert (settings.port, settings.models) == (2, {"a": "b", "org/c": "d"})
    monkeypatch.setenv("ADAPTER_MODELS", '{"e": "f"}')
    assert load_settings().models == {"e": "f"}


def test_the_file_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("port: 1")
    (tmp_path / "other.yaml").write_text("port: 3")
    monkeypatch.setenv("ADAPTER_CONFIG", str(tmp_path / "other.yaml"))
    assert load_settings().port == 3


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("ADAPTER_PROT", "1", "unknown setting ADAPTER_PROT in the environment"),
        ("ADAPTER_PORT", "x", "setting port: must be a valid integer, unable to parse string as an integer"),
        ("ADAPTER_PORT", "70000", "setting port: must be less than or equal to 65535"),
        ("ADAPTER_MODELS", "{", "cannot read the settings: "),
        ("ADAPTER_MODELS", "{}", "setting models: "),
        ("ADAPTER_DEFAULT_MODEL", "x", "default_model 'x' is not one of models: deepseek-coder"),
        ("ADAPTER_TRITON_URL", "http://triton:8001", "setting triton_url: give host:port"),
        ("ADAPTER_TRITON_URL", "triton", "setting triton_url: give host:port"),
        ("ADAPTER_TRITON_URL", "a:1,,b:2", "setting triton_url: give host:port"),
        ("ADAPTER_REQUEST_TIMEOUT_S", "0", "setting request_timeout_s: must be greater than 0"),
        ("ADAPTER_LOG_LEVEL", "loud", "setting log_level: must be 'debug'"),
        ("ADAPTER_CONFIG", "/nowhere.yaml", "cannot read /nowhere.yaml: [Errno 2] No such file or directory"),
    ],
)
def test_a_bad_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("prot: 1", "unknown setting prot"),
        ("port: [1]", "setting port: "),
        ("- port", "cannot read config.yaml: it must map"),
        ("port: {", "cannot read config.yaml: "),
    ],
)
def test_a_bad_file(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def command(**environment: str) -> "subprocess.Popen[str]":
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "adapter"],
        env=os.environ | environment | {"PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_until_it_is_told_to_stop(triton: FakeTriton) -> None:
    with command(ADAPTER_HOST="127.0.0.1", ADAPTER_PORT="0", ADAPTER_TRITON_URL=f"127.0.0.1:{triton.port}") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "listening on http://127.0.0.1:" in line
        url = line.split("listening on ")[1].split(",")[0]
        assert httpx.post(f"{url}/v1/completions", json={"prompt": "a"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
    assert "POST /v1/completions 200" in log
    assert "Traceback" not in log
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_stream_that_outlives_the_command_ends_with_an_error(triton: FakeTriton) -> None:
    triton.hangs("Hel")
    with command(
        ADAPTER_HOST="127.0.0.1",
        ADAPTER_PORT="0",
        ADAPTER_TRITON_URL=f"127.0.0.1:{triton.port}",
        ADAPTER_SHUTDOWN_TIMEOUT_S="1",
    ) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split("listening on ")[1].split(",")[0]
        body = {"prompt": "a", "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=20) as response:
            assert response.status_code == 200
            process.send_signal(signal.SIGTERM)
            chunk, error = read_events(response)
        assert "Traceback" not in process.stderr.read()
    assert chunk["choices"][0]["text"] == "Hel"
    assert error["error"]["message"] == "The server is shutting down."
    assert triton.seen[0].cancelled.wait(10)


def test_the_command_refuses_a_bad_setting() -> None:
    with command(ADAPTER_PORT="x") as process:
        assert process.stderr is not None
        log = process.stderr.read()
    assert process.returncode == 1
    assert log == "adapter: setting port: must be a valid integer, unable to parse string as an integer\n"


def test_the_command_refuses_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command(ADAPTER_HOST="127.0.0.1", ADAPTER_PORT=str(port)) as process:
            assert process.stderr is not None
            log = process.stderr.read()
    assert process.returncode == 1
    assert log == f"adapter: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
