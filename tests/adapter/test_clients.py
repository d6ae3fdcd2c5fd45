"""What others build on this API see what they expect: LangChain's clients of OpenAI and DeepSeek, and LiteLLM."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapter.conftest import Adapter
from tests.adapter.fake_triton import USAGE, FakeTriton, answer

with warnings.catch_warnings():  # of their own dependencies
    warnings.simplefilter("ignore")
    import litellm
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_deepseek import ChatDeepSeek
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

pytestmark = pytest.mark.filterwarnings("ignore")


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"18 degrees in {city}"


class Person(BaseModel):
    """Somebody."""

    name: str


def says_call(triton: FakeTriton, name: str = "weather", arguments: str = '{"city": "Paris"}') -> None:
    triton.replies(
        answer("", reasoning="Hmm."),
        answer("", calls=[{"index": 0, "name": name, "arguments": arguments[:5]}]),
        answer("", calls=[{"index": 0, "arguments": arguments[5:]}]),
        answer("", finish="tool_calls", usage=USAGE, num_reasoning_tokens=1),
    )


@pytest.fixture(params=["openai", "deepseek"])
def model(request: pytest.FixtureRequest, session_adapter: Adapter, triton: FakeTriton) -> Any:
    options: dict[str, Any] = {"model": "deepseek-coder", "api_key": "none", "max_retries": 0}
    if request.param == "openai":
        return ChatOpenAI(base_url=f"{session_adapter.url}/v1", **options)
    return ChatDeepSeek(api_base=session_adapter.url, **options)


def test_langchain_asks_and_streams(model: Any, triton: FakeTriton) -> None:
    said = model.invoke([HumanMessage("hi")])
    assert said.content == "Hello world"
    assert said.usage_metadata["input_tokens"] == 5
    assert said.usage_metadata["input_token_details"]["cache_read"] == 2
    assert "".join(chunk.content for chunk in model.stream("hi")) == "Hello world"


def test_langchain_calls_tools_and_tells_their_results(model: Any, triton: FakeTriton) -> None:
    says_call(triton)
    bound = model.bind_tools([weather], tool_choice="weather")
    for said in (bound.invoke("Paris?"), streamed(bound, "Paris?")):
        [call] = said.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    assert triton.seen[0].chat["tool_choice"] == {"name": "weather"}
    triton.says("18 degrees.")
    asked = [HumanMessage("Paris?"), said, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert bound.invoke(asked).content == "18 degrees."
    assert [turn["role"] for turn in triton.seen[-1].chat["messages"]] == ["user", "assistant", "tool"]


def streamed(model: Any, question: str) -> AIMessage:
    chunks: Iterator[Any] = iter(model.stream(question))
    whole = next(chunks)
    for chunk in chunks:
        whole += chunk
    assert isinstance(whole, BaseMessage)
    return whole  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_s_structured_output(model: Any, triton: FakeTriton, method: str) -> None:
    if method == "json_schema":
        triton.says('{"name"', ': "Ada"}')
    else:
        says_call(triton, "Person", '{"name": "Ada"}')
    if isinstance(model, ChatDeepSeek) and method == "json_schema":
        method = "function_calling"  # what that client makes of it
        says_call(triton, "Person", '{"name": "Ada"}')
    assert model.with_structured_output(Person, method=method).invoke("Who?") == Person(name="Ada")


def test_deepseek_s_client_sees_thoughts(session_adapter: Adapter, triton: FakeTriton) -> None:
    triton.replies(answer("Yes.", reasoning="Hmm."), answer("", finish="stop", usage=USAGE, num_reasoning_tokens=1))
    model = ChatDeepSeek(model="deepseek-reasoner", api_base=session_adapter.url, api_key="none", max_retries=0)
    said = model.invoke("?")
    assert (said.content, said.additional_kwargs["reasoning_content"]) == ("Yes.", "Hmm.")
    assert streamed(model, "?").additional_kwargs["reasoning_content"] == "Hmm."


@pytest.mark.parametrize("provider", ["openai", "deepseek"])
def test_litellm(session_adapter: Adapter, triton: FakeTriton, provider: str) -> None:
    base = f"{session_adapter.url}/v1" if provider == "openai" else session_adapter.url
    asked: dict[str, Any] = {"model": f"{provider}/deepseek-chat", "api_base": base, "api_key": "none"}
    asked |= {"messages": [{"role": "user", "content": "hi"}], "num_retries": 0}
    said: Any = litellm.completion(**asked)
    assert said.choices[0].message.content == "Hello world"
    assert said.usage.prompt_tokens == 5
    chunks: Any = litellm.completion(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    says_call(triton)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    said = litellm.completion(**asked, tools=tools, tool_choice="required")
    assert said.choices[0].message.tool_calls[0].function.arguments == '{"city": "Paris"}'
    assert said.choices[0].message.reasoning_content == "Hmm."
    rebuilt: Any = litellm.stream_chunk_builder(list(litellm.completion(**asked, tools=tools, stream=True)))  # type: ignore[arg-type]
    assert rebuilt.choices[0].message.tool_calls[0].function.arguments == '{"city": "Paris"}'
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(**asked, temperature=9)
