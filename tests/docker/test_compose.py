"""The compose files are valid, alone and together, and agree with the Dockerfiles and the settings."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapter.settings import PREFIX, Settings

OVERRIDES = ["compose.gpu.yaml", "compose.coder-checkpoint.yaml", "compose.ocr-checkpoint.yaml"]
FIXED_SETTINGS = {
    "ADAPTER_HOST=0.0.0.0",
    "ADAPTER_PORT=8000",
    "ADAPTER_TRITON_URL=triton:8001",
    "ADAPTER_JOBS_DIR=/var/lib/deepseek/jobs",
    "ADAPTER_KEYS_DB=/var/lib/deepseek/keys/keys.db",
}

Instructions = dict[str, list[tuple[str, str]]]


def merge(base: Any, override: Any) -> Any:
    """As the Compose specification says: mappings merge, sequences append, anything else is replaced."""
    if isinstance(base, dict) and isinstance(override, dict):
        return {**base, **{key: merge(base[key], value) if key in base else value for key, value in override.items()}}
    if isinstance(base, list) and isinstance(override, list):
        return base + override
    return override


def triton_ports(dockerfiles: Instructions) -> list[str]:
    """HTTP, gRPC and metrics, of the command `python3 serve_triton.py SHM_PREFIX URL tritonserver OPTION…`."""
    command = json.loads(dict(dockerfiles["triton"])["CMD"])
    options = dict(word.split("=") for word in command if "=" in word)
    assert command[3] == f"http://localhost:{options['--http-port']}"
    return [options["--http-port"], options["--grpc-port"], options["--metrics-port"]]


def test_every_compose_file_is_known_here(root: Path) -> None:
    assert {path.name for path in (root / "docker").glob("compose*")} == {"compose.yaml", *OVERRIDES}


def test_files_and_merged_results_fit_the_compose_specification(
    root: Path, compose: dict[str, Any], tmp_path: Path
) -> None:
    files = [root / "docker/compose.yaml"]
    merged = compose
    for name in OVERRIDES:
        files.append(root / "docker" / name)
        override = yaml.safe_load(files[-1].read_text())
        merged = merge(merged, override)
        files.append(tmp_path / f"with.{name}")
        files[-1].write_text(yaml.safe_dump(merge(compose, override)))
    files.append(tmp_path / "all.yaml")
    files[-1].write_text(yaml.safe_dump(merged))

    check = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files],
        capture_output=True,
        text=True,
    )

    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("overrides", [[], *([name] for name in OVERRIDES), OVERRIDES])
def test_docker_compose_reads_them(root: Path, overrides: list[str]) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker compose here")
    files = [word for name in ["compose.yaml", *overrides] for word in ("-f", str(root / "docker" / name))]

    config = subprocess.run(
        [docker, "compose", *files, "config", "--quiet"],
        env={**os.environ, "CODER_CHECKPOINT": "/models/coder", "OCR_CHECKPOINT": "/models/ocr"},
        capture_output=True,
        text=True,
    )

    assert config.returncode == 0, config.stderr


@pytest.mark.parametrize("service", ["triton", "adapter"])
def test_a_service_is_built_watched_and_restarted(root: Path, compose: dict[str, Any], service: str) -> None:
    settings = compose["services"][service]

    context = (root / "docker" / settings["build"]["context"]).resolve()
    assert context == root
    assert (context / settings["build"]["dockerfile"]).is_file()
    assert settings["healthcheck"]["test"][0] == "CMD"
    assert settings["restart"] == "unless-stopped"


def test_build_arguments_are_declared(compose: dict[str, Any], dockerfiles: Instructions) -> None:
    for service, settings in compose["services"].items():
        declared = {rest.partition("=")[0] for keyword, rest in dockerfiles[service] if keyword == "ARG"}
        assert declared == set(settings["build"].get("args", []))


def test_triton_has_shared_memory_and_a_volume_for_the_hub_cache(
    compose: dict[str, Any], dockerfiles: Instructions
) -> None:
    triton = compose["services"]["triton"]
    hub_cache = next(rest.partition("=")[2] for keyword, rest in dockerfiles["triton"] if rest.startswith("HF_HOME="))

    assert triton["shm_size"] == "1gb"
    assert triton["volumes"] == [f"hub-cache:{hub_cache}"]
    assert "hub-cache" in compose["volumes"]


def test_a_gpu_is_reserved_only_by_its_override(root: Path, compose: dict[str, Any]) -> None:
    gpu = yaml.safe_load((root / "docker/compose.gpu.yaml").read_text())

    devices = gpu["services"]["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert "deploy" not in compose["services"]["triton"]


def test_ports_agree(compose: dict[str, Any], dockerfiles: Instructions) -> None:
    triton, adapter = compose["services"]["triton"], compose["services"]["adapter"]
    ports = triton_ports(dockerfiles)

    assert sorted(dict(dockerfiles["triton"])["EXPOSE"].split()) == sorted(ports)
    assert [port.rpartition(":")[2] for port in triton["ports"]] == ports
    assert triton["healthcheck"]["test"][-1] == f"http://localhost:{ports[0]}/v2/health/ready"
    assert f"ADAPTER_TRITON_URL=triton:{ports[1]}" in adapter["environment"]
    assert f"ADAPTER_PORT={dict(dockerfiles['adapter'])['EXPOSE']}" in adapter["environment"]
    assert adapter["ports"] == ["${ADAPTER_HOST:-0.0.0.0}:${ADAPTER_PORT:-8000}:8000"]
    check = adapter["healthcheck"]["test"][-1]
    assert "'localhost:8000'" in check and "'/health/ready'" in check
    compile(check, "healthcheck", "exec")


def test_only_the_adapter_is_reachable_from_outside_unless_asked_for(compose: dict[str, Any]) -> None:
    assert all(re.match(r"\$\{TRITON_HOST:-127\.0\.0\.1\}:", port) for port in compose["services"]["triton"]["ports"])


def test_every_adapter_setting_is_passed_through(compose: dict[str, Any]) -> None:
    environment = compose["services"]["adapter"]["environment"]

    assert {entry for entry in environment if "=" in entry} == FIXED_SETTINGS
    assert sorted(entry.partition("=")[0] for entry in environment) == sorted(
        PREFIX + name.upper() for name in Settings.model_fields
    )


def test_every_models_checkpoint_is_passed_through(root: Path, compose: dict[str, Any]) -> None:
    models = {path.parent.name for path in (root / "model_repository").glob("*/config.pbtxt")}

    assert set(compose["services"]["triton"]["environment"]) == {
        "HF_TOKEN",
        *(f"{model.upper()}_CHECKPOINT" for model in models),
    }
