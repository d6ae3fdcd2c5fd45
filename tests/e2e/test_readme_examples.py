"""README's examples, run as they stand, against the demo checkpoint."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from demo.ocr import sample
from demo.readme import SHOWN, refresh
from demo.readme import run as run_example
from tests.e2e.stack import PROJECT, Stack
from tests.e2e.test_openai_sdk import sorts

README = (PROJECT / "README.md").read_text()
CURLS = re.findall(r"^curl (?:.*\\\n)*.*$", README, re.MULTILINE)


def run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_what_readme_shows_is_what_its_examples_say_now(stack: Stack) -> None:
    """Not to the letter: another CPU rounds otherwise."""
    chat, page = SHOWN.finditer(README)
    for said in (chat["output"], run_example(chat["language"], chat["code"], stack.url)):
        assert sorts(said)
    for read in (page["output"], run_example(page["language"], page["code"], stack.url)):
        assert sample.TITLE in read
        assert sample.DATE in read


def test_refreshing_readme_changes_the_outputs_alone() -> None:
    refreshed = refresh(README, lambda *_: "anew\n")
    assert {example["output"] for example in SHOWN.finditer(refreshed)} == {"anew\n"}
    shown = iter(example["output"] for example in SHOWN.finditer(README))
    assert refresh(refreshed, lambda *_: next(shown)) == README


def test_there_is_a_curl_for_each_endpoint() -> None:
    paths = [re.search(r"localhost:8000(/\S*)", curl) for curl in CURLS]
    assert {path[1] for path in paths if path} == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/tokenize",
        "/detokenize",
        "/v1/gpu/info",
        "/v1/responses",
        "/v1/messages",
        "/v1/models",
        "/v1/models/deepseek-coder",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/user/balance",
        "/ocr",
        "/ocr/file",
        "/ocr/stream",
        "/ocr/batch",
        "/ocr/jobs",
        "/v1/ocr",
    }


@pytest.mark.parametrize("curl", CURLS, ids=lambda curl: curl.split()[1].rsplit("8000")[-1])
def test_the_curl_examples_answer(stack: Stack, curl: str) -> None:
    command = curl.replace("curl ", "curl --silent --fail-with-body ", 1).replace("http://localhost:8000", stack.url)
    begin = {"/ocr/stream": "data: ", "/metrics": "# HELP"}
    begun = next((begun for path, begun in begin.items() if path in curl), "{")
    assert run(["bash", "-c", command]).startswith(begun)


def test_the_printed_curl_gives_a_function_that_sorts(stack: Stack) -> None:
    """`up` again prints it; what it prints is what is run."""
    [printed] = re.findall(r"curl http.*?}'$", stack.up(), re.DOTALL | re.MULTILINE)
    answer = json.loads(run(["bash", "-c", printed.replace("curl ", "curl --silent --fail-with-body ", 1)]))
    assert sorts(answer["choices"][0]["message"]["content"])
