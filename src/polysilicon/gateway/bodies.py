"""Bodies of requests: what the gateway reads of them, and what an engine gets of them.

Fields that the gateway does not know are passed to endpoints as they are. The engine in this
process gets only those of `_IN_PROCESS`, for a hostile one could end the process.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from starlette.types import Receive

from polysilicon.gateway import tools
from polysilicon.gateway.about import FIELDS
from polysilicon.gateway.errors import ApiError
from polysilicon.runtime.engines.llamacpp import compact_grammar
from polysilicon.runtime.pools import RunningPool

Json = dict[str, Any]
Raws = dict[str, msgspec.Raw]
T = TypeVar("T")

_MOST_COUNT = 10_000
_MOST_PATTERN_CHARS = 500
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
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
    """Return the body of a request; the guard bounds its bytes and seconds.

    Raises:
        ApiError: 400; the caller left before all of it was there.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        return whole
    pieces = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()
    raise ApiError(400, "the body is not whole")


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


def for_engine_here(fields: Raws, schema: Json | None) -> tuple[Raws, list[str]]:
    """Return the fields that the engine in this process gets, and names of those left out.

    Args:
        fields: the caller's.
        schema: JSON schema of what may be written; None for free text.

    Raises:
        ApiError: 400; the schema cannot be held to, or more than one answer is asked for.
    """
    kept = {name: fields[name] for name in _IN_PROCESS if name in fields}
    known = {*kept, "model", "metadata", "response_format", "tools", "tool_choice", "n"}
    if schema is not None:
        kept["grammar"] = _raw(grammar(schema))
    left_out = [name for name in fields if name not in known]
    return kept, left_out


def grammar(schema: Json) -> str:
    """Return a schema as a grammar of compact JSON.

    Raises:
        ApiError: 400; it is nested too deeply, or says what no grammar can.
    """
    tools.check_depth(schema, "response_format")
    _check_bounds(schema)
    try:
        return compact_grammar(schema)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise ApiError(400, f"the schema cannot be held to: {text}") from error


def _check_bounds(schema: Json) -> None:
    """Raise `ApiError` where a schema asks for more than a grammar can hold to in bounded time."""
    left: list[Any] = [schema]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            left += part.values()
            counts = [part[key] for key in _COUNTS if isinstance(part.get(key), int | float)]
            pattern = part.get("pattern")
            long = isinstance(pattern, str) and len(pattern) > _MOST_PATTERN_CHARS
            if long or any(count > _MOST_COUNT for count in counts):
                text = f"counts in a schema go up to {_MOST_COUNT:,}, patterns to "
                raise ApiError(400, f"{text}{_MOST_PATTERN_CHARS} characters")


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
    return pool.in_process or not pool.as_given.tools


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
