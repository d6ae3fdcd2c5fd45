"""Pages through the whole service: HTTP, gRPC, Triton, the engine and back."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from mistralai.client import Mistral
from PIL import Image

from demo.ocr.sample import SAMPLE
from engine.models.deepseek_ocr import DeepseekOcrVision
from tests.e2e.conftest import OCR_ARCHITECTURE, png
from tests.e2e.stack import PROJECT, Stack
from tests.e2e.test_parity import nothing_left
from tests.e2e.triton_grpc import infer
from tests.ocr_reference import NUM_TOKENS, PROMPT, Reference, page

EXACT = {
    "model": OCR_ARCHITECTURE,
    "prompt": PROMPT,
    "max_tokens": NUM_TOKENS,
    "output": "raw",
    "no_repeat_ngram_size": 0,
}
"""What makes the answers comparable with transformers' greedy `generate`."""


def data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def test_a_page_through_curl(stack: Stack) -> None:
    command = ["curl", "-sS", "-F", f"file=@{SAMPLE}", "-F", "max_tokens=20", f"{stack.url}/ocr/file"]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    assert answer["model"] == "deepseek-ocr"
    assert answer["pages"][0] | {"text": answer["text"]} == answer["pages"][0]
    assert [answer["pages"][0][name] for name in ("page", "width", "height", "finish_reason")] == [
        1,
        640,
        440,
        "length",
    ]
    assert answer["usage"]["completion_tokens"] == 20
    assert answer["usage"]["prompt_tokens"] > 273  # the image's, and the prompt's own


async def test_16_pages_of_all_modes_are_those_of_transformers_alone_and_together(
    stack: Stack, checkpoints: dict[str, Path]
) -> None:
    modes = ["tiny", "small", "base", "gundam"]
    pages = [page((600 + 40 * i, 800), seed=i) for i in range(16)]
    bodies = [EXACT | {"mode": modes[i % 4], "image_base64": data_url(image)} for i, image in enumerate(pages)]
    with httpx.Client(base_url=stack.url, timeout=120) as client, ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda body: client.post("/ocr", json=body).json()["raw"], bodies))
        batch = client.post("/ocr/batch", json={"requests": bodies}).json()
    assert batch["num_failed"] == 0
    assert [result["raw"] for result in batch["results"]] == together
    reference = Reference(OCR_ARCHITECTURE, checkpoints[OCR_ARCHITECTURE])
    for i, image in enumerate(pages):
        assert together[i] == reference.generate(reference.inputs(image, DeepseekOcrVision.modes[modes[i % 4]])), (
            i,
            modes[i % 4],
        )
    await nothing_left(stack, OCR_ARCHITECTURE)


def test_a_stream_says_what_the_whole_answer_says(http: httpx.Client) -> None:
    fields = {**EXACT, "mode": "tiny", "output": "text", "no_repeat_ngram_size": "0", "max_tokens": "60"}
    files = {"file": ("page.png", png(page((300, 200))))}
    whole = http.post("/ocr/file", data=fields, files=files).json()["text"]
    events = http.post("/ocr/stream?format=json", data=fields, files=files).text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    said = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(event["text"] for event in said if event["type"] == "text") == whole != ""


def test_a_pdf_is_read_page_by_page_in_order(http: httpx.Client) -> None:
    images = [page((300, 400), seed=i) for i in range(5)]
    file = io.BytesIO()
    images[0].save(file, "PDF", save_all=True, append_images=images[1:])
    fields = {"model": OCR_ARCHITECTURE, "mode": "tiny", "max_tokens": "30", "pages": "2-4", "dpi": "72"}
    answer = http.post("/ocr/file", data=fields, files={"file": ("a.pdf", file.getvalue())}).json()
    assert [(read["page"], read["width"], read["height"]) for read in answer["pages"]] == [
        (number, 300, 400) for number in (2, 3, 4)
    ]
    assert len({read["text"] for read in answer["pages"]}) == 3


def test_a_job_reads_a_pdf_to_its_end(http: httpx.Client) -> None:
    images = [page((300, 400), seed=i) for i in range(4)]
    file = io.BytesIO()
    images[0].save(file, "PDF", save_all=True, append_images=images[1:])
    fields = {"model": OCR_ARCHITECTURE, "mode": "tiny", "max_tokens": "30"}
    job = http.post("/ocr/jobs", data=fields, files={"file": ("a.pdf", file.getvalue())})
    assert job.status_code == 202
    with http.stream("GET", f"/ocr/jobs/{job.json()['id']}/events") as events:
        assert list(events.iter_lines())[-2] == "data: [DONE]"
    result = http.get(f"/ocr/jobs/{job.json()['id']}/result").json()
    whole = http.post("/ocr/file", data=fields, files={"file": ("a.pdf", file.getvalue())}).json()
    assert result["text"] == whole["text"]
    assert len(result["pages"]) == 4


