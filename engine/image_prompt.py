"""Prompts with images: DeepSeek-OCR's are raw texts in which a mark stands for each image."""

from __future__ import annotations

from engine.chat.schemas import Message, parse_chat
from engine.checkpoint import IMAGE_MARK, Checkpoint
from engine.errors import InvalidRequest
from engine.images import ViewLayout
from engine.prompt import PromptEncoder
from engine.request import Prompt, PromptImage

_ONLY_READS = "these models only read what is in images; leave it out"


class ImagePromptEncoder(PromptEncoder):
    """Gives every image of a prompt the tokens it needs, for a checkpoint that reads images."""

    def __init__(self, checkpoint: Checkpoint, max_context: int) -> None:
        super().__init__(checkpoint.tokenizer, checkpoint.vocab_size, max_context)
        assert checkpoint.vision is not None and checkpoint.image_token_id is not None
        self._vision = checkpoint.vision
        self._image_token_id = checkpoint.image_token_id
        self._start = [] if checkpoint.bos_token_id is None else [checkpoint.bos_token_id]

    def encode_raw(self, field: str, text: str, images: list[ViewLayout]) -> Prompt:
        """Tokenize a raw prompt, after the token that begins every text. The images' pixels are not needed yet.

        Raises:
            InvalidRequest: `<image>`s and images differ in number, or it is longer than the context.
        """
        self._check_length(field, len(text))
        pieces = text.split(IMAGE_MARK)
        if len(pieces) != len(images) + 1:
            raise InvalidRequest(field, f"it has {len(pieces) - 1} {IMAGE_MARK} for {len(images)} images")
        tokens = self._start + self._encode(pieces[0])
        placed = []
        for layout, piece in zip(images, pieces[1:], strict=True):
            num_tokens = self._vision.num_tokens(layout)
            placed.append(PromptImage(layout, len(tokens), num_tokens))
            tokens += [self._image_token_id] * num_tokens + self._encode(piece)
        return Prompt(self._check(field, tokens), tuple(placed))

    def encode_messages(self, chat_json: bytes, images: list[ViewLayout]) -> Prompt:
        """Join the messages of a chat to a raw prompt: these models know no roles and no names.

        Raises:
            InvalidRequest: the JSON is not a chat, or see `encode_raw`.
        """
        chat = parse_chat(chat_json)
        if chat.continue_final_message:
            raise InvalidRequest("continue_final_message", "these models know no roles; leave it out")
        for field in ("tools", "thinking", "reasoning_effort", "chat_template_kwargs"):
            if getattr(chat, field):
                raise InvalidRequest(field, _ONLY_READS)
        messages = chat.messages
        for i, message in enumerate(messages):
            for field in ("tool_calls", "tool_call_id", "reasoning_content"):
                if getattr(message, field):
                    raise InvalidRequest(f"messages.{i}.{field}", _ONLY_READS)
        text = "\n".join(_text(message, image_mark="") for message in messages)
        if IMAGE_MARK not in text:  # else the client has placed the images in its own texts
            text = "\n".join(_text(message, f"{IMAGE_MARK}\n") for message in messages)
        return self.encode_raw("messages", text, images)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def _text(message: Message, image_mark: str) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(image_mark if part.type == "image" else part.text for part in message.content)
