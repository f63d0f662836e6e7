"""OTLP traces that `export` wrote, in JSON or protobuf: nothing of the step record is lost.

Their spans carry every column that is set as an attribute (`otlp_columns`), and these are taken as
they are: nothing is told from names, times or the tree. A file in which a collector mixed them with
spans of other programs gives only ours; `--format otlp-json` reads all of them as spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from polysilicon.errors import InputError
from polysilicon.workload.checks import SCHEMA
from polysilicon.workload.imports import otlp_json, otlp_proto
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.gather import whole_tasks
from polysilicon.workload.imports.json_text import Text, broken, documents, plain
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.types import Clock, Options
from polysilicon.workload.otlp_columns import columns_of, is_task_span

Attributes = dict[str, Any]


class _Array(msgspec.Struct, gc=False):
    values: list[_Value] = []


class _Value(msgspec.Struct, gc=False):
    stringValue: str | None = None  # noqa: N815
    intValue: str | int | None = None  # noqa: N815
    doubleValue: float | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: _Array | None = None  # noqa: N815


class _Attribute(msgspec.Struct, gc=False):
    key: str
    value: _Value


class _Span(msgspec.Struct, gc=False):
    attributes: list[_Attribute] = []


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: list[_Span] = []


class _ResourceSpans(msgspec.Struct, gc=False):
    scopeSpans: list[_ScopeSpans] = []  # noqa: N815


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans] = []  # noqa: N815


_decode = msgspec.json.Decoder(_Request).decode
_decode_several = msgspec.json.Decoder(list[_Request]).decode

_MARK = b"polysilicon.task_id"
_TABLE_ROWS = 65_536
_STORED = pa.schema([field.with_nullable(nullable=True) for field in SCHEMA])


def recognise(source: Source) -> bool:
    """Tell whether a file holds spans of our own export."""
    if _MARK not in source.head:
        return False
    return otlp_json.recognise(source) or otlp_proto.recognise(source)


def read(source: Source, _clock: Clock, findings: Findings, _options: Options) -> Iterator[Any]:
    """Yield the steps of a file.

    Raises:
        InputError: a document or an attribute in our name is bad, and bad ones are not to be
            skipped.
    """
    return whole_tasks(_tables(source, findings))


def _tables(source: Source, findings: Findings) -> Iterator[Any]:
    """Yield tables of the steps as they lie in the file."""
    rows: list[dict[str, Any]] = []
    found = _in_json if otlp_json.recognise(source) else _in_protobuf
    for where, attributes in found(source, findings):
        try:
            row = columns_of(attributes)
        except InputError as error:
            findings.bad(error.what, where=where, mend=error.mend)
            continue
        if row is None:
            ours = is_task_span(attributes)
            findings.leave("span of a whole task" if ours else "span of another program")
            continue
        if "task_id" not in row:
            findings.bad(f"a step without {_MARK.decode()}", where=where)
            continue
        row["task_id"] = f"{source.prefix}{row['task_id']}"
        rows.append(row)
        if len(rows) == _TABLE_ROWS:
            yield pa.Table.from_pylist(rows, _STORED)
            rows = []
    yield pa.Table.from_pylist(rows, _STORED)


def _in_json(source: Source, findings: Findings) -> Iterator[tuple[str, Attributes]]:
    """Yield place and attributes of each span of a file in JSON."""
    keys = (otlp_json.ARRAYS, otlp_json.KEPT)
    for text in documents(source, findings, *keys):
        try:
            yield from _of_text(text, findings)
        except msgspec.DecodeError as error:
            for piece in broken(text, error, findings, keys):
                part = Text(piece.data, text.path, text.at + piece.at)
                yield from _of_text(part, findings)


def _of_text(text: Text, findings: Findings) -> Iterator[tuple[str, Attributes]]:
    """Yield place and attributes of each span of a document.

    Raises:
        msgspec.DecodeError: it is no JSON.
    """
    try:
        requests = _decode_several(text.data) if text.is_list() else [_decode(text.data)]
    except (msgspec.ValidationError, UnicodeDecodeError):
        yield from _of_document(text.where(), plain(text.data), findings)
        return
    where = text.where()
    for request in requests:
        for resource in request.resourceSpans:
            for scope in resource.scopeSpans:
                for span in scope.spans:
                    yield where, {a.key: _typed(a.value) for a in span.attributes}


def _typed(held: _Value) -> Any:
    """Return the value of a decoded attribute; None where it is none."""
    if held.stringValue is not None:
        return held.stringValue
    if held.intValue is not None:
        return _whole(held.intValue)
    if held.arrayValue is not None:
        return [_typed(one) for one in held.arrayValue.values]
    return held.boolValue if held.doubleValue is None else held.doubleValue


def _whole(value: int | str) -> int | None:
    """Return a whole number, which OTLP writes as text; None where it is none."""
    try:
        return int(value)
    except ValueError:
        return None


def _of_document(where: str, held: Any, findings: Findings) -> Iterator[tuple[str, Attributes]]:
    """Yield place and attributes of each span of a document that is not as it should be."""

    def listed(value: Any, key: str) -> list[Any]:
        found = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(found, list):
            findings.bad(f"no list of {key} where one must be", where=where)
            return []
        return found

    for request in held if isinstance(held, list) else [held]:
        for resource in listed(request, "resourceSpans"):
            for scope in listed(resource, "scopeSpans"):
                for span in listed(scope, "spans"):
                    if isinstance(span, dict):
                        told = span.get("attributes")
                        pairs = told if isinstance(told, list) else []
                        pairs = [a for a in pairs if isinstance(a, dict)]
                        yield where, {str(a.get("key")): _json_value(a.get("value")) for a in pairs}
                    else:
                        findings.bad("a span is no object", where=where)


def _json_value(held: Any) -> Any:
    """Return an attribute's value; None where it is none."""
    try:
        return _typed(msgspec.convert(held, _Value))
    except msgspec.ValidationError:
        return None


def _in_protobuf(source: Source, findings: Findings) -> Iterator[tuple[str, Attributes]]:
    """Yield place and attributes of each span of a file in protobuf."""
    for where, held in otlp_proto.resources(source, findings):
        for resource in held:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    yield where, {a.key: _proto_value(a.value) for a in span.attributes}


def _proto_value(held: Any) -> Any:
    """Return an attribute's value; None where it is none."""
    which = held.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_proto_value(one) for one in held.array_value.values]
    return getattr(held, which)