async def test_images_in_a_chat(stack: Stack, http: httpx.Client) -> None:
    image = page((300, 200))
    content: Any = [
        {"type": "image_url", "image_url": {"url": data_url(image), "detail": "low"}},
        {"type": "text", "text": PROMPT.removeprefix("<image>\n")},
    ]
    request: Any = {"model": OCR_ARCHITECTURE, "messages": [{"role": "user", "content": content}], "temperature": 0}
    request |= {"max_tokens": NUM_TOKENS, "extra_body": {"skip_special_tokens": False}}
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(**request)
        chunks = await client.chat.completions.create(stream=True, **request)
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
    expected = http.post("/ocr", json=EXACT | {"mode": "small", "image_base64": data_url(image)}).json()["raw"]
    assert answer.choices[0].message.content == streamed == expected
    await nothing_left(stack, OCR_ARCHITECTURE)


def test_the_coder_says_that_it_reads_no_images(client: openai.OpenAI) -> None:
    content: Any = [{"type": "image_url", "image_url": {"url": data_url(page((40, 40)))}}]
    with pytest.raises(openai.BadRequestError, match="does not read images"):
        client.chat.completions.create(model="deepseek-coder", messages=[{"role": "user", "content": content}])


def test_mistrals_sdk(stack: Stack) -> None:
    document: Any = {"type": "image_url", "image_url": data_url(page((300, 200)))}
    with Mistral(api_key="none", server_url=stack.url) as client:
        answer = client.ocr.process(model="deepseek-ocr", document=document)
    assert [(read.index, read.dimensions.width if read.dimensions else None) for read in answer.pages] == [(0, 300)]
    assert answer.usage_info.pages_processed == 1


def test_the_command_line_reads_a_folder(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.png").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    options = ["--out", f"{tmp_path}/out", "--max-tokens", "20", "--url", stack.url]
    command = [sys.executable, "-m", "adapter", "ocr", f"{tmp_path}/in", *options]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "broken.png" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.txt", "1.txt", "2.txt"]
    assert all(path.read_text().strip() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"mode": "huge"}, 400, "mode"),
        ({"base_size": 100}, 400, "base_size"),
        ({"max_tokens": 100_000}, 400, "max_tokens"),
        ({"prompt": "<image><image>"}, 400, "prompt"),
        ({"image_base64": base64.b64encode(b"no image").decode()}, 400, "image_base64"),
        ({"image_base64": "data:text/html;base64,PGh0bWw+"}, 415, "image_base64"),
        ({"temperature": 3}, 400, "temperature"),
        ({"model": "deepseek-coder"}, 400, "model"),
    ],
)
def test_bad_requests_name_their_field(http: httpx.Client, fields: dict[str, Any], status: int, param: str) -> None:
    answer = http.post("/ocr", json={"image_base64": data_url(page((40, 40))), **fields})
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


def test_the_tensor_contract(stack: Stack) -> None:
    """Straight over gRPC, without the adapter: several images, their number, and what is refused."""
    greedy = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    tiny = {"mode": "tiny"}
    images = [png(page((300, 200), seed=i)) for i in range(2)]

    def ask(**inputs: Any) -> dict[str, Any]:
        [*_, last] = infer(stack, OCR_ARCHITECTURE, sampling_parameters=greedy, stream=False, **inputs)
        return last

    both = ask(text_input="<image>\n<image>\nBoth.", image=images, image_parameters=tiny, exclude_input_in_output=True)
    assert (both["num_output_tokens"], both["finish_reason"]) == ([8], [b"length"])
    one = ask(text_input="<image>\nBoth.", image=images[0], image_parameters=tiny, exclude_input_in_output=True)
    assert both["num_input_tokens"][0] - one["num_input_tokens"][0] == 73 + 1  # an image, and its line break
    assert "text_input: it has 1 <image> for 2 images" in ask(text_input="<image>", image=images)["error"]
    assert "image: 17 images are more than 16" in ask(text_input="<image>", image=images[:1] * 17)["error"]
    wide = [png(Image.new("1", (7000, 8000)))] * 2
    assert "image: 112000000 pixels are more than 100000000" in ask(text_input="<image><image>", image=wide)["error"]
    assert "image: it can't be read as an image" in ask(text_input="<image>", image=b"nothing")["error"]
    assert (
        "mode: there is no mode 'x'"
        in ask(text_input="<image>", image=images[0], image_parameters={"mode": "x"})["error"]
    )
    assert "text_input: give one of text_input and chat" in ask(image=images[0])["error"]


async def test_shared_memory_does_not_grow_with_pages(stack: Stack) -> None:
    body = EXACT | {"mode": "tiny", "image_base64": data_url(page((900, 1200)))}
    async with httpx.AsyncClient(base_url=stack.url, timeout=120) as client:

        async def burst() -> None:
            answers = await asyncio.gather(*(client.post("/ocr", json=body) for _ in range(24)))
            assert {answer.status_code for answer in answers} == {200}
            await nothing_left(stack, OCR_ARCHITECTURE)

        await burst()
        before = stack.shared_memory
        await burst()
        await burst()
    assert stack.shared_memory == before
