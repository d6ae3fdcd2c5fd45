"""Chats in the words of their checkpoints: tools, calls, results, thoughts, and what a template has no words for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.chat.answer import AnswerFormat
from engine.chat.schemas import parse_chat
from engine.chat.template import ChatTemplate
from engine.chat.tool_syntax import DEEPSEEK, DEEPSEEK_V31, HERMES
from engine.errors import InvalidRequest
from tests.checkpoints import CHAT_TEMPLATE, train_tokenizer
from tests.engine.chat_templates import EFFORT, QWEN3, R1, V31

USER = {"role": "user", "content": "Weather?"}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Of a city.", "parameters": {"type": "object", "x": "y"}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
HISTORY = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "18 degrees", "tool_call_id": "call_1"},
]


def render(template: str | None, *messages: dict[str, Any], **others: Any) -> tuple[str, AnswerFormat]:
    tokenizer = train_tokenizer()
    tokenizer.chat_template = template
    chat = {"messages": list(messages), **others}
    text, answer_format = ChatTemplate(tokenizer).render(parse_chat(json.dumps(chat).encode()))
    return text.removeprefix("<｜begin▁of▁sentence｜>"), answer_format


def refusal(template: str | None, *messages: dict[str, Any], **others: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        render(template, *messages, **others)
    return caught.value.field


def test_a_template_that_knows_tools_gets_them() -> None:
    text, answer_format = render(QWEN3, USER, tools=[TOOL])
    assert json.dumps(TOOL) in text
    assert text.count("# Tools") == 1
    assert answer_format.syntax is HERMES
    assert [function.name for function in answer_format.functions] == ["weather"]
    assert not answer_format.must_call
    assert not answer_format.holds_calls


def test_one_that_does_not_is_told_in_the_system_s_message() -> None:
    text, answer_format = render(R1, {"role": "system", "content": "Be brief."}, USER, tools=[TOOL])
    assert text.startswith("Be brief.\n\n## Tools")
    assert "### weather\nDescription: Of a city." in text
    assert '{"type": "object", "x": "y"}' in text
    assert answer_format.syntax is DEEPSEEK
    text, answer_format = render(CHAT_TEMPLATE, USER, tools=[TOOL])
    assert text.startswith("[system] # Tools")
    assert answer_format.syntax is HERMES
    assert render(V31, USER, tools=[TOOL])[1].syntax is DEEPSEEK_V31


def test_calls_and_results_in_the_template_s_own_words() -> None:
    text, _ = render(R1, *HISTORY)
    assert (
        "<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
        '```json\n{"city": "Paris"}'
        "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜tool▁output▁begin｜>18 degrees<｜tool▁output▁end｜>"
    ) in text
    text, _ = render(QWEN3, *HISTORY)
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>' in text


def test_calls_and_results_in_texts_where_it_has_no_words_for_them() -> None:
    second = {"role": "tool", "content": "rain", "tool_call_id": "call_2"}
    text, _ = render(CHAT_TEMPLATE, *HISTORY, second)
    assert text == (
        '[user] Weather?\n[assistant] <tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
        "[user] <tool_response>\n18 degrees\n</tool_response>\n<tool_response>\nrain\n</tool_response>\n[assistant]"
    )


def test_which_calls_an_answer_may_have() -> None:
    other = {"type": "function", "function": {"name": "now"}}
    text, answer_format = render(QWEN3, USER, tools=[TOOL, other], tool_choice={"name": "now"})
    assert "weather" in text, "the model is told of all"
    assert [function.name for function in answer_format.functions] == ["now"]
    assert answer_format.must_call
    assert render(QWEN3, USER, tools=[TOOL], tool_choice="required")[1].holds_calls
    assert render(QWEN3, USER, tools=[TOOL], parallel_tool_calls=False)[1].holds_calls
    strict = {"type": "function", "function": {"name": "now", "strict": True}}
    assert render(QWEN3, USER, tools=[strict])[1].holds_calls
    text, answer_format = render(QWEN3, USER, tools=[TOOL], tool_choice="none")
    assert "weather" not in text
    assert answer_format.syntax is None


def test_thoughts() -> None:
    assert render(R1, USER)[1].thinking == "begun"
    assert render(R1, USER)[0].endswith("<think>\n")
    assert render(V31, USER)[1].thinking is None, "the prompt says that there was no thought"
    assert render(V31, USER, thinking=True) == ("<｜User｜>Weather?<｜Assistant｜><think>", AnswerFormat("begun"))
    assert render(QWEN3, USER)[1].thinking == "possible"
    assert render(QWEN3, USER, thinking=False)[0].endswith("<think>\n\n</think>\n\n")
    assert render(QWEN3, USER, chat_template_kwargs={"enable_thinking": False})[0].endswith("</think>\n\n")
    assert render(CHAT_TEMPLATE, USER)[1].is_plain
    assert render(CHAT_TEMPLATE, USER, thinking=False)[1].is_plain
    assert render(EFFORT, USER, reasoning_effort="high")[0].endswith("high")


def test_who_thinks() -> None:
    """Also where an answer has no thought."""
    for template, thinks in ((R1, True), (V31, True), (QWEN3, True), (CHAT_TEMPLATE, False)):
        tokenizer = train_tokenizer()
        tokenizer.chat_template = template
        assert ChatTemplate(tokenizer).thinks is thinks


def test_a_thought_is_resumed() -> None:
    prefix = {"role": "assistant", "content": "", "reasoning_content": "Hmm"}
    text, answer_format = render(R1, USER, prefix, continue_final_message=True)
    assert text.endswith("<｜Assistant｜><think>\nHmm")
    assert answer_format.thinking == "begun"
    said = {**prefix, "content": "It is"}
    text, answer_format = render(R1, USER, said, continue_final_message=True)
    assert text.endswith("<think>\nHmm\n</think>\n\nIt is")
    assert answer_format.thinking is None
    text, _ = render(QWEN3, USER, prefix, continue_final_message=True)
    assert text.endswith("<|im_start|>assistant\n<think>\nHmm")


def test_a_user_s_mark_is_no_thought() -> None:
    asked = {"role": "user", "content": "What does <think> do?"}
    assert render(QWEN3, asked)[1].thinking == "possible"
    assert render(V31, asked)[1].thinking is None


def test_a_thought_is_resumed_where_the_template_would_close_it() -> None:
    prefix = {"role": "assistant", "content": "", "reasoning_content": "Hmm"}
    text, answer_format = render(V31, USER, prefix, continue_final_message=True)
    assert text == "<｜User｜>Weather?<｜Assistant｜><think>Hmm" or text.endswith("<｜Assistant｜><think>\nHmm")
    assert answer_format.thinking == "begun"
    assert refusal(QWEN3, USER, prefix, continue_final_message=True, thinking=False) == "thinking"


def test_earlier_thoughts_go_where_the_template_wants_them() -> None:
    said = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hmm"}
    assert "<think>\nHmm\n</think>\n\nYes." in render(QWEN3, USER, said, USER)[0]
    assert "Hmm" not in render(R1, USER, said, USER)[0]


@pytest.mark.parametrize(
    ("template", "others", "field"),
    [
        (None, {}, "chat"),
        (CHAT_TEMPLATE, {"thinking": True}, "thinking"),
        (R1, {"thinking": False}, "thinking"),
        (QWEN3, {"reasoning_effort": "low"}, "reasoning_effort"),
        (QWEN3, {"chat_template_kwargs": {"mood": 1}}, "chat_template_kwargs"),
        (QWEN3, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        (R1, {"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs"),
        (QWEN3, {"chat_template_kwargs": {"namespace": 1}}, "chat_template_kwargs"),
        (
            QWEN3,
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
            "tools.0.function",
        ),
        (QWEN3, {"tool_choice": "required"}, "tool_choice"),
        (QWEN3, {"tools": [TOOL], "tool_choice": {"name": "x"}}, "tool_choice"),
        (QWEN3, {"tools": [TOOL, TOOL]}, "tools"),
        (QWEN3, {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
    ],
)
def test_what_is_refused(template: str | None, others: dict[str, Any], field: str) -> None:
    assert refusal(template, USER, **others) == field


def test_a_thought_is_no_prefix_where_nobody_thinks() -> None:
    prefix = {"role": "assistant", "content": "", "reasoning_content": "Hmm"}
    assert refusal(CHAT_TEMPLATE, USER, prefix, continue_final_message=True) == "messages.1.reasoning_content"
    bad = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}
    assert refusal(CHAT_TEMPLATE, USER, bad) == "messages.1.tool_calls.0.function"
