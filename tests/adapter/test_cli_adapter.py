"""`python -m adapter ocr` against the adapter itself."""

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from PIL import Image

from adapter.cli.command import main
from tests.adapter.fake_triton import USAGE, FakeTriton, Seen, answer
from tests.adapter.ocr_pages import by_page, page_of, pdf

ANSWER = (
    "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 100]]<|/det|>\n# Report\n\n",
    "<|ref|>image<|/ref|><|det|>[[100, 200, 500, 600]]<|/det|>\n",
)


@pytest.fixture
def url(http: httpx.Client) -> str:
    return str(http.base_url)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Image.new("RGB", (200, 300), "white")
    page.save("a.png")
    page.save("b.pdf", save_all=True, append_images=[page, page])


def test_everything_there_is_of_an_image(triton: FakeTriton, url: str) -> None:
    triton.says(*ANSWER)
    assert main(["a.png", "--markdown", "--blocks", "--annotate", "--out", "out", "--url", url]) == 0
    assert Path("out/a.md").read_text() == "# Report\n\n![page-1-figure-1.png](a/page-1-figure-1.png)\n"
    (page,) = json.loads(Path("out/a.blocks.json").read_text())
    assert (page["page"], page["width"], page["height"]) == (1, 200, 300)
    assert [block["type"] for block in page["blocks"]] == ["title", "image"]
    assert Image.open(io.BytesIO(Path("out/a/page-1-figure-1.png").read_bytes())).size == (80, 120)
    assert Image.open(io.BytesIO(Path("out/a/page-1.annotated.png").read_bytes())).size == (200, 300)


def test_pages_of_a_pdf(triton: FakeTriton, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    triton.says("Hel", "lo")
    assert main(["b.pdf", "--pages", "1,3", "--url", url]) == 0
    assert capsys.readouterr() == ("Hello\n\nHello\n", "")
    assert len(triton.seen) == 2


def test_a_model_that_goes_away_in_the_middle(
    triton: FakeTriton, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter.cli.server.PAUSES_S", (0, 0))
    Path("c.pdf").write_bytes(pdf(3))
    whole, breaking = by_page(), by_page({2: (grpc.StatusCode.UNAVAILABLE, "Stub process is not healthy.")})

    def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        if page_of(seen) == 2:
            triton.reply = whole
        return breaking(seen, context)

    triton.reply = reply
    assert main(["c.pdf", "--dpi", "72", "--url", url]) == 0
    assert capsys.readouterr() == ("page 1\n\npage 2\n\npage 3\n", "")
    assert [page_of(seen) for seen in triton.seen].count(1) == 1


def test_a_repetition_is_read_once_more(triton: FakeTriton, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def reply(seen: Seen, context: Any) -> AsyncIterator[Any]:
        is_second = seen.sampling["temperature"] > 0
        yield answer("better" if is_second else "and and", finish="stop" if is_second else "repetition", usage=USAGE)

    triton.reply = reply
    assert main(["a.png", "--url", url]) == 0
    assert capsys.readouterr() == ("better\n", "")


def test_what_the_server_refuses(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a.png", "b.pdf", "--pages", "2-3", "--prompt", "locate", "--url", url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(line.split(": ")[:2] for line in err.splitlines()) == [["a.png", "object"], ["b.pdf", "object"]]


def test_what_the_model_refuses(triton: FakeTriton, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    triton.fails(grpc.StatusCode.INVALID_ARGUMENT, "text_input: is too long")
    assert main(["a.png", "--url", url]) == 1
    assert capsys.readouterr().err.endswith("is too long\n")


def test_a_server_that_asks_for_a_key(
    serve: Callable[..., httpx.Client], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(serve(api_key=["a-configured-key"]).base_url)
    monkeypatch.delenv("OCR_API_KEY", raising=False)
    assert main(["a.png", "--url", url]) == 1
    assert "This server asks for an API key" in capsys.readouterr().err
    assert main(["a.png", "--url", url, "--api-key", "a-configured-key"]) == 0
    monkeypatch.setenv("OCR_API_KEY", "a-configured-key")
    assert main(["a.png", "--url", url]) == 0
