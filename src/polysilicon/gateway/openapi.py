"""`/openapi.json`: an OpenAPI 3.1 document, made of the types that requests are read into.

A test compares its paths with those that are served, and schemathesis its words with what is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polysilicon.gateway.bodies import ChatBody, CompletionBody
from polysilicon.gateway.code import BYTES
from polysilicon.gateway.embeddings import EmbeddingBody
from polysilicon.gateway.joined.routes import JoinQuery, LeaveQuery
from polysilicon.gateway.joined.types import JoinAnswer, JoinRequest, PoolList
from polysilicon.gateway.responses import ResponseBody
from polysilicon.gateway.state import gateway_of
from polysilicon.gateway.tasks.routes import TaskQuery
from polysilicon.gateway.tasks.types import AgentList, TaskList, TaskRequest, TaskView
from polysilicon.gateway.traces.routes import JSON, PROTOBUF
from polysilicon.runtime.context import LEXICAL

EVENTS = "text/event-stream"
_ANY = {"type": "object"}
_BYTES = {"type": "string", "format": "binary"}
_TEXT = {"type": "string"}
_SCHEMAS = "#/components/schemas/"


class ErrorFields(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong: a line, its kind, the field at fault, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """An error, in OpenAI's shape."""

    error: ErrorFields


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the gateway is well; `failed` names what is not."""

    status: str
    failed: list[str] = []


class PartialSuccess(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many spans were rejected, as text of a whole number, and why."""

    rejected_spans: str
    error_message: str


