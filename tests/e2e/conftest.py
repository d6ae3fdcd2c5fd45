"""A real Triton and a real adapter, started once, as `make up` starts them."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image

from tests.checkpoints import save_checkpoint, save_ocr_checkpoint, train_tokenizer
from tests.e2e.stack import PROJECT, Stack
from tests.engine.chat_templates import R1, R1_TOKENS

ARCHITECTURES = ("llama", "qwen2", "deepseek_v2")
OCR_ARCHITECTURE = "deepseek_ocr"
REASONER = "reasoner"
"""Random weights with DeepSeek-R1's chat template: thinks, and calls functions in DeepSeek's form."""


def add_model(
    repository: Path, name: str, *, original: str = "coder", queue_size: int = 256, **settings: object
) -> None:
    """Put a copy of one of our models into a repository, under another name and with other settings."""
    source, target = PROJECT / "model_repository" / original, repository / name
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    configuration = (source / "config.pbtxt").read_text()
    for old, new in (
        (f'name: "{original}"', f'name: "{name}"'),
        ("max_queue_size: 256", f"max_queue_size: {queue_size}"),
    ):
        assert old in configuration
        configuration = configuration.replace(old, new)
    (target / "config.pbtxt").write_text(configuration)
    engine = json.loads((source / "1" / "engine.json").read_text())
    on_cpu = {"gpu_checkpoint": None, "device": "cpu"}
    (target / "1" / "engine.json").write_text(json.dumps(engine | on_cpu | settings))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A folder with a short path: sockets live in it."""
    folder = Path(tempfile.mkdtemp(prefix="dst"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def checkpoints(short_dir: Path) -> dict[str, Path]:
    folder = short_dir / "checkpoints"
    texts = {name: save_checkpoint(name, folder / name) for name in ARCHITECTURES}
    reasoner = save_checkpoint("llama", folder / REASONER)
    config = json.loads((reasoner / "config.json").read_text())
    (reasoner / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    tokenizer = train_tokenizer(R1_TOKENS)
    tokenizer.chat_template = R1
    tokenizer.save_pretrained(reasoner)
    texts[REASONER] = reasoner
    return texts | {OCR_ARCHITECTURE: save_ocr_checkpoint(OCR_ARCHITECTURE, folder / OCR_ARCHITECTURE)}


@pytest.fixture(scope="session")
def stack(short_dir: Path, checkpoints: dict[str, Path]) -> Iterator[Stack]:
    """Both demo models, a float32 model of each architecture, and one that is full with a single sequence."""
    repository = short_dir / "models"
    add_model(repository, "coder", checkpoint=str(PROJECT / "demo" / "coder"), cache_gib=1.0)
    add_model(repository, "ocr", original="ocr", checkpoint=str(PROJECT / "demo" / "ocr"), cache_gib=0.5)
    small = {"dtype": "float32", "cache_gib": 0.1, "max_step_tokens": 64}
    for name in (*ARCHITECTURES, REASONER):
        add_model(repository, name, checkpoint=str(checkpoints[name]), **small)
    exact = {**small, "max_step_tokens": 200, "max_step_views": 8}
    add_model(repository, OCR_ARCHITECTURE, original="ocr", checkpoint=str(checkpoints[OCR_ARCHITECTURE]), **exact)
    one_at_a_time = {"max_sequences": 1, "max_context": None, "cache_gib": 0.1}
    add_model(repository, "narrow", checkpoint=str(checkpoints["llama"]), queue_size=2, **one_at_a_time)
    models = {"deepseek-coder": "coder", "deepseek-ocr": "ocr"}
    models |= {name: name for name in (*ARCHITECTURES, REASONER, OCR_ARCHITECTURE, "narrow")}
    stack = Stack(short_dir / "run", MODEL_REPOSITORY=str(repository), ADAPTER_MODELS=json.dumps(models))
    stack.up()
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def client(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        yield client
