"""Agents of five frameworks, unmodified but for the base URL; each calls a tool and answers.

What the model says is scripted where a sure answer is needed; one agent runs on the real model.
"""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from openai import APIStatusError, OpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from smolagents import OpenAIModel, ToolCallingAgent, tool

import agents
from scripted_endpoint import Endpoint, Reply
from served_gateway import Served, endpoint_pool, serving

QUESTION = "What is the weather in Paris?"


def weather(city: str) -> str:
    """Tell the weather of a city.

    Args:
        city: its name.
    """
    return f"{city}: 18 degrees and sunny"


def script(asked: Reply) -> Reply:
    """Call the tool first, then tell what it gave."""
    names = [tool["function"]["name"] for tool in asked.get("tools", [])]
    last = asked["messages"][-1]
    content = last["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    if last["role"] != "tool" and "Observation:" not in text:
        return {"tool_calls": [("weather", {"city": "Paris"})]}
    if "final_answer" in names:
        return {"tool_calls": [("final_answer", {"answer": f"It is {text}"})]}
    return {"content": f"It is {text}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    far = Endpoint(script)
    with far.served():
        folder = tmp_path_factory.mktemp("sdks")
        with serving(folder, endpoint_pool(far.address)) as found:
            found.far = far
            yield found


@pytest.fixture(autouse=True)
def _by_environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point the frameworks at the gateway as their users would, and forget what they leave open."""
    monkeypatch.setenv("OPENAI_BASE_URL", served.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def check(served: Served, text: str) -> None:
    assert "18 degrees and sunny" in text
    steps = served.call(lambda: list(served.gateway.journal.steps()))
    assert {step.outcome for step in steps} == {"ok"}


def test_langgraph(served: Served) -> None:

    model = ChatOpenAI(model="auto").bind_tools([weather])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, ["tools", END])
    graph.add_edge("tools", "model")
    result = graph.compile().invoke({"messages": [("user", QUESTION)]})
    check(served, result["messages"][-1].content)


def test_openai_agents(served: Served) -> None:

    tool = agents.function_tool(weather)
    agent = agents.Agent(name="clerk", instructions="Be short.", tools=[tool], model="auto")

    async def main() -> tuple[str, list[str]]:
        whole = await agents.Runner.run(agent, QUESTION)
        streamed = agents.Runner.run_streamed(agent, QUESTION)
        kinds = [event.type async for event in streamed.stream_events()]
        assert streamed.final_output == whole.final_output
        return whole.final_output, kinds

    text, kinds = asyncio.run(main())
    check(served, text)
    assert "raw_response_event" in kinds


def test_pydantic_ai(served: Served) -> None:

    class City(BaseModel):
        name: str

    def run(model: str, **options: Any) -> Any:
        async def main() -> Any:
            agent = Agent(model, **options)
            async with agent:
                return (await agent.run(QUESTION)).output

        return asyncio.run(main())

    check(served, run("openai-chat:auto", tools=[weather]))
    check(served, run("openai-responses:auto", tools=[weather]))
    served.far.reply = lambda _asked: {"tool_calls": [("final_result", {"name": "Paris"})]}
    try:
        assert run("openai-chat:auto", output_type=City) == City(name="Paris")
    finally:
        served.far.reply = script


def test_smolagents(served: Served) -> None:

    model = OpenAIModel(model_id="auto", api_base=served.base_url, api_key="none")
    agent = ToolCallingAgent(tools=[tool(weather)], model=model, max_steps=3, verbosity_level=0)
    check(served, str(agent.run(QUESTION)))


def test_the_openai_client_on_the_real_model(tmp_path: Path, local_model: Path) -> None:

    with serving(tmp_path) as here:
        client = OpenAI(base_url=here.base_url, api_key="none", max_retries=0)
        model = "smollm2-135m-instruct"
        assert [m.id for m in client.models.list()][:4] == [
            "auto",
            "auto:fast",
            "auto:cheap",
            model,
        ]
        parameters = {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
        }
        tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
        messages = [{"role": "user", "content": QUESTION}]
        first = client.chat.completions.create(
            model="auto", messages=messages, tools=tools, tool_choice="required", temperature=0
        )
        assert first.choices[0].finish_reason == "tool_calls"
        call = first.choices[0].message.tool_calls[0]
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}
        messages += [
            first.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": weather("Paris")},
        ]
        pieces = client.chat.completions.create(
            model=model, messages=messages, tools=tools, tool_choice="none", max_tokens=6,
            stream=True, stream_options={"include_usage": True},
        )  # fmt: skip
        events = list(pieces)
        assert "".join(e.choices[0].delta.content or "" for e in events if e.choices)
        assert events[-1].usage.completion_tokens <= 6
        assert events[-1].usage.cost_usd > 0
        assert len(events) > 3
        forced = client.chat.completions.create(
            model=model, messages=messages[:1], tools=tools, stream=True, max_tokens=60,
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )  # fmt: skip
        deltas = [event.choices[0].delta for event in forced if event.choices]
        assert deltas[0].tool_calls[0].function.name == "weather"
        answer = client.responses.create(
            model=model, input="Say hello.", max_output_tokens=4, temperature=0
        )
        assert answer.output_text
        assert answer.status in {"completed", "incomplete"}
        *first, last = client.responses.create(
            model=model, input="Say hello.", max_output_tokens=4, temperature=0, stream=True
        )
        texts = [event.delta for event in first if event.type == "response.output_text.delta"]
        assert "".join(texts) == last.response.output_text == answer.output_text
        assert last.response.usage.output_tokens <= 4
        assert client.completions.create(model=model, prompt="One, two,", max_tokens=2).choices
        same = client.embeddings.create(model="lexical-256", input=["a cat", "a cat", "tax law"])
        assert same.data[0].embedding == same.data[1].embedding != same.data[2].embedding
        with pytest.raises(APIStatusError) as refused:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "x " * 9000}]
            )
        assert refused.value.status_code == 400
        assert "context" in refused.value.message
        never = {"type": "integer", "minimum": 5, "maximum": 3}
        parameters["properties"]["day"], parameters["required"] = never, ["city", "day"]
        with pytest.raises(APIStatusError) as refused:  # and no free text
            client.chat.completions.create(model=model, messages=messages[:1], tools=tools)
        assert refused.value.status_code == 400
        assert refused.value.body["code"] == "invalid_schema"
        assert refused.value.param == "tools[0].function.parameters"
        assert "at #/properties/day: minimum (5)" in refused.value.message
        steps = here.call(lambda: list(here.gateway.journal.steps()))
    assert all(step.cost_usd > 0 and step.cpu_s > 0 for step in steps if step.outcome == "ok")
    assert [step.kind for step in steps].count("embed") == 1
