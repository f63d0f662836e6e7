"""Bodies of requests: what the gateway reads of them, and what an engine gets of them.

Fields that the gateway does not know are passed to endpoints as they are. The engine in this
process gets only those of `_IN_PROCESS`, for a hostile one could end the process.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from starlette.types import Receive

from polysilicon.gateway import bounds, tools
from polysilicon.gateway.about import FIELDS
from polysilicon.gateway.errors import ApiError
from polysilicon.runtime.pools import RunningPool

Json = dict[str, Any]
Raws = dict[str, msgspec.Raw]
T = TypeVar("T")

_MOST_TOKENS = 1 << 20
_MOST_LOGPROBS = 20
_IN_PROCESS = (
    "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k",
    "min_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs",
    "stream", "stream_options",
)  # fmt: skip

Tokens = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class StreamOptions(msgspec.Struct, frozen=True):
    """Of `stream_options`, what the gateway reads."""

    include_usage: bool | None = None


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that chat and plain completions share, as far as the gateway reads them."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Json | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a chat, as far as the gateway reads it."""

    role: str
    content: str | list[Json] | None = None
    tool_calls: list[Json] | None = None


class ChatBody(Sampling, frozen=True, kw_only=True):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    tools: list[tools.Tool] | None = None
    tool_choice: Any = None
    response_format: Json | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=_MOST_LOGPROBS)] | None = None


class CompletionBody(Sampling, frozen=True, kw_only=True):
    """The body of `/v1/completions`."""

    prompt: str | list[Any]
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=_MOST_LOGPROBS)] | None = None


async def body_of(receive: Receive) -> bytes:
    """Return the body of a request, of JSON.

    Raises:
        ApiError: 400, 413; the caller left before all of it was there, or it holds too much.
    """
    body = await bytes_of(receive)
    await bounds.check(body)
    return body


async def bytes_of(receive: Receive) -> bytes:
    """Return the body of a request; the guard bounds its bytes and seconds.

    Raises:
        ApiError: 400; the caller left before all of it was there.
    """
    pieces, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ApiError(400, "the body is not whole")
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def decoded(body: bytes, kind: type[T]) -> T:
    """Return a body as a type.

    Raises:
        ApiError: 400; it is no JSON, or not of that type.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at `$")
        param = at.strip("`.") or None
        raise ApiError(400, f"{param}: {text}" if param else text, param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is no JSON: {error}") from error
    except RecursionError as error:
        raise ApiError(400, "the body is nested too deeply") from error


def for_endpoint(fields: Raws, model: str, *, stream: bool) -> bytes:
    """Return the body that an endpoint gets: the caller's, with the engine's name of the model."""
    sent = dict(fields)
    sent["model"] = _raw(model)
    if stream:
        given = sent.get("stream_options")
        options = {} if given is None else msgspec.json.decode(given) or {}
        sent["stream_options"] = _raw(options | {"include_usage": True})
    else:
        sent.pop("stream_options", None)
        if "stream" in sent:
            sent["stream"] = _raw(value=False)
    if "metadata" in sent:
        kept = msgspec.json.decode(sent.pop("metadata")) or {}
        kept = {key: value for key, value in kept.items() if key not in FIELDS}
        if kept:
            sent["metadata"] = _raw(kept)
    return msgspec.json.encode(sent)


def for_engine_here(fields: Raws, grammar: str | None) -> tuple[Raws, list[str]]:
    """Return the fields that the engine in this process gets, and names of those left out.

    Args:
        fields: the caller's.
        grammar: of what may be written; None for free text.

    Raises:
        ApiError: 400; there is more than text.
    """
    kept = {name: fields[name] for name in _IN_PROCESS if name in fields}
    _check_text(fields)
    known = {*kept, "model", "metadata", "response_format", "tools", "tool_choice", "n"}
    if grammar is not None:
        kept["grammar"] = _raw(grammar)
    left_out = [name for name in fields if name not in known]
    return kept, left_out


def _check_text(fields: Raws) -> None:
    """Raise `ApiError` where a message has a part that is no text.

    The engine here fails on images as on faults of its own, so it would be held to be ill.
    """
    messages = msgspec.json.decode(fields.get("messages", b"[]"), type=list[Message])
    for message in messages:
        content = message.content
        for part in content if isinstance(content, list) else ():
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise ApiError(400, "this model takes text only", param="messages")


def wanted_schema(response_format: Json | None) -> Json | None:
    """Return the JSON schema that `response_format` asks for; None for text.

    Raises:
        ApiError: 400; there is no such format.
    """
    kind = (response_format or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    form = (response_format or {}).get("json_schema")
    schema = form.get("schema") if isinstance(form, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        what = "response_format is text, json_object, or json_schema with a schema"
        raise ApiError(400, what, param="response_format")
    return schema


def emulates(pool: RunningPool) -> bool:
    """Tell whether the engine of a pool must be asked for tools by a schema."""
    return pool.as_given.engine == "llama.cpp" or not pool.as_given.tools


def with_schema(fields: Raws, schema: Json | None) -> Raws:
    """Return the fields with a schema that the endpoint holds its answer to."""
    sent = {key: value for key, value in fields.items() if key != "response_format"}
    if schema is not None:
        form = {"name": "answer", "schema": schema, "strict": True}
        sent["response_format"] = _raw({"type": "json_schema", "json_schema": form})
    return sent


def replaced(fields: Raws, **values: Any) -> Raws:
    """Return the fields with other values."""
    return fields | {key: _raw(value) for key, value in values.items()}


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
