from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from engine.errors import InvalidRequest
from engine.prompt import FIM_TOKENS, PromptEncoder
from tests.checkpoints import VOCAB_SIZE, train_tokenizer
from tests.engine.chat_templates import R1, R1_TOKENS

TOKENIZER = train_tokenizer()
ENCODER = PromptEncoder(TOKENIZER, VOCAB_SIZE, max_context=64)


def chat(*messages: object, **others: object) -> bytes:
    return json.dumps({"messages": messages, **others}).encode()


def test_a_chat_is_rendered_by_the_checkpoints_template() -> None:
    ids, _ = ENCODER.encode_chat(chat({"role": "user", "content": "hi"}))
    assert TOKENIZER.decode(ids) == "<｜begin▁of▁sentence｜>[user] hi\n[assistant]"


def test_an_answer_goes_on_with_the_last_message() -> None:
    turns = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "```python\n"}
    ids, _ = ENCODER.encode_chat(chat(*turns, continue_final_message=True))
    assert TOKENIZER.decode(ids) == "<｜begin▁of▁sentence｜>[user] hi\n[assistant] ```python\n"
    ids, _ = ENCODER.encode_chat(chat(*turns))
    assert TOKENIZER.decode(ids).endswith("[assistant] ```python\n\n[assistant]")


def test_who_may_think_can_end_a_thought() -> None:
    assert not ENCODER.may_think
    tokenizer = train_tokenizer(R1_TOKENS)
    tokenizer.chat_template = R1
    end = tokenizer.convert_tokens_to_ids("</think>")
    for vocab_size, may_think in ((end, False), (end + 1, True)):
        assert PromptEncoder(tokenizer, vocab_size, max_context=64).may_think is may_think
    of_few_words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    of_few_words.chat_template = R1
    assert not PromptEncoder(of_few_words, 1, max_context=64).may_think


def test_a_gap_lies_between_what_surrounds_it() -> None:
    tokenizer = train_tokenizer(FIM_TOKENS)
    encoder = PromptEncoder(tokenizer, VOCAB_SIZE, max_context=64)
    assert tokenizer.decode(encoder.encode_infill("a = ", "\nb")) == "<｜fim▁begin｜>a = <｜fim▁hole｜>\nb<｜fim▁end｜>"
    with pytest.raises(InvalidRequest, match="exceed the context of 64; shorten it"):
        encoder.encode_infill("word " * 50, "word " * 50)
    with pytest.raises(InvalidRequest, match="can't fit"):
        encoder.encode_infill("", "a" * 10**6)


def test_a_checkpoint_that_fills_no_gaps_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"^suffix: this checkpoint fills no gaps"):
        ENCODER.encode_infill("a", "b")


def test_text_and_ids() -> None:
    assert TOKENIZER.decode(ENCODER.encode_text("def f")) == "def f"
    assert ENCODER.encode_ids([5, 6]) == [5, 6]
    assert ENCODER.encode_ids([5] * 64) == [5] * 64


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{", "chat"),
        (b"[]", "chat"),
        (b"\xff", "chat"),
        (chat(), "messages"),
        (chat({"role": "user"}), "messages.0.content"),
        (chat({"role": "user", "content": 3}), "messages.0.content"),
        (chat({"role": "user", "content": "a", "mood": "b"}), "messages.0.mood"),
        (chat({"role": "user", "content": "a"}, tools=[{}]), "tools.0.type"),
        (chat({"role": "user", "content": "a"}, functions=[]), "functions"),
        (chat({"role": "wizard", "content": "a"}), "messages"),
        (chat({"role": "user", "content": "a"}, continue_final_message=True), "continue_final_message"),
        (chat({"role": "assistant", "content": ""}, continue_final_message=True), "continue_final_message"),
        (chat({"role": "user", "content": "a"}, continue_final_message=1), "continue_final_message"),
        (chat({"role": "user", "content": "word " * 100}), "messages"),
        (chat({"role": "user", "content": "a" * 10**6}), "messages"),
    ],
)
def test_a_bad_chat_is_refused_by_name(data: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ENCODER.encode_chat(data)
    assert caught.value.field == field


def test_a_bad_prompt_is_refused() -> None:
    for text, says in (("", "holds no tokens"), ("word " * 100, "exceed the context"), ("a" * 10**6, "can't fit")):
        with pytest.raises(InvalidRequest, match=f"^text_input: .*{says}"):
            ENCODER.encode_text(text)
    for ids, says in (
        ([], "holds no tokens"),
        ([5] * 65, "exceed the context"),
        ([VOCAB_SIZE], "outside the vocabulary"),
        ([-1], "outside"),
    ):
        with pytest.raises(InvalidRequest, match=f"^input_ids: .*{says}"):
            ENCODER.encode_ids(ids)


def test_no_template_is_said() -> None:
    tokenizer = train_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(InvalidRequest, match=r"^chat: this checkpoint has no chat template"):
        PromptEncoder(tokenizer, VOCAB_SIZE, 64).encode_chat(chat({"role": "user", "content": "hi"}))


def test_a_token_without_a_row_in_the_weights_is_refused() -> None:
    tokenizer = train_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    with pytest.raises(InvalidRequest, match=rf"^text_input: token {VOCAB_SIZE} is outside the vocabulary"):
        PromptEncoder(tokenizer, VOCAB_SIZE, 64).encode_text("a <extra>")
