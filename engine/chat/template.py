"""Renders chats with a checkpoint's own template, and knows what the template knows."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from jinja2 import TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerFast

from engine.chat.answer import END_OF_THOUGHT, THINK, AnswerFormat
from engine.chat.schemas import Chat, Function, Message, NamedTool
from engine.chat.tool_syntax import syntax_of
from engine.errors import InvalidRequest

_GENERATION_MARKS = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
"""Of transformers' own, for training; jinja2 does not know them."""
_TEMPLATES_OWN = {"messages", "tools", "documents", "add_generation_prompt", "chat_template", "tokenize"}
_TEMPLATES_OWN |= {"raise_exception", "strftime_now"}
"""Variables that are not for clients to set."""
_THINKING = ("enable_thinking", "thinking")
"""What templates call the switch."""


class ChatTemplate:
    """A checkpoint's chat template. What it does not know of, calls for one, is written into the messages' texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        template = tokenizer.chat_template or ""
        source = "\n".join(template.values()) if isinstance(template, dict) else str(template)
        self._exists = bool(source)
        self._variables = _variables(source)
        self._knows_calls = "tool_calls" in source
        self.thinks = END_OF_THOUGHT in source or THINK in source
        """Whether answers may begin with a thought."""
        self._syntax = syntax_of(source, tokenizer.get_vocab())

    def render(self, chat: Chat) -> tuple[str, AnswerFormat]:
        """The prompt's text, and how its answers are to be read.

        Raises:
            InvalidRequest: there is no template, or it refuses the chat or does not know what is asked of it.
        """
        if not self._exists:
            raise InvalidRequest("chat", "this checkpoint has no chat template; send a plain prompt instead")
        last = chat.messages[-1]
        continues = chat.continue_final_message
        resumes_thought = continues and bool(last.reasoning_content)
        if resumes_thought:
            self._check_resumed(chat, last)
            chat = chat.model_copy(update={"thinking": True})
        variables = self._template_variables(chat)
        functions = [tool.function for tool in chat.tools] if chat.tool_choice != "none" else []
        if functions and "tools" in self._variables:
            # Whether it is strict is nothing for the model to know.
            dumped = (tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in chat.tools)
            variables["tools"] = list(dumped)
        messages = self._messages(chat.messages[:-1] if resumes_thought else chat.messages)
        if functions and "tools" not in self._variables:
            messages = _with_system(messages, self._syntax.describe(functions))
        text = self._apply(messages, continues and not resumes_thought, variables)
        if resumes_thought:
            text = _resume(text, last)
        return text, self._answer_format(chat, functions, text)

    def _check_resumed(self, chat: Chat, last: Message) -> None:
        place = f"messages.{len(chat.messages) - 1}"
        if not self.thinks:
            text = "this checkpoint does not think before it answers; leave it out"
            raise InvalidRequest(f"{place}.reasoning_content", text)
        if last.tool_calls:
            raise InvalidRequest(f"{place}.tool_calls", "a thought is gone on with, not what came behind it")
        if chat.thinking is False:
            raise InvalidRequest("thinking", "a thought is to be gone on with; leave it out, or enable it")

    def _template_variables(self, chat: Chat) -> dict[str, Any]:
        variables = dict(chat.chat_template_kwargs)
        for name in variables:
            if name not in self._variables - _TEMPLATES_OWN - self._tokenizer.special_tokens_map.keys():
                text = f"the checkpoint's chat template has no switch {name[:80]!r}; leave it out"
                raise InvalidRequest("chat_template_kwargs", text)
        if chat.thinking is not None:
            variables |= self._thinking(chat.thinking)
        if chat.reasoning_effort is not None:
            if "reasoning_effort" not in self._variables:
                text = "this checkpoint thinks as long as it will; leave it out"
                raise InvalidRequest("reasoning_effort", text)
            variables["reasoning_effort"] = chat.reasoning_effort
        return variables

    def _thinking(self, thinks: bool) -> dict[str, bool]:
        switch = next((name for name in _THINKING if name in self._variables), None)
        if switch:
            return {switch: thinks}
        if thinks != self.thinks:
            text = "always thinks" if self.thinks else "does not think"
            raise InvalidRequest("thinking", f"this checkpoint {text} before it answers; leave it out")
        return {}

    def _thinking_behind(self, prompt: str, resumed: Message | None) -> Literal["begun", "possible"] | None:
        """`resumed`: the message that the answer goes on with."""
        if not self.thinks:
            return None
        if resumed:
            return "begun" if resumed.reasoning_content and not resumed.content else None
        if prompt.rstrip().endswith(THINK):
            return "begun"
        return None if prompt.rstrip().endswith(END_OF_THOUGHT) else "possible"

    def _messages(self, messages: list[Message]) -> list[dict[str, Any]]:
        rendered: list[dict[str, Any]] = []
        for message in messages:
            turn = message.model_dump(exclude_none=True, exclude={"tool_calls"})
            if message.tool_calls and self._knows_calls:
                turn["content"] = message.content or None
                turn["tool_calls"] = [self._call(call.model_dump()) for call in message.tool_calls]
            elif message.tool_calls:
                calls = self._syntax.write(
                    [(call.function.name, call.function.arguments or "{}") for call in message.tool_calls]
                )
                turn["content"] = f"{message.content}\n{calls}" if message.content else calls
            elif message.role == "tool" and not self._knows_calls:
                turn = {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
                if rendered and rendered[-1].get("is_result"):
                    rendered[-1]["content"] += f"\n{turn['content']}"
                    continue
                turn["is_result"] = True
            rendered.append(turn)
        return [{name: value for name, value in turn.items() if name != "is_result"} for turn in rendered]

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        if not self._syntax.has_text_arguments:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
        return call

    def _apply(self, messages: list[dict[str, Any]], continues: bool, variables: dict[str, Any]) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not continues,
                continue_final_message=continues,
                **variables,
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise InvalidRequest("messages", f"the checkpoint's chat template refuses them: {error}") from error
        return str(text)

    def _answer_format(self, chat: Chat, functions: list[Function], text: str) -> AnswerFormat:
        choice = chat.tool_choice
        if isinstance(choice, NamedTool):
            functions = [function for function in functions if function.name == choice.name]
        return AnswerFormat(
            self._thinking_behind(text, chat.messages[-1] if chat.continue_final_message else None),
            self._syntax if functions else None,
            tuple(functions),
            must_call=choice not in ("none", "auto"),
            is_parallel=chat.parallel_tool_calls,
        )


def _resume(text: str, message: Message) -> str:
    """A prompt, as far as the answer's beginning, with a thought to go on with, and what was said after it."""
    if text.rstrip().endswith(END_OF_THOUGHT):  # one that the template closes at once
        text = text[: text.rindex(THINK)] if THINK in text else text.rstrip().removesuffix(END_OF_THOUGHT)
    if not text.rstrip().endswith(THINK):
        text += f"{THINK}\n"
    text += message.reasoning_content or ""
    return f"{text}\n{END_OF_THOUGHT}\n\n{message.content}" if message.content else text


def _with_system(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Messages with `text` at the end of the system's, which comes first."""
    first = messages[0] if messages else {}
    if first.get("role") != "system":
        return [{"role": "system", "content": text}, *messages]
    before = f"{first['content']}\n\n" if first["content"] else ""
    return [{**first, "content": before + text}, *messages[1:]]


def _variables(source: str) -> set[str]:
    """What a template asks for."""
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    try:
        found = meta.find_undeclared_variables(environment.parse(_GENERATION_MARKS.sub("", source)))
        return found - environment.globals.keys()
    except TemplateSyntaxError:
        return set()  # transformers will say so, when it is rendered
