"""From what a client sends to the token ids of a prompt."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from engine.chat.answer import END_OF_THOUGHT, AnswerFormat
from engine.chat.schemas import parse_chat
from engine.chat.template import ChatTemplate
from engine.errors import InvalidRequest

FIM_TOKENS = ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>")
"""Before what precedes a gap, in its place, and behind what follows it: DeepSeek-Coder fills it in from there."""


_MANY_CHARACTERS = 16
"""For each token of the context: so much text is tokenized at once, for others wait meanwhile."""


class PromptEncoder:
    """Tokenizes prompts and chats with the checkpoint's own tokenizer and chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocab_size: int, max_context: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_context = max_context
        self._template = ChatTemplate(tokenizer)
        end_of_thought = tokenizer.encode(END_OF_THOUGHT, add_special_tokens=False)
        self.may_think = self._template.thinks and bool(end_of_thought) and max(end_of_thought) < vocab_size
        """Whether answers to chats may begin with a thought, and the model can end it."""
        vocabulary = tokenizer.get_vocab()
        self._missing_fim = [token for token in FIM_TOKENS if token not in vocabulary]
        longest = max(map(len, vocabulary))
        # No text longer than this fits; tokenizing megabytes to find that out would hold up everyone else.
        self._max_characters = max_context * longest

    def encode_text(self, text: str) -> list[int]:
        """Tokenize a raw prompt, with the special tokens that the tokenizer adds by itself.

        Raises:
            InvalidRequest: it is empty or longer than the context.
        """
        self._check_length("text_input", len(text))
        return self._check("text_input", self._tokenizer.encode(text))

    def encode_infill(self, before: str, after: str) -> list[int]:
        """Tokenize what surrounds a gap, for a checkpoint that was trained to fill it in.

        Raises:
            InvalidRequest: the checkpoint has no tokens for it, or both are longer than the context.
        """
        if self._missing_fim:
            text = f"this checkpoint fills no gaps: it has no token {self._missing_fim[0]}; leave it out"
            raise InvalidRequest("suffix", text)
        self._check_length("text_input", len(before) + len(after))
        begin, hole, end = FIM_TOKENS
        return self._check("text_input", self._tokenizer.encode(f"{begin}{before}{hole}{after}{end}"))

    def encode_chat(self, chat_json: bytes) -> tuple[list[int], AnswerFormat]:
        """Render a chat with the checkpoint's template and tokenize it; say how its answers are to be read.

        Raises:
            InvalidRequest: the JSON is not a chat, the template refuses it, it has images, or it is longer than the
                context.
        """
        tokens, answer_format = self._encode_chat(chat_json)
        return self._check("messages", tokens), answer_format

    def encode_ids(self, token_ids: list[int]) -> list[int]:
        """Check a prompt that comes as token ids.

        Raises:
            InvalidRequest: it is empty, has an id outside the vocabulary, or is longer than the context.
        """
        return self._check("input_ids", token_ids)

    def tokenize(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The tokens of a text, which need not fit into the context.

        Raises:
            InvalidRequest: it is so long that it can't.
        """
        most = _MANY_CHARACTERS * self._max_context
        if len(text) > most:
            raise InvalidRequest("text_input", f"it has more than {most} characters; send it in parts")
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return tokens

    def tokenize_chat(self, chat_json: bytes) -> list[int]:
        """The same of a chat.

        Raises:
            InvalidRequest: as `encode_chat`, but for the context.
        """
        return self._encode_chat(chat_json)[0]

    def spell(self, token_ids: list[int]) -> list[str]:
        """Each as the vocabulary spells it."""
        return list(self._tokenizer.convert_ids_to_tokens(token_ids))

    def detokenize(self, token_ids: list[int]) -> str:
        """The text of tokens, special ones too.

        Raises:
            InvalidRequest: an id is outside the vocabulary, or there are more than the context holds.
        """
        if len(token_ids) > self._max_context:
            text = f"{len(token_ids)} tokens exceed the context of {self._max_context}; send them in parts"
            raise InvalidRequest("input_ids", text)
        self._check_ids("input_ids", token_ids)
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _encode_chat(self, chat_json: bytes) -> tuple[list[int], AnswerFormat]:
        chat = parse_chat(chat_json)
        num_characters = 0
        for message in chat.messages:
            if not isinstance(message.content, str):
                raise InvalidRequest("messages", "this model reads no images; send each content as one text")
            num_characters += len(message.content)
        self._check_length("messages", num_characters)
        text, answer_format = self._template.render(chat)
        self._check_length("messages", len(text))
        return self._tokenizer.encode(text, add_special_tokens=False), answer_format

    def _check_length(self, field: str, num_characters: int) -> None:
        if num_characters > self._max_characters:
            raise InvalidRequest(
                field, f"{num_characters} characters can't fit into the context of {self._max_context} tokens"
            )

    def _check(self, field: str, token_ids: list[int]) -> list[int]:
        if not token_ids:
            raise InvalidRequest(field, "it holds no tokens; send at least one")
        self._check_ids(field, token_ids)
        if len(token_ids) > self._max_context:
            text = f"{len(token_ids)} tokens exceed the context of {self._max_context}; shorten it"
            raise InvalidRequest(field, text)
        return token_ids

    def _check_ids(self, field: str, token_ids: list[int]) -> None:
        # A tokenizer may know tokens that the weights have no row for.
        wrong = [token for token in token_ids if not 0 <= token < self._vocab_size]
        if wrong:
            raise InvalidRequest(field, f"token {wrong[0]} is outside the vocabulary of {self._vocab_size} tokens")
