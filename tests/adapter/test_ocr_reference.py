"""The commands and clients that the documentation of DeepSeek-OCR's FastAPI server shows work here as they stand."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode

from tests.adapter.conftest import WAIT_S, Adapter
from tests.adapter.fake_triton import FakeTriton
from tests.adapter.ocr_pages import base64_of, png

FREE_OCR = "<image>\nFree OCR."
MARKDOWN = "<image>\n<|grounding|>Convert the document to markdown."
PROMPTS = [
    FREE_OCR,
    MARKDOWN,
    "<image>\nDescribe this image in detail.",
    "<image>\nParse the figure.",
    "<image>\nLocate <|ref|>object<|/ref|> in the image.",
]

CURL_HEALTH = "curl http://localhost:8000/health"
# There it is -F "prompt=<image>…", which curl takes for the name of a file to read, and fails before it sends anything.
CURL_FILE = r"""
curl -X POST "http://localhost:8000/ocr/file" \
  -F "file=@document.jpg" \
  --form-string "prompt=<image>\nFree OCR."
"""
# On Linux the base64 has line breaks, which JSON forbids in a string.
CURL_BASE64 = r"""
IMAGE_B64=$(base64 -i document.jpg)

curl -X POST "http://localhost:8000/ocr" \
  -H "Content-Type: application/json" \
  -d "{
    \"image_base64\": \"$IMAGE_B64\",
    \"prompt\": \"<image>\\nFree OCR.\"
  }"
"""
CURL_STREAM = r"""
curl -X POST "http://localhost:8000/ocr/stream" \
  -F "file=@document.jpg" \
  --form-string "prompt=<image>\nFree OCR." \
  --no-buffer
"""

JAVASCRIPT = r"""
// Using fetch API
async function ocrFromFile(file) {
  const formData = new FormData();
  formData.append('file', file);
  formData.append('prompt', '<image>\nFree OCR.');
  
  const response = await fetch('http://localhost:8000/ocr/file', {
    method: 'POST',
    body: formData
  });
  
  const result = await response.json();
  return result.text;
}

// Streaming example
async function ocrStream(file) {
  const formData = new FormData();
  formData.append('file', file);
  
  const response = await fetch('http://localhost:8000/ocr/stream', {
    method: 'POST',
    body: formData
  });
  
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    
    const chunk = decoder.decode(value);
    const lines = chunk.split('\n');
    
    for (const line of lines) {
      if (line.startsWith('data: ')) {
        const text = line.slice(6);
        if (text === '[DONE]') return;
        console.log(text);
      }
    }
  }
}
"""
JAVASCRIPT_MAIN = r"""
const file = new Blob([require('fs').readFileSync('document.jpg')]);
ocrFromFile(file).then((text) => console.log(text)).then(() => ocrStream(file)).then(() => console.log('returned'));
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "document.jpg").write_bytes(png())
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout


def bash(script: str, adapter: Adapter, folder: Path) -> str:
    return run(["bash", "-ec", script.replace("http://localhost:8000", adapter.url)], folder)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("script", [CURL_FILE, CURL_BASE64], ids=["file", "base64"])
def test_curl(session_adapter: Adapter, triton: FakeTriton, folder: Path, script: str) -> None:
    assert json.loads(bash(script, session_adapter, folder))["text"] == "Hello world"
    assert triton.seen[0].inputs["text_input"] == FREE_OCR
    assert triton.seen[0].image == png()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_streams(session_adapter: Adapter, triton: FakeTriton, folder: Path) -> None:
    expected = "data: Hello\n\ndata:  world\n\ndata: [DONE]\n\n"
    assert bash(CURL_STREAM, session_adapter, folder) == expected
    assert triton.seen[0].inputs["text_input"] == FREE_OCR


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_asks_for_the_health(session_adapter: Adapter, triton: FakeTriton, folder: Path) -> None:
    health = json.loads(bash(CURL_HEALTH, session_adapter, folder))
    assert health["status"] == "healthy"
    assert {"deepseek-ocr"} <= {model["id"] for model in health["models"]}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_javascript(session_adapter: Adapter, triton: FakeTriton, folder: Path) -> None:
    triton.says("Hello\nthere", " world")
    script = (JAVASCRIPT + JAVASCRIPT_MAIN).replace("http://localhost:8000", session_adapter.url)
    (folder / "client.js").write_text(script)
    printed = run(["node", "client.js"], folder)
    whole, streamed = "Hello\nthere world\n", "Hello\nthere\n world\n"
    assert printed == whole + streamed + "returned\n"


def test_javascript_s_reading_of_a_stream(http: httpx.Client, triton: FakeTriton) -> None:
    """The same, line by line, where there is no Node.js."""
    triton.says("Hello\nthere", " world")

    def texts() -> Iterator[str]:
        with http.stream("POST", "/ocr/stream", files={"file": ("blob", png())}) as response:
            for chunk in response.iter_text():
                for line in chunk.split("\n"):
                    if line.startswith("data: "):
                        yield line[6:]

    assert list(texts()) == ["Hello", "there", " world", "[DONE]"]


class DeepSeekOCRClient:
    """What its example client does, from what its documentation says."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=WAIT_S)

    async def __aenter__(self) -> "DeepSeekOCRClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ocr_from_file(self, image_path: Path, prompt: str) -> Any:
        fields = {"prompt": prompt, "temperature": "0.0", "max_tokens": "8192"}
        response = await self._http.post("/ocr/file", files={"file": image_path.read_bytes()}, data=fields)
        response.raise_for_status()
        return response.json()


async def test_the_python_client(session_adapter: Adapter, triton: FakeTriton, folder: Path) -> None:
    async with DeepSeekOCRClient(session_adapter.url) as client:
        result = await client.ocr_from_file(image_path=folder / "document.jpg", prompt=MARKDOWN)
        assert result["text"] == "Hello world"
    assert triton.seen[0].inputs["text_input"] == MARKDOWN
    assert triton.seen[0].sampling["max_tokens"] == 8192


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_prompts(http: httpx.Client, triton: FakeTriton, prompt: str) -> None:
    body = {"image_base64": base64_of(png()), "prompt": prompt, "temperature": 0.0, "max_tokens": 8192}
    assert http.post("/ocr", json=body).json()["text"] == "Hello world"
    assert triton.seen[0].inputs["text_input"] == prompt


def test_the_batch(http: httpx.Client) -> None:
    requests = [{"image_base64": base64_of(png()), "prompt": FREE_OCR}] * 2
    results = http.post("/ocr/batch", json={"requests": requests}).json()["results"]
    assert [result["text"] for result in results] == ["Hello world"] * 2


def test_the_error_codes(http: httpx.Client, triton: FakeTriton) -> None:
    assert http.post("/ocr", json={"prompt": FREE_OCR}).status_code == 400
    assert http.post("/ocr", json={"image_base64": base64_of(b"no image")}).status_code == 400
    triton.replies()  # an answer that breaks off
    assert http.post("/ocr", json={"image_base64": base64_of(png())}).status_code == 500


def test_a_model_that_is_not_loaded(http: httpx.Client, triton: FakeTriton) -> None:
    triton.fails(StatusCode.UNAVAILABLE, "Request for unknown model: 'ocr' is not found")
    assert http.post("/ocr", json={"image_base64": base64_of(png())}).status_code == 503
