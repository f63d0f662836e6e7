"""`POST /v1/traces`: OTLP over HTTP, in protobuf or JSON, with gzip.

As the specification has it (https://opentelemetry.io/docs/specs/otlp/#otlphttp): what is rejected
is counted in a partial success, with the reasons; a request that is none is a 400 with a `Status`.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polysilicon.errors import PolysiliconError
from polysilicon.gateway import bounds
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.state import Gateway, caller_of, gateway_of
from polysilicon.gateway.traces.store import TraceStore
from polysilicon.workload.imports import otlp_json, otlp_proto
from polysilicon.workload.imports.findings import Findings, Skip
from polysilicon.workload.imports.proto_parts import has_more_fields
from polysilicon.workload.imports.spans.rows import SCHEMA

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MOST_BYTES = 64 * 2**20
"""Of a body that is decompressed."""

_LARGE_BYTES = 64 * 2**10
"""A larger body is read in a worker process, for reading it here would stop all other calls."""

_MOST_PARTS = 2_000_000
"""Objects, arrays, keys and values of a body, or fields; of a span there are some hundred."""

_NO_REQUEST = "the body is no ExportTraceServiceRequest"

_LIMIT_S = 60.0

_INVALID = 3
"""google.rpc.Code of INVALID_ARGUMENT."""

_FULL = "no room for more traces"
_REASONS = 5


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a request: its spans as a stream of Arrow, what is rejected, or why it is none.

    With a `status` it is refused as such, with its `code`.
    """

    spans: bytes = b""
    skipped: list[Skip] = []
    fault: str = ""
    status: int = 0
    code: str | None = None


class _Request(msgspec.Struct, rename="camel"):
    """What must be so of a request in JSON; of what is wrong within it, the rest is taken."""

    resource_spans: list[msgspec.Raw] = []


@asynccontextmanager
async def serving_traces(gateway: Gateway) -> AsyncIterator[None]:
    """Take in traces while the gateway serves."""
    async with TraceStore(gateway.folder, gateway.machine.here.workers) as store:
        gateway.traces = store
        yield


async def receive(request: Request) -> Response:
    """Take in the spans of a request."""
    store = gateway_of(request).traces
    assert store is not None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {PROTOBUF, JSON}:
        raise ApiError(415, f"send {PROTOBUF} or {JSON}", code="unsupported_media_type")
    caller_of(request).admit()
    body, packed = await request.body(), request.headers.get("content-encoding", "")
    plain = decompressed(body, packed, _LARGE_BYTES)  # a small body may be 64 MiB
    if plain is None:
        workers = gateway_of(request).machine.here.workers
        found = await workers.call(spans_told, (body, kind, packed), {}, _LIMIT_S)
        told = msgspec.msgpack.decode(found.data, type=Read)
    else:
        told = spans_told(plain, kind)
    if told.status:
        raise ApiError(told.status, told.fault, code=told.code)
    if told.fault:
        return _status(kind, told.fault)
    table, skipped = pa.ipc.open_stream(told.spans).read_all(), told.skipped
    if table.num_rows and store.is_full():
        skipped = [*skipped, Skip(reason=_FULL, count=table.num_rows)]
        table = table.slice(0, 0)
    try:
        store.add(table)
    except PolysiliconError as error:
        raise ApiError(503, "the traces cannot be kept", retry_after_s=30) from error
    for skip in skipped:
        store.rejected[skip.reason] += skip.count
    return _response(kind, skipped)


def decompressed(body: bytes, encoding: str, most_bytes: int) -> bytes | None:
    """Return a body without its compression; None where it is larger than `most_bytes`.

    Raises:
        ApiError: 400 or 415; it is broken, or compressed in another way.
    """
    if encoding.strip().lower() in {"", "identity"}:
        return body if len(body) <= most_bytes else None
    if encoding.strip().lower() != "gzip":
        raise ApiError(415, "send it as it is, or with gzip", code="unsupported_media_type")
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = inflate.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise ApiError(400, f"the body is no gzip: {error}") from error
    if len(found) > most_bytes:
        return None
    if not inflate.eof:
        raise ApiError(400, "the gzip of the body is not whole")
    return found


