"""DeepSeek-OCR's prompts by name, and a user's own."""

import pytest

from adapter.errors import InvalidRequest
from adapter.ocr.templates import MAX_OBJECT_CHARACTERS, MAX_PROMPT_CHARACTERS, TEMPLATES, build_prompt

# As DeepSeek publishes them.
NAMED = {
    None: "<image>\nFree OCR.",
    "free": "<image>\nFree OCR.",
    "markdown": "<image>\n<|grounding|>Convert the document to markdown.",
    "grounding": "<image>\n<|grounding|>OCR this image.",
    "describe": "<image>\nDescribe this image in detail.",
    "figure": "<image>\nParse the figure.",
}


@pytest.mark.parametrize(("name", "text"), NAMED.items())
def test_a_template(name: str | None, text: str) -> None:
    assert build_prompt(name, None) == text


def test_every_template_is_tested() -> None:
    assert {name for name in NAMED if name} | {"locate"} == TEMPLATES.keys()


@pytest.mark.parametrize("wanted", ["the teacher", " the teacher\n", "{}", "{0.real}", "a < b | c", "先生"])
def test_locate(wanted: str) -> None:
    assert build_prompt("locate", wanted) == f"<image>\nLocate <|ref|>{wanted.strip()}<|/ref|> in the image."


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("Read it.", "<image>\nRead it."),
        ("<image>\nRead it.", "<image>\nRead it."),
        ("Read it: <image>", "Read it: <image>"),
        ("<image>", "<image>"),
        ("<image>\\nFree OCR.", "<image>\nFree OCR."),
        ("<image>\\n<|grounding|>Read \\nabla.", "<image>\n<|grounding|>Read \\nabla."),
        ("Find \\nabla.", "<image>\nFind \\nabla."),
        ("Free", "<image>\nFree"),
        (" free", "<image>\n free"),
        ("x" * MAX_PROMPT_CHARACTERS, "<image>\n" + "x" * MAX_PROMPT_CHARACTERS),
    ],
)
def test_a_text_of_one_s_own(text: str, prompt: str) -> None:
    assert build_prompt(text, None) == prompt


@pytest.mark.parametrize(
    ("prompt", "wanted", "param"),
    [
        ("", None, "prompt"),
        (" \n", None, "prompt"),
        ("x" * (MAX_PROMPT_CHARACTERS + 1), None, "prompt"),
        ("<image>\n<image>\nFree OCR.", None, "prompt"),
        ("locate", None, "object"),
        ("locate", "", "object"),
        ("locate", " ", "object"),
        ("locate", "x" * (MAX_OBJECT_CHARACTERS + 1), "object"),
        ("locate", "a<|/ref|>b", "object"),
        ("locate", "a|>", "object"),
        ("locate", "<image>", "object"),
        ("locate", "<｜end▁of▁sentence｜>", "object"),
        ("free", "a", "object"),
        ("Read it.", "a", "object"),
        (None, "a", "object"),
        (None, "", "object"),
    ],
)
def test_it_is_refused_by_name(prompt: str | None, wanted: str | None, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        build_prompt(prompt, wanted)
    assert error.value.param == param
    assert error.value.message.startswith(f"{param}: ")
