"""The benchmarks run, and say what they measured; what they say of speed is not looked at."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from adapter.description import parse_description
from benchmarks import gpu, guidance, int8, latent_cache, ocr, report
from benchmarks.report import Chart, Report
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.loop import Engine
from engine.models import fused
from engine.models.attention import LatentAttention
from tests.checkpoints import save_checkpoint
from tests.engine.recorder import run


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, main: object, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
    main()  # type: ignore[operator]


def test_a_report_has_its_command_its_tables_and_a_picture(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = Report("speed", "One round.")
    written.table("Speeds", ["engine", "tokens/s"], [["ours", "12"]])
    written.chart(Chart("Speeds", "tokens/s", ["1 at once", "2 at once"], {"ours": [12.0, None]}))
    written.write()
    text = (results / "speed.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "`python -m benchmarks." in text
    assert "| engine | tokens/s |\n| --- | --- |\n| ours | 12 |" in text
    assert (results / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_gpu_benchmark_in_small(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, gpu.main, "--small", "--concurrency", "1", "3", "--tokens", "8")
    text = (results / "gpu-small.md").read_text()
    assert all(f"## {name}" in text for name in gpu.MODELS)


def test_the_ocr_benchmark(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "NUM_TOKENS", 8)
    call(monkeypatch, ocr.main, "--quick")
    text = (results / "ocr-quick.md").read_text()
    assert "| engine, 16 at once |" in text


def test_the_int8_benchmark(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, int8.main, "--quick")
    text = (results / "int8-quick.md").read_text()
    assert "| float32 | " in text
    assert "| int8 | " in text


def test_the_guidance_benchmark(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "NUM_TOKENS", 48)
    monkeypatch.setattr(guidance, "NUM_WORDS", 1000)
    call(monkeypatch, guidance.main, "--quick")
    text = (results / "guidance-quick.md").read_text()
    assert all(f"| {name} | " in text for name in guidance.FORMS)


def test_the_latent_cache_is_as_small_as_deepseek_says() -> None:
    # 576 numbers per token and layer: 60 and 27 layers, two bytes each.
    assert latent_cache.sizes(16, 8192) == [
        ["DeepSeek-V2", "4,915,200", "69,120", "71.1", "0", "30"],
        ["DeepSeek-V2-Lite", "276,480", "31,104", "8.9", "7", "67"],
        ["DeepSeek-Coder-V2-Lite", "276,480", "31,104", "8.9", "7", "67"],
    ]


def test_the_expanded_cache_is_the_same_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_checkpoint("deepseek_v2", tmp_path)
    config = EngineConfig(checkpoint=str(folder), dtype="float32", device="cpu", cache_gib=0.1, num_threads=1)
    texts, shapes = [], []
    for kind in (LatentAttention, latent_cache.ExpandedAttention):
        monkeypatch.setattr(fused, "LatentAttention", kind)
        checkpoint = load_checkpoint(config)
        shapes.append(checkpoint.decoder.cache_shape)
        engine = Engine(checkpoint, config)
        engine.start()
        texts.append(run(engine, list(range(10, 60)), temperature=0, max_tokens=60).text())
        engine.stop()
    assert texts[0] == texts[1]
    assert shapes[0].num_heads == 1 < shapes[1].num_heads


def test_the_adapter_understands_what_a_talker_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("there is none outside Triton"))
    from benchmarks.talker import Merged, Talker, TimedSender

    model = Merged()
    model._talker = Talker(interval_s=0.0, computes=False)
    model._sender = TimedSender(model._talker, model._feeds)  # type: ignore[arg-type]
    assert parse_description(json.dumps(model._describe())).checkpoint == "talker"
