"""OTLP traces in protobuf: `ExportTraceServiceRequest`, alone or one after the other in a file.

The collector's file exporter writes each message after its length in four bytes, the highest first,
compressed by itself where it is told to compress; other tools write the length as a varint. A
message by itself is read one resource at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.proto_parts import CUT_BYTES, parts_of, resources_of, varint
from polysilicon.workload.imports.source import MOST_RATIO, Source
from polysilicon.workload.imports.spans.rows import (
    NAMELESS,
    Row,
    batch_of,
    batches,
    columns_of,
    row_of,
)
from polysilicon.workload.imports.spans.told import Told, named_role, plan_of
from polysilicon.workload.imports.spans.traces import read_files
from polysilicon.workload.imports.spans.vocabulary import FIRST_TOKEN_EVENTS
from polysilicon.workload.imports.types import Clock, Options

LARGEST_MESSAGE = 256 * 2**20
_RESOURCE_SPANS = 0x0A  # field 1, length-delimited
_INNER = frozenset({0x0A, 0x12, 0x1A})  # resource, scope_spans, schema_url
_SERVERS = frozenset({2, 5})
_ERROR = 2
_ZSTD = b"\x28\xb5\x2f\xfd"
_VALUES = ("string_value", "int_value", "double_value", "bool_value")


def recognise(source: Source) -> bool:
    """Tell whether a file holds OTLP requests in protobuf."""
    return _framing(source.head) != ""


def read(source: Source, clock: Clock, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the steps of a file's traces."""
    return read_files([(_THIS, source)], clock, findings, options)


