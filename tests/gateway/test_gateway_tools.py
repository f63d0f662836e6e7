"""Tools for engines that know none: what is asked, and what is read back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from polysilicon.gateway import grammars, schemas, tools
from polysilicon.gateway.bodies import ChatBody, for_engine_here
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.schemas import grammar
from polysilicon.gateway.tools import Choice, Function, Tool, choice, read, schema, told
from scripted_endpoint import Endpoint
from served_gateway import Served, endpoint_pool, serving

CITY = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/City"}},
    "required": ["city"],
    "$defs": {"City": {"enum": ["Paris", "Rome"]}},
}
WEATHER, CLOCK = Tool(Function("weather", "Tells it.", CITY)), Tool(Function("clock"))


def test_which_tools_may_be_called() -> None:
    both = [WEATHER, CLOCK]
    assert choice(both, None) == choice(both, "auto") == Choice(both, must=False)
    assert choice(both, "required") == Choice(both, must=True)
    assert choice(both, "none") == Choice([], must=False)
    one = {"type": "function", "function": {"name": "clock"}}
    assert choice(both, one) == Choice([CLOCK], must=True)
    for wrong in ("any", {"function": {"name": "radio"}}, 5):
        with pytest.raises(ApiError):
            choice(both, wrong)


def test_the_schema_keeps_definitions_of_tools_apart() -> None:
    found = schema(Choice([WEATHER, CLOCK], must=False), None)
    assert found["$defs"] == {"weather.$defs.City": {"enum": ["Paris", "Rome"]}}
    call, clock, answer = found["anyOf"]
    reference = call["properties"]["arguments"]["properties"]["city"]["$ref"]
    assert reference == "#/$defs/weather.$defs.City"
    assert clock["properties"]["tool"] == {"const": "clock"}
    assert answer["properties"] == {"answer": {"type": "string"}}
    assert grammar(found)  # llama.cpp takes it
    only = schema(Choice([WEATHER], must=True), None)
    assert only["properties"]["tool"] == {"const": "weather"}
    assert schema(Choice([], must=False), None) is None


def test_a_schema_that_nests_without_end_is_refused() -> None:
    nested: dict = {"type": "string"}
    for _ in range(5000):
        nested = {"type": "array", "items": nested}
    with pytest.raises(ApiError, match="deeper"):
        grammar(nested)


def test_a_schema_of_endless_counts_is_refused() -> None:
    for part in ({"minItems": 10**9}, {"maxLength": 10**9}, {"pattern": "a?" * 300}):
        with pytest.raises(ApiError, match="counts in a schema"):
            grammar({"type": "object", "properties": {"x": {"type": "string"} | part}})


def test_a_schema_that_the_engine_could_not_read_is_refused() -> None:
    circle = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    }
    for part, text in (
        ({"$ref": "https://elsewhere.example/a"}, "to no part"),
        ({"$ref": "#/$defs/a"}, "to no part"),
        (circle, "to itself"),
        ({"anyOf": []}, "no JSON schema"),
        ({"type": "object", "properties": [1]}, "no JSON schema"),
        ({"type": {"a": 1}}, "no JSON schema"),
        ({"type": "object", "properties": {f"k{n}": {} for n in range(500)}}, "400 properties"),
        ({"enum": ["a" * 100] * 2000}, "128 KiB"),
        ({"anyOf": [{}] * 1001}, "1,000 entries"),
        ({"type": "object", "properties": {"a": {"anyOf": [{"anyOf": [{}] * 999}] * 3}}}, "2,000"),
        ({f"k{n}": {"$ref": f"#/k{n + 1}"} for n in range(99)} | {"k99": {}}, "50 references"),
    ):
        with pytest.raises(ApiError, match=text):
            grammar(part)
    tree = {"$defs": {"Node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/Node"}}}}}
    assert "left" in grammar(tree | {"$ref": "#/$defs/Node"})


LIMITED = {"type": "integer", "minimum": 5, "maximum": 3}


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        (LIMITED, "#", "minimum (5) is greater than maximum (3)"),
        (
            {"type": "object", "properties": {"may": LIMITED, "a/b": LIMITED}, "required": ["a/b"]},
            "#/properties/a~1b",
            "minimum",
        ),
        ({"type": "array", "items": {"not": {"type": "string"}}}, "#/items", "not"),
        ({"anyOf": [{"type": "null"}, {"type": "string", "format": "x"}]}, "#/anyOf/1", "format"),
        ({"type": "object", "properties": {"x": False}, "required": ["x"]}, "#/properties/x", ""),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "#", "incompatible types"),
        (
            {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "object", "properties": {
                "next": {"$ref": "#/$defs/Node"}, "name": {"type": "string", "pattern": "a(b"}}}}},
            "#/$defs/Node/properties/name",
            "unclosed group",
        ),
        ({"items": {"type": "strin"}}, "#/items/type", "strin"),
    ],
)  # fmt: skip
def test_what_nothing_can_satisfy_is_refused_with_its_place(
    schema: dict, place: str, reason: str
) -> None:
    with pytest.raises(ApiError) as refused:
        grammar(schema, "tools[3].function.parameters")
    assert f"at {place}:" in str(refused.value)
    assert reason in str(refused.value)
    assert refused.value.fields()["param"] == "tools[3].function.parameters"


def test_a_refused_schema_costs_its_search_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def place(*_: object) -> tuple[str, str]:
        searched.append(1)
        return "#", "scripted"

    monkeypatch.setattr(schemas, "place_of", place)
    for param in ("response_format", "tools[0].function.parameters"):
        with pytest.raises(ApiError, match="scripted") as refused:
            grammar({**LIMITED, "title": "refused once"}, param)
        assert refused.value.fields()["param"] == param
    assert len(searched) == 1


def test_schemas_are_judged_before_a_call_has_room() -> None:
    def ready(schema: dict, *pools: bool) -> Any:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        messages = [{"role": "user", "content": "hi"}]
        body = msgspec.convert(
            {"model": "any", "messages": messages, "response_format": form}, ChatBody
        )
        found = [SimpleNamespace(in_process=here) for here in pools]
        return asyncio.run(grammars.beforehand(body, found))  # type: ignore[arg-type]

    assert ready(LIMITED, False) is None  # engines elsewhere have grammars of their own
    assert ready(CITY, False, True).grammar
    assert isinstance(ready(LIMITED, True, False), ApiError)  # the other one may take it
    with pytest.raises(ApiError, match="minimum"):
        ready(LIMITED, True)


@pytest.mark.parametrize(("status", "limit_s"), [(400, 60.0), (504, 0.1)])
def test_a_call_that_cannot_be_made_ready_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, limit_s: float
) -> None:
    async def refused(*_: object) -> None:
        raise ApiError(400, "scripted")

    async def late(*_: object) -> None:
        await asyncio.sleep(60)

    far = Endpoint(lambda _: {"content": "ok"})
    monkeypatch.setattr(grammars, "beforehand", refused if status == 400 else late)
    with far.served(), serving(tmp_path, endpoint_pool(far.address), timeout_s=limit_s) as served:
        assert served.chat().status_code == status
        assert not served.asked_steps()
        assert served.call(lambda: served.gateway.access.nobody.running) == 0


def test_a_part_that_need_not_be_there_may_be_impossible() -> None:
    assert grammar({"type": "object", "properties": {"may": LIMITED}})


def test_the_engine_here_is_sent_text_only() -> None:
    parts = [{"type": "text", "text": "x"}]
    fields = {"messages": msgspec.Raw(msgspec.json.encode([{"role": "user", "content": parts}]))}
    assert for_engine_here(fields, None)[0] == fields
    parts.append({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}})
    fields = {"messages": msgspec.Raw(msgspec.json.encode([{"role": "user", "content": parts}]))}
    with pytest.raises(ApiError, match="text only"):
        for_engine_here(fields, None)


def test_calls_and_results_are_told_as_text() -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "sunny"}]},
    ]  # fmt: skip
    system, user, call, result = told(messages, Choice([WEATHER], must=False))
    assert system["content"].startswith("Be short.\n\nYou have these tools:\n- weather: Tells it.")
    assert user == messages[1]
    assert read(call["content"])["tool_calls"][0]["function"]["name"] == "weather"
    assert result == {"role": "user", "content": "Result of weather: sunny"}


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"answer": "yes"}', "yes"),
        ('{"answer": {"a": 1}}', '{"a":1}'),
        ('{"answer": "cut in the mid', "cut in the mid"),
        ('{"tool": "weather", "argu', '{"tool": "weather", "argu'),
        ("plain", "plain"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_what_is_no_call_is_an_answer(text: str, content: str) -> None:
    assert read(text) == {"role": "assistant", "content": content}


def test_an_endpoint_without_tools_is_asked_by_a_schema(tmp_path: Path) -> None:
    answer = json.dumps({"tool": "weather", "arguments": {"city": "Rome"}})
    far = Endpoint(lambda _asked: {"content": answer})
    given = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
    pool = endpoint_pool
    with far.served(), serving(tmp_path, pool(far.address, tools=False)) as served:
        for stream in (False, True):
            reply = served.chat(tools=given, tool_choice="required", stream=stream)
            assert "tool_calls" in reply.text
        asked = far.requests[0]
    assert not {"tools", "tool_choice"} & set(asked)
    form = asked["response_format"]["json_schema"]["schema"]
    assert form["properties"]["tool"] == {"const": "weather"}
    assert tools.as_text(asked["messages"][0]["content"]).startswith("You have these tools")


NESTED: dict = {"type": "object"}
for _ in range(300):
    NESTED = {"type": "object", "properties": {"a": NESTED}}


def _tools(parameters: dict) -> list:
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"tools": _tools({}), "tool_choice": []}),
        (400, {"tools": _tools({}), "tool_choice": {"function": "f"}}),
        (400, {"tools": _tools({"$defs": []})}),
        (400, {"tools": _tools(NESTED)}),
        (200, {"messages": [{"role": "assistant", "tool_calls": [{"id": [1], "function": "f"}]}]}),
        (200, {"messages": [{"role": "tool", "tool_call_id": [1], "content": "x"}]}),
    ],
    ids=["choice", "function", "definitions", "nested", "call", "result"],
)
def test_odd_tools_are_the_callers_mistake(odd: Served, status: int, fields: dict) -> None:
    answer = odd.chat(**fields)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("part", [{"type": []}, {"type": "input_text", "text": 5}])
def test_odd_parts_are_the_callers_mistake(odd: Served, part: dict) -> None:
    body = {"model": "scripted", "input": [{"role": "user", "content": [part]}]}
    answer = odd.client.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


def test_a_call_that_is_refused_on_its_pool_is_a_step_that_failed(odd: Served) -> None:
    before = odd.gateway.totals.all.failed
    assert odd.chat(n=2).json()["error"]["param"] == "n"
    assert odd.gateway.totals.all.failed == before + 1


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    far = Endpoint(lambda _asked: {"content": '{"answer": "hi"}'})
    folder = tmp_path_factory.mktemp("odd")
    with far.served(), serving(folder, endpoint_pool(far.address, tools=False)) as served:
        yield served
