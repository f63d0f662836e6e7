"""`/v1/responses`: what agent SDKs use of it, by way of a chat completion.

Input items, instructions, functions, `text.format` and streaming are known. Nothing is stored:
`previous_response_id`, `conversation` and `background` are refused, and so are hosted tools.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from polysilicon.gateway import bodies, events
from polysilicon.gateway.bodies import ChatBody, Json, Raws, Tokens
from polysilicon.gateway.calls import Placed, asked_in, unless_left
from polysilicon.gateway.chat import Job, Reply, replied
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.state import Gateway
from polysilicon.gateway.written import Written

_KEPT = ("temperature", "top_p", "parallel_tool_calls", "top_logprobs", "user", "metadata")
_STORED = ("previous_response_id", "conversation", "background", "prompt")


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `/v1/responses`, as far as the gateway reads it."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: str | list[Json]
    instructions: str | None = None
    tools: list[Json] | None = None
    tool_choice: Any = None
    text: Json | None = None
    max_output_tokens: Tokens | None = None
    stream: bool | None = None
    metadata: Json | None = None
    reasoning: Json | None = None


def as_chat(body: ResponseBody, fields: Raws) -> Raws:
    """Return the chat completion that answers a request.

    Raises:
        ApiError: 400; it asks for what the gateway does not do.
    """
    for name in _STORED:
        if name in fields and msgspec.json.decode(fields[name]):
            text = f"{name} is not served: nothing is stored; send the whole conversation"
            raise ApiError(400, text, param=name, code="unsupported")
    sent = {name: fields[name] for name in _KEPT if name in fields}
    values: Json = {"model": body.model, "messages": _messages(body)}
    if body.tools:
        values["tools"] = [_tool(tool) for tool in body.tools]
        values["tool_choice"] = _choice(body.tool_choice)
    form = (body.text or {}).get("format")
    if isinstance(form, dict) and form.get("type", "text") != "text":
        own = {key: value for key, value in form.items() if key != "type"}
        schema = {"json_schema": own} if form["type"] == "json_schema" else {}
        values["response_format"] = {"type": form["type"]} | schema
    if body.max_output_tokens is not None:
        values["max_completion_tokens"] = body.max_output_tokens
    if body.stream:
        values["stream"] = True
    effort = (body.reasoning or {}).get("effort")
    if effort:
        values["reasoning_effort"] = effort
    return bodies.replaced(sent, **values)


def _tool(tool: Json) -> Json:
    if tool.get("type") != "function":
        text = f"tools of type {tool.get('type')!r} are not served; functions are"
        raise ApiError(400, text, param="tools", code="unsupported")
    known = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in known if tool.get(key)}}


def _choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice or "auto"


def _messages(body: ResponseBody) -> list[Json]:
    """Return the conversation as messages of a chat; calls made together are one message."""
    found: list[Json] = []
    if body.instructions:
        found.append({"role": "system", "content": body.instructions})
    items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            found.append({"role": item.get("role"), "content": _content(item.get("content"))})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if found and found[-1].get("tool_calls"):
                found[-1]["tool_calls"].append(call)
            else:
                found.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            content, call_id = _content(item.get("output")), item.get("call_id")
            found.append({"role": "tool", "tool_call_id": call_id, "content": content})
        elif kind != "reasoning":  # what a model thought before is not told again
            text = f"input items of type {kind!r} are not served"
            raise ApiError(400, text, param="input", code="unsupported")
    return found


def _content(content: Any) -> Any:
    """Return a message's content in the words of chats."""
    if not isinstance(content, list):
        return content
    parts: list[Json] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text", "text", "refusal"):
            text = part.get("refusal" if kind == "refusal" else "text", "")
            if not isinstance(text, str):
                raise ApiError(400, f"the text of {kind} is no text", param="input")
            parts.append({"type": "text", "text": text})
        elif kind == "input_image" and part.get("image_url"):
            parts.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
        else:
            raise ApiError(400, f"content of type {kind!r} is not served", param="input")
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


class Responses:
    """The endpoint, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        content = await bodies.body_of(receive)
        body = bodies.decoded(content, ResponseBody)
        fields = as_chat(body, bodies.decoded(content, Raws))
        asked = asked_in(scope, body, kind="llm", name="chat")
        gateway: Gateway = scope["app"].state.gateway
        chat = bodies.decoded(msgspec.json.encode(fields), ChatBody)
        job = Job(gateway=gateway, path="chat/completions", fields=fields, body=chat, asked=asked)
        await unless_left(receive, _answer(job, body, Reply(scope, send)))


async def _answer(job: Job, body: ResponseBody, reply: Reply) -> None:
    """Answer, as a stream or whole."""
    written = Written(_head(body, job.gateway.wall()))

    async def begin(placed: Placed) -> None:
        await reply.begin(placed)
        await reply.write(_lines(written.begin()))

    async def write(block: bytes) -> None:
        lines = [line for event in events.parsed(block) for line in written.take(event)]
        if lines:
            await reply.write(_lines(lines))

    placed = await replied(job, reply, begin, write)
    if placed is None:
        return
    lines = written.take(job.reply) if job.reply else []
    lines += written.end(_usage(job.usage, placed))
    if job.streams:
        await reply.write(_lines(lines))
        await reply.end()
    else:
        await reply.whole(written.response, placed)


def _head(body: ResponseBody, now_s: float) -> Json:
    """Return what a response has from the beginning."""
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(now_s),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "store": False,
        "text": body.text or {"format": {"type": "text"}},
        "max_output_tokens": body.max_output_tokens,
        "usage": None,
    }


def _usage(usage: Json, placed: Placed) -> Json:
    prompt, output = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": prompt + output,
        **placed.costs(),
    }


def _lines(found: list[Json]) -> bytes:
    return b"".join(f"event: {one['type']}\n".encode() + events.event(one) for one in found)


ROUTES = (Route("/v1/responses", Responses(), methods=["POST"]),)
