"""Tools for engines that know none: asked for as JSON of a schema, and read back as calls.

The engine is told the tools in the prompt, and its answer is held to one of two forms: a call,
`{"tool": NAME, "arguments": {…}}`, or `{"answer": "…"}`; which of them may be chosen `tool_choice`
says. Calls and results of earlier turns are told as text.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.schemas import check_depth

Json = dict[str, Any]

_ANSWER: Json = {"type": "string"}


class Function(msgspec.Struct, frozen=True):
    """A function that may be called."""

    name: str
    description: str = ""
    parameters: Json = {}


class Tool(msgspec.Struct, frozen=True):
    """A tool of a request; only functions are known."""

    function: Function
    type: str = "function"


class Choice(msgspec.Struct, frozen=True):
    """Which tools may be called, and whether one must be.

    Attributes:
        tools: that may be called.
        must: a call must be made.
    """

    tools: list[Tool]
    must: bool


def choice(tools: list[Tool], wanted: Any) -> Choice:
    """Return what a request's `tools` and `tool_choice` allow.

    Raises:
        ApiError: 400; it names no tool.
    """
    if isinstance(wanted, dict):
        function = wanted.get("function") or wanted
        name = function.get("name") if isinstance(function, dict) else None
        found = [tool for tool in tools if tool.function.name == name]
        if not found:
            raise ApiError(400, "tool_choice names no tool of the request", param="tool_choice")
        return Choice(found, must=True)
    if wanted not in (None, "none", "auto", "required"):  # a tuple: it may be a list
        raise ApiError(
            400, "tool_choice is none, auto, required or a function", param="tool_choice"
        )
    return Choice([] if wanted == "none" else tools, must=wanted == "required")


def schema(chosen: Choice, answer: Json | None) -> Json | None:
    """Return the JSON schema of what the engine may write; None for free text.

    Args:
        chosen: the tools.
        answer: schema of an answer that calls nothing; None for text.

    Raises:
        ApiError: 400; the parameters of a tool are no schema, or one nested too deeply.
    """
    if not chosen.tools:
        return answer
    definitions: Json = {}
    forms = []
    for tool in chosen.tools:
        name, parameters = tool.function.name, dict(tool.function.parameters)
        check_depth(parameters, "tools")
        own = {key: parameters.pop(key) for key in ("$defs", "definitions") if key in parameters}
        for key, table in own.items():
            if not isinstance(table, dict):
                raise ApiError(400, f"{key} of tool {name!r} is no object", param="tools")
            moved = {part: _moved(value, name) for part, value in table.items()}
            definitions |= {f"{name}.{key}.{part}": value for part, value in moved.items()}
        arguments = _moved(parameters, name)
        if "properties" in arguments:  # a function takes no others, and models make some up
            arguments.setdefault("additionalProperties", False)
        arguments = arguments or {"type": "object"}
        forms.append(_form({"tool": {"const": name}, "arguments": arguments}))
    if not chosen.must:
        forms.append(_form({"answer": answer or _ANSWER}))
    whole: Json = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return whole | ({"$defs": definitions} if definitions else {})


def _form(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False}  # fmt: skip


def _moved(value: Any, name: str) -> Any:
    """Return a part of a schema whose references are to definitions of a tool."""
    if isinstance(value, list):
        return [_moved(item, name) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _moved(item, name) for key, item in value.items()}
    reference = value.get("$ref")
    if isinstance(reference, str) and reference.startswith(("#/$defs/", "#/definitions/")):
        _, key, part = reference.split("/", 2)
        found["$ref"] = f"#/$defs/{name}.{key}.{part}"
    return found


def told(messages: list[Json], chosen: Choice) -> list[Json]:
    """Return messages that an engine without tools understands, with the tools told first."""
    names: Json = {
        str(call.get("id")): _function(call).get("name")
        for message in messages
        for call in message.get("tool_calls") or ()
    }
    plain = [_plain(message, names) for message in messages]
    if not chosen.tools:
        return plain
    text = _instructions(chosen)
    if plain and plain[0].get("role") in {"system", "developer"}:
        first = f"{as_text(plain[0].get('content'))}\n\n{text}"
        return [{"role": "system", "content": first}, *plain[1:]]
    return [{"role": "system", "content": text}, *plain]


def _function(call: Json) -> Json:
    """Return the function of a call; one that is no object stands for none."""
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def _plain(message: Json, names: Json) -> Json:
    role = message.get("role")
    if role == "tool":
        name = names.get(str(message.get("tool_call_id"))) or "the tool"
        return {"role": "user", "content": f"Result of {name}: {as_text(message.get('content'))}"}
    calls = message.get("tool_calls")
    if calls:
        functions = [_function(call) for call in calls]
        lines = [
            f'{{"tool": "{f.get("name")}", "arguments": {f.get("arguments") or "{}"}}}'
            for f in functions
        ]
        return {"role": "assistant", "content": "\n".join(lines)}
    return message


def as_text(content: Any) -> str:
    """Return the text of a message's content, which may come in parts."""
    if isinstance(content, list):
        parts = (part.get("text", "") for part in content if isinstance(part, dict))
        return "\n".join(text for text in parts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _instructions(chosen: Choice) -> str:
    encode = msgspec.json.encode
    lines = [
        f"- {t.function.name}: {t.function.description} {encode(t.function.parameters).decode()}"
        for t in chosen.tools
    ]
    how = 'Call a tool by writing {"tool": NAME, "arguments": {...}}.'
    other = "" if chosen.must else ' To answer without one, write {"answer": TEXT}.'
    return "\n".join(["You have these tools:", *lines, how + other])


def read(text: str) -> Json:
    """Return the message that an engine's JSON stands for; text that is not whole stays text."""
    found = None
    for end in ("", '"}'):  # an answer that was cut at its limit is one still
        try:
            found = msgspec.json.decode(text + end)
            break
        except (msgspec.DecodeError, RecursionError):
            continue
    if not isinstance(found, dict):
        return {"role": "assistant", "content": text}
    if "tool" in found:
        arguments = msgspec.json.encode(found.get("arguments") or {}).decode()
        function = {"name": found["tool"], "arguments": arguments}
        call = {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = found.get("answer", text)
    if not isinstance(answer, str):
        answer = msgspec.json.encode(answer).decode()
    return {"role": "assistant", "content": answer}