class Exported(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """ExportTraceServiceResponse of OTLP."""

    partial_success: PartialSuccess | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """google.rpc.Status, with which OTLP refuses a request for good."""

    code: int
    message: str


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked.

    Attributes:
        method: of HTTP, in small letters.
        path: with its parameters in braces.
        does: in a line.
        takes: type of the body, or what media types hold; None where there is none.
        gives: status → type, or what media types hold.
        query: type of the query.
        headers: header → its schema.
    """

    method: str
    path: str
    does: str
    takes: type | dict[str, Any] | None = None
    gives: dict[int, type | dict[str, Any] | None]
    query: type[msgspec.Struct] | None = None
    headers: dict[str, dict[str, Any]] = {}


_EVENT = {
    "type": "object",
    "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT},
    "required": ["data"],
}
_ANSWERS: dict[str, Any] = {JSON: _ANY, EVENTS: _EVENT}
_REQUEST = {
    JSON: {
        "type": "object",
        "properties": {"resourceSpans": {"type": "array"}},
    },
    PROTOBUF: _BYTES,
}
_TAKEN = {JSON: Exported, PROTOBUF: _TEXT}
_REFUSED = {JSON: {"anyOf": [Status, ErrorBody]}, PROTOBUF: _TEXT}
_KEY = {"Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 255}}
_LAST = {"Last-Event-ID": {"type": "string", "pattern": "^([0-9]{1,18}|end)?$"}}

OPERATIONS = (
    Operation(method="post", path="/v1/chat/completions", does="Ask a model, as a chat.",
              takes=ChatBody, gives={200: _ANSWERS}),
    Operation(method="post", path="/v1/completions", does="Let a model go on with a text.",
              takes=CompletionBody, gives={200: _ANSWERS}),
    Operation(method="post", path="/v1/responses", does="Ask a model, as OpenAI's agents do.",
              takes=ResponseBody, gives={200: _ANSWERS}),
    Operation(method="post", path="/v1/embeddings", does="Turn texts into vectors.",
              takes=EmbeddingBody, gives={200: {JSON: _ANY}}),
    Operation(method="get", path="/v1/models", does="List the models.", gives={200: {JSON: _ANY}}),
    Operation(method="get", path="/v1/models/{model}", does="Say whether there is a model.",
              gives={200: {JSON: _ANY}}),
    Operation(method="get", path="/v1/agents", does="List the agents that tasks may ask for.",
              gives={200: AgentList}),
    Operation(method="get", path="/v1/tasks", does="List tasks, newest first.",
              query=TaskQuery, gives={200: TaskList}),
    Operation(method="post", path="/v1/tasks", does="Submit a task; what is accepted is finished.",
              takes=TaskRequest, headers=_KEY, gives={200: TaskView, 202: TaskView}),
    Operation(method="get", path="/v1/tasks/{task_id}", does="Fetch a task.",
              gives={200: TaskView}),
    Operation(method="post", path="/v1/tasks/{task_id}/cancel", does="Cancel a task.",
              gives={200: TaskView}),
    Operation(method="get", path="/v1/tasks/{task_id}/events", does="Follow a task live.",
              headers=_LAST, gives={200: {EVENTS: _EVENT}, 204: None}),
    Operation(method="post", path="/v1/traces", does="Take in OpenTelemetry traces (OTLP).",
              takes=_REQUEST, gives={200: _TAKEN, 400: _REFUSED}),
    Operation(method="get", path="/v1/pools", does="List the pools.", gives={200: PoolList}),
    Operation(method="put", path="/v1/pools/{name}", does="Join a machine, or say it is there.",
              takes=JoinRequest, query=JoinQuery, gives={200: JoinAnswer}),
    Operation(method="delete", path="/v1/pools/{name}", does="Let a machine go.",
              query=LeaveQuery, gives={204: None}),
    Operation(method="post", path="/v1/code", does="Run code in a sandbox, for who joined.",
              takes={BYTES: _BYTES}, gives={200: {BYTES: _BYTES}}),
    Operation(method="get", path="/healthz", does="Tell that the gateway lives.",
              gives={200: Health}),
    Operation(method="get", path="/readyz", does="Tell whether calls are taken.",
              gives={200: Health, 503: Health}),
    Operation(method="get", path="/metrics", does="Measures, for Prometheus.",
              gives={200: {"text/plain": _TEXT}}),
    Operation(method="get", path="/openapi.json", does="This document.",
              gives={200: {JSON: _ANY}}),
)  # fmt: skip


_MODELS = (ChatBody, CompletionBody, ResponseBody)
_EXAMPLES: list[tuple[tuple[str, str], Any]] = [
    ((kind.__name__, "model"), "auto") for kind in _MODELS
]
_EXAMPLES += [
    (("EmbeddingBody", "model"), LEXICAL),
    (("TaskRequest", "agent"), "support"),
    (("TaskRequest", "input"), {"from": "ada@example.com", "text": "Where is my order?"}),
]
"""Values that any gateway knows, by type and field."""

_LINKS = {
    f"{verb}Task": {"operationId": name, "parameters": {"task_id": "$response.body#/id"}}
    for verb, name in (
        ("fetch", "get_tasks_of_task_id"),
        ("cancel", "post_tasks_of_task_id_cancel"),
    )
}


@cache
def document(*, keys: bool) -> bytes:
    """Return the document.

    Args:
        keys: calls need one.
    """
    types = [ErrorBody, *_types(OPERATIONS)]
    _, schemas = msgspec.json.schema_components(types, ref_template=f"{_SCHEMAS}{{name}}")
    for schema in schemas.values():
        if "description" in schema:  # the first line; the rest is for who reads the code
            schema["description"] = schema["description"].partition("\n")[0]
    for name, example in _EXAMPLES:
        schemas[name[0]]["properties"][name[1]]["examples"] = [example]
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Polysilicon",
            "version": version("polysilicon"),
            "description": "The Model Context Protocol is spoken at /mcp.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
        for path in ("/healthz", "/readyz"):
            paths[path]["get"]["security"] = []
    return msgspec.json.encode(found)


def _types(operations: Iterable[Operation]) -> list[type]:
    """Return the types that operations take and give, each once."""
    found: dict[type, None] = {}

    def visit(value: Any) -> None:
        if isinstance(value, type):
            found[value] = None
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                visit(inner)

    for operation in operations:
        visit([operation.takes, *operation.gives.values()])
    return list(found)


def _operation(operation: Operation) -> dict[str, Any]:
    """Return an operation as the document has it."""
    error = {"description": "An error.", "content": {JSON: {"schema": _schema(ErrorBody)}}}
    responses: dict[str, Any] = {"default": error}
    for status, gives in operation.gives.items():
        told: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if gives is not None:
            told["content"] = _content(gives)
        if operation.takes is TaskRequest:
            told["links"] = _LINKS
        responses[str(status)] = told
    found: dict[str, Any] = {
        "summary": operation.does,
        "operationId": _name(operation),
        "responses": responses,
    }
    parameters = list(_parameters(operation))
    if parameters:
        found["parameters"] = parameters
    if operation.takes is not None:
        found["requestBody"] = {"required": True, "content": _content(operation.takes)}
    return found


def _name(operation: Operation) -> str:
    """Return the id of an operation, such as `get_tasks_of_task_id`."""
    words = operation.path.replace(".", "/").replace("{", "of_").replace("}", "").split("/")
    return "_".join([operation.method, *(word for word in words if word not in {"", "v1"})])


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    """Yield the parameters of path, query and headers."""
    for piece in operation.path.split("/"):
        if piece.startswith("{"):
            schema = {"type": "string", "minLength": 1, "maxLength": 200}
            yield {"name": piece.strip("{}"), "in": "path", "required": True, "schema": schema}
    if operation.query is not None:
        schema = msgspec.json.schema(operation.query)["$defs"][operation.query.__name__]
        for name, of_field in schema["properties"].items():
            yield {"name": name, "in": "query", "required": False, "schema": of_field}
    for name, schema in operation.headers.items():
        yield {"name": name, "in": "header", "required": False, "schema": schema}


def _content(held: type | dict[str, Any]) -> dict[str, Any]:
    """Return what media types hold; a type is JSON."""
    if isinstance(held, type):
        return {JSON: {"schema": _schema(held)}}
    return {kind: {"schema": _schema(schema)} for kind, schema in held.items()}


def _schema(held: Any) -> Any:
    """Return a schema in which types are references."""
    if isinstance(held, type):
        return {"$ref": f"{_SCHEMAS}{held.__name__}"}
    if isinstance(held, dict):
        return {key: _schema(value) for key, value in held.items()}
    return [_schema(value) for value in held] if isinstance(held, list) else held


async def served(request: Request) -> Response:
    """Return the document."""
    keys = not gateway_of(request).access.open
    return Response(document(keys=keys), media_type=JSON)


ROUTES = (Route("/openapi.json", served, methods=["GET"]),)
