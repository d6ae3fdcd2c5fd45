"""DeepSeek-OCR's prompts: its templates by name, and a user's own text made into one."""

from adapter.errors import InvalidRequest

IMAGE = "<image>"
"""Where the page stands in a prompt."""
LOCATE = "locate"
TEMPLATES = {
    "free": "<image>\nFree OCR.",
    "markdown": "<image>\n<|grounding|>Convert the document to markdown.",
    "grounding": "<image>\n<|grounding|>OCR this image.",
    "describe": "<image>\nDescribe this image in detail.",
    "figure": "<image>\nParse the figure.",
    LOCATE: "<image>\nLocate <|ref|>{}<|/ref|> in the image.",
}
MAX_PROMPT_CHARACTERS = 20_000
MAX_OBJECT_CHARACTERS = 1000
# What could end the ref or be read as one of the model's special tokens: some of them are spelled with a wide bar.
_NOT_IN_OBJECT = ("<|", "|>", "<｜", "｜>", IMAGE)


def build_prompt(prompt: str | None, object: str | None) -> str:
    """Return what the model reads for one page, with `<image>` in it exactly once.

    `prompt` is a template's name or the user's own text; without one it is `free`. `object` is what `locate` looks for.

    Raises:
        InvalidRequest: naming `prompt` or `object`.
    """
    if prompt == LOCATE:
        return TEMPLATES[LOCATE].format(_object(object))
    if object is not None:
        raise InvalidRequest(f'object: is only for prompt "{LOCATE}"; leave it out', param="object")
    if prompt is None:
        return TEMPLATES["free"]
    return TEMPLATES[prompt] if prompt in TEMPLATES else _own(prompt)


def _object(text: str | None) -> str:
    if text is None or not text.strip():
        raise InvalidRequest(f'object: say what prompt "{LOCATE}" has to find', param="object")
    if len(text) > MAX_OBJECT_CHARACTERS:
        raise InvalidRequest(f"object: must have at most {MAX_OBJECT_CHARACTERS} characters", param="object")
    for refused in _NOT_IN_OBJECT:
        if refused in text:
            raise InvalidRequest(f"object: must not hold {refused}, a part of special tokens", param="object")
    return text.strip()


def _own(text: str) -> str:
    if not text.strip():
        raise InvalidRequest("prompt: is empty; leave it out for Free OCR", param="prompt")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(f"prompt: must have at most {MAX_PROMPT_CHARACTERS} characters", param="prompt")
    num_images = text.count(IMAGE)
    if num_images > 1:
        raise InvalidRequest(f"prompt: must hold {IMAGE} at most once, since each page is read alone", param="prompt")
    if not num_images:
        return f"{IMAGE}\n{text}"
    # curl's -F "prompt=<image>\nFree OCR." sends a backslash and an n.
    return text.replace(f"{IMAGE}\\n", f"{IMAGE}\n")