def spans(source: Source, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the spans of a file as tables of `rows.SCHEMA`.

    Raises:
        InputError: a message is bad, and bad ones are not to be skipped.
    """
    found = (_rows(held, findings) for _, held in resources(source, findings))
    return batches(found, options.time_unit)


def resources(source: Source, findings: Findings) -> Iterator[tuple[str, list[Any]]]:
    """Yield where each message of a file lies, and its `ResourceSpans`; some at once.

    Raises:
        InputError: a message is bad, and bad ones are not to be skipped.
    """
    framing = _framing(source.head) or "bare"
    kind = ResourceSpans if framing == "bare" else ExportTraceServiceRequest
    for at, payload in _payloads(_Reader(source.chunks()), framing, source, findings):
        where = f"{source.path}, byte {at}"
        for held in _message(payload, kind, where, findings):
            yield where, held


def spans_of_request(body: bytes, findings: Findings, where: str = "request") -> Any:
    """Return the spans of one request in memory as a table of `rows.SCHEMA`.

    Raises:
        InputError: it is none, and bad ones are not to be skipped.
    """
    found = _message(body, ExportTraceServiceRequest, where, findings)
    rows = [row for held in found for row in _rows(held, findings)]
    return batch_of(columns_of(rows))


def _framing(head: bytes) -> str:
    """Return how messages lie in a file: `bare`, `fixed`, `varint`; empty where there are none."""
    if _is_message(head, len(head)):
        return "bare"
    length = int.from_bytes(head[:4], "big")
    if len(head) > 5 and 0 < length <= LARGEST_MESSAGE and _is_message(head[4:], length):
        return "fixed"
    length, used = varint(head, 0)
    if used and 0 < length <= LARGEST_MESSAGE and _is_message(head[used:], length):
        return "varint"
    return ""


def _is_message(data: bytes, length: int) -> bool:
    """Tell whether a request of some length can begin with these bytes."""
    if data.startswith(_ZSTD):
        return True
    inner, used = varint(data, 1)
    if data[:1] != bytes([_RESOURCE_SPANS]) or not used or len(data) < used + 1:
        return False
    payload = data[used : used + inner]
    if not payload or payload[0] not in _INNER:
        return False
    if len(payload) < inner:
        return length >= len(data)
    try:
        ResourceSpans.FromString(payload)
    except DecodeError:
        return False
    return used + inner <= length


class _Reader:
    """Bytes of a stream by count."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self.at = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes; fewer where the stream ends."""
        while len(self._buffer) < count:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            self._buffer += chunk
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        self.at += len(found)
        return found

    def varint(self) -> int | None:
        """Return the next whole number; None where the stream ends or there is none."""
        value = 0
        for shift in range(10):
            byte = self.take(1)
            if not byte:
                return None
            value |= (byte[0] & 0x7F) << (7 * shift)
            if byte[0] < 0x80:
                return value
        return None


def _payloads(
    reader: _Reader, framing: str, source: Source, findings: Findings
) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each message, or of each resource of a message by itself.

    What follows a broken length cannot be found again, so nothing after it is read.
    """
    while True:
        at = reader.at
        tag = reader.take(4 if framing == "fixed" else 1 if framing == "bare" else 0)
        if framing != "varint" and not tag:
            return
        if framing == "fixed":
            length = int.from_bytes(tag, "big") if len(tag) == 4 else None
        elif framing == "bare" and tag[0] != _RESOURCE_SPANS:
            length = None
        else:
            length = reader.varint()
            if length is None and reader.at == at:
                return
        where = f"{source.path}, byte {at}"
        if length is None:
            findings.bad("no protobuf of OTLP", where=where)
            return
        if length > LARGEST_MESSAGE:
            findings.bad(f"a message of more than {LARGEST_MESSAGE:,} bytes", where=where)
            return
        begin = reader.at
        payload = reader.take(length)
        if len(payload) < length:
            findings.bad("the file ends within a message", where=f"{source.path}, byte {reader.at}")
            return
        yield begin, payload


def _message(payload: bytes, kind: Any, where: str, findings: Findings) -> Iterator[list[Any]]:
    """Yield the `ResourceSpans` of a message; none where it is bad, which is counted.

    Of a large one that is bad, what comes before that is yielded.
    """
    try:
        if payload.startswith(_ZSTD):
            payload = _decompressed(payload)
        if len(payload) <= CUT_BYTES:
            message = kind.FromString(payload)
            yield [message] if kind is ResourceSpans else list(message.resource_spans)
            return
        for resource in [payload] if kind is ResourceSpans else resources_of(payload):
            for part in parts_of(resource):
                yield [ResourceSpans.FromString(part)]
    except (DecodeError, pa.ArrowException, OSError, ValueError):
        findings.bad("no protobuf of OTLP", where=where)


def _rows(held: list[Any], findings: Findings) -> list[Row]:
    """Return the rows of the spans of some resources, without those that name no span or trace."""
    rows: list[Row] = []
    for resource in held:
        above: Told = {}
        _tell(resource.resource.attributes, above)
        service: Told = {"service": above["service"]} if "service" in above else {}
        for scope in resource.scope_spans:
            named = [span for span in scope.spans if span.span_id and span.trace_id]
            findings.leave(NAMELESS, len(scope.spans) - len(named))
            rows += [_row(span, service) for span in named]
    return rows


def _decompressed(payload: bytes) -> bytes:
    """Return a compressed message.

    Raises:
        ValueError: it is larger than a message can be.
    """
    limit = min(LARGEST_MESSAGE, max(2**24, len(payload) * MOST_RATIO))
    with pa.input_stream(pa.BufferReader(payload), compression="zstd") as stream:
        found = bytes(stream.read(limit + 1))
    if len(found) > limit:
        raise ValueError
    return found


def _row(span: Any, service: Told) -> Row:
    """Return the row of a span."""
    told = service.copy()
    _tell(span.attributes, told)
    firsts = [e.time_unix_nano for e in span.events if e.name in FIRST_TOKEN_EVENTS]
    return row_of(
        (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()),
        (span.start_time_unix_nano, span.end_time_unix_nano, min(firsts, default=None)),
        told,
        span.name,
        server=span.kind in _SERVERS,
        failed=span.status.code == _ERROR,
    )


def _tell(attributes: Any, told: Told) -> None:
    """Note what attributes tell."""
    for slot, at, table in plan_of(tuple([a.key for a in attributes])):
        held = attributes[at].value
        which = held.WhichOneof("value")
        if which not in _VALUES or (slot in told and slot != "service"):
            continue
        value = getattr(held, which)
        if table is not None:
            value = named_role(table, value)
        if value is not None:
            told[slot] = value


_THIS = sys.modules[__name__]