def spans_told(body: bytes, kind: str, packed: str = "") -> Read:
    """Read a request, also in a worker process: what is returned can be sent."""
    try:
        table, skipped = spans_of(_plain(body, kind, packed), kind)
    except ApiError as error:
        return Read(fault=str(error), status=error.status, code=error.code)
    except ValueError as error:
        return Read(fault=str(error))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_table(table)
    return Read(spans=sink.getvalue().to_pybytes(), skipped=skipped)


def _plain(body: bytes, kind: str, packed: str) -> bytes:
    """Return a body without its compression, once it is known that it can be read.

    Raises:
        ApiError: 400, 413 or 415; it is broken or too large.
    """
    plain = decompressed(body, packed, MOST_BYTES)
    if plain is None:
        text = f"the body is over {MOST_BYTES // 2**20} MiB decompressed"
        raise ApiError(413, text, code="request_too_large")
    if kind == JSON:
        for _ in bounds.counted(plain, _MOST_PARTS, _MOST_PARTS):
            pass
    elif len(plain) > 2 * _MOST_PARTS:  # a field takes two bytes or more
        _check_fields(plain)
    return plain


def _check_fields(body: bytes) -> None:
    """Refuse a body of protobuf that holds too much.

    Raises:
        ApiError: 413.
        ValueError: it is no request of OTLP.
    """
    try:
        over = has_more_fields(body, _MOST_PARTS)
    except DecodeError as error:
        raise ValueError(_NO_REQUEST) from error
    if over:
        text = f"the body holds more than {_MOST_PARTS:,} fields"
        raise ApiError(413, text, code="request_too_large")


def spans_of(body: bytes, kind: str) -> tuple[Any, list[Skip]]:
    """Return the spans of a request, and what is rejected of it.

    Raises:
        ValueError: it is no request of OTLP.
    """
    findings = Findings(skip_bad=True)
    if kind == PROTOBUF:
        table = otlp_proto.spans_of_request(body, findings) if body else None
        if any(skip.reason == "no protobuf of OTLP" for skip in findings.skipped):
            raise ValueError(_NO_REQUEST)
    else:
        try:
            told = msgspec.json.decode(body, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = f"the body is no ExportTraceServiceRequest in JSON: {error}"
            raise ValueError(text) from error
        table = otlp_json.spans_of_request(body, findings) if told.resource_spans else None
    return SCHEMA.empty_table() if table is None else table, findings.skipped


def _response(kind: str, skipped: list[Skip]) -> Response:
    """Return what is said to a request that was taken in, in part or whole."""
    count = sum(skip.count for skip in skipped)
    words = "; ".join(f"{skip.count}: {skip.reason}" for skip in skipped[:_REASONS])
    if kind == PROTOBUF:
        partial = ExportTracePartialSuccess(rejected_spans=count, error_message=words)
        told = ExportTraceServiceResponse(partial_success=partial if count else None)
        return Response(told.SerializeToString(), media_type=PROTOBUF)
    answer: dict[str, Any] = {}
    if count:  # 64 bits are texts in Protobuf's JSON
        answer["partialSuccess"] = {"rejectedSpans": str(count), "errorMessage": words}
    return Response(msgspec.json.encode(answer), media_type=JSON)


def _status(kind: str, text: str) -> Response:
    """Return a 400 with a google.rpc.Status, which senders do not send again."""
    if kind == JSON:
        body = msgspec.json.encode({"code": _INVALID, "message": text})
        return Response(body, 400, media_type=JSON)
    message = text.encode("ascii", "replace")[:100]
    body = bytes((0x08, _INVALID, 0x12, len(message))) + message
    return Response(body, 400, media_type=PROTOBUF)


ROUTES = (Route("/v1/traces", receive, methods=["POST"]),)
