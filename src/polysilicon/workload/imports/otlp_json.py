"""OTLP traces in JSON: `ExportTraceServiceRequest` objects, as exporters and collectors write them.

One object, one a line (the collector's file exporter), several after each other, or an array of
them. Only what a step needs is decoded; everything else is passed over by the parser.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.json_text import Text, broken, documents, plain
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.spans.rows import (
    ERROR,
    NAMELESS,
    OK,
    Columns,
    Row,
    batch_of,
    batches,
    columns_of,
    moment,
    no_columns,
    row_of,
    with_cached,
)
from polysilicon.workload.imports.spans.told import (
    Plan,
    Told,
    agent_name,
    counts_of,
    named_role,
    plan_of,
    tool_name,
)
from polysilicon.workload.imports.spans.traces import read_files
from polysilicon.workload.imports.spans.vocabulary import FIRST_TOKEN_EVENTS, Role, Slot
from polysilicon.workload.imports.types import Clock, Options

ARRAYS = frozenset(
    {b"resourceSpans", b"batches", b"scopeSpans", b"instrumentationLibrarySpans", b"spans"}
)
KEPT = frozenset({b"resource"})

Time = str | int | float | None


class _Value(msgspec.Struct, gc=False):
    stringValue: str | None = None  # noqa: N815
    intValue: str | int | None = None  # noqa: N815
    doubleValue: float | str | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815


class _Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: _Value | None = None


class _Event(msgspec.Struct, gc=False):
    name: str | None = ""
    timeUnixNano: Time = None  # noqa: N815


class _Status(msgspec.Struct, gc=False):
    code: str | int | None = 0


class _Span(msgspec.Struct, gc=False):
    traceId: str = ""  # noqa: N815
    spanId: str = ""  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    name: str | None = ""
    kind: str | int | None = 0
    startTimeUnixNano: Time = None  # noqa: N815
    endTimeUnixNano: Time = None  # noqa: N815
    attributes: list[_Attribute] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_Attribute] | None = None


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: list[_Span] | None = None


class _ResourceSpans(msgspec.Struct, gc=False):
    resource: _Resource | None = None
    scopeSpans: list[_ScopeSpans] | None = None  # noqa: N815
    instrumentationLibrarySpans: list[_ScopeSpans] | None = None  # noqa: N815


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans] | None = None  # noqa: N815
    batches: list[_ResourceSpans] | None = None


_decode = msgspec.json.Decoder(_Request).decode
_decode_several = msgspec.json.Decoder(list[_Request]).decode
_SERVERS = frozenset({2, 5, "2", "5", "SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER"})
_RARE = frozenset({"error", "first_s", "first_ms", "first_at", "hint"})
"""Slots that only few spans have, which are looked at one by one."""

_FEW = 4
_FAILED = frozenset({2, "2", "STATUS_CODE_ERROR"})


def recognise(source: Source) -> bool:
    """Tell whether a file holds OTLP requests in JSON."""
    head = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] not in (b"{", b"["):
        return False
    return b'"resourceSpans"' in head or (b'"batches"' in head and b'"scopeSpans"' in head)


def read(source: Source, clock: Clock, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the steps of a file's traces."""
    return read_files([(_THIS, source)], clock, findings, options)


def spans(source: Source, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the spans of a file as tables of `rows.SCHEMA`.

    Raises:
        InputError: a request or a span is bad, and bad ones are not to be skipped.
    """
    texts = documents(source, findings, ARRAYS, KEPT)
    return batches((_columns(text, findings) for text in texts), options.time_unit)


def spans_of_request(body: bytes, findings: Findings, where: str = "request") -> Any:
    """Return the spans of one request in memory as a table of `rows.SCHEMA`.

    Raises:
        InputError: it is none, or a span is bad, and bad ones are not to be skipped.
    """
    return batch_of(_columns(Text(body, where, 0), findings))


def _columns(text: Text, findings: Findings) -> Columns:
    """Return the columns of a document's spans."""
    data = text.data
    columns = no_columns()
    try:
        requests = _decode_several(data) if text.is_list() else [_decode(data)]
    except (msgspec.ValidationError, UnicodeDecodeError):
        requests = _one_by_one(text, findings)
    except (msgspec.DecodeError, RecursionError) as error:
        for piece in broken(text, error, findings, (ARRAYS, KEPT)):
            _extend(columns, _columns(Text(piece.data, text.path, text.at + piece.at), findings))
        return columns
    for request in requests:
        if request.resourceSpans is None and request.batches is None:
            findings.bad("JSON that is no OTLP request", where=text.where())
        for resources in (request.resourceSpans, request.batches):
            for resource in resources or ():
                _add_resource(resource, columns, findings)
    return columns


def _extend(columns: Columns, more: Iterable[list[Any]]) -> None:
    for column, values in zip(columns, more, strict=True):
        column.extend(values)


def _add_resource(resource: _ResourceSpans, columns: Columns, findings: Findings) -> None:
    """Add the columns of the spans of one resource, without those that name no span or no trace.

    Spans with the same attributes are taken together: looking an attribute up once for many of
    them takes a third of the time.
    """
    above: Told = {}
    if resource.resource is not None and resource.resource.attributes:
        _tell(resource.resource.attributes, above)
    service: Told = {"service": above["service"]} if "service" in above else {}
    alike: dict[tuple[str, ...], list[_Span]] = {}
    scopes = (resource.scopeSpans, resource.instrumentationLibrarySpans)
    for scope in chain.from_iterable(found for found in scopes if found):
        held = scope.spans or []
        # Empty spans make no rows: a file holds a hundred times as many of them as of sound ones.
        named = [span for span in held if span.spanId and span.traceId]
        findings.leave(NAMELESS, len(held) - len(named))
        for span in named:
            keys = tuple([a.key for a in span.attributes]) if span.attributes else ()
            alike.setdefault(keys, []).append(span)
    few: list[_Span] = []
    for keys, group in alike.items():
        if len(group) < _FEW or not _add_alike(group, plan_of(keys), service, columns):
            few += group
    if few:
        _extend(columns, columns_of([_row(span, service) for span in few]))


def _add_alike(group: list[_Span], plan: Plan, service: Told, columns: Columns) -> bool:
    """Add spans with the same attributes; False where they must be looked at one by one."""
    told: dict[Slot, list[Any]] = {}
    attributes = [span.attributes or [] for span in group]
    for slot, at, table in plan:
        if slot in _RARE:
            return False
        values = _values(attributes, at)
        if table is not None:
            named = {value: named_role(table, value) for value in set(values) if value is not None}
            values = [named.get(value) for value in values]
        known = told.get(slot)
        if known is None:
            told[slot] = values
        elif None in known:
            told[slot] = [
                new if old is None else old for old, new in zip(known, values, strict=True)
            ]
    roles = told.pop("role", [None])
    different = set(roles)
    if None in different:
        return False
    if len(different) == 1:
        _extend(columns, _of_role(group, roles[0], told, service))
        return True
    for role in sorted(different):
        among = [at for at, found in enumerate(roles) if found == role]
        some = {slot: [values[at] for at in among] for slot, values in told.items()}
        _extend(columns, _of_role([group[at] for at in among], role, some, service))
    return True


def _values(attributes: list[list[_Attribute]], at: int) -> list[Any]:
    """Return the values of an attribute of several spans, by its place among all of theirs."""
    try:
        found: list[Any] = [a[at].value.stringValue for a in attributes]  # type: ignore[union-attr]
        if found[0] is None:
            found = [a[at].value.intValue for a in attributes]  # type: ignore[union-attr]
        if None not in found:
            return found
    except AttributeError:
        pass
    held = [a[at].value for a in attributes]
    return [None if value is None else _value(value) for value in held]


def _value(held: _Value) -> Any:
    if held.stringValue is not None:
        return held.stringValue
    return held.doubleValue if held.intValue is None else held.intValue


def _of_role(
    group: list[_Span], role: int, told: dict[Slot, list[Any]], service: Told
) -> Iterator[list[Any]]:
    """Yield the columns of spans that have the same role and attributes, as `row_of` has them."""
    n = len(group)
    nothing: list[Any] = [None] * n
    get = told.get
    names, agents = nothing, get("agent", nothing)
    models = prompts = cached = outputs = nothing
    if role <= Role.EMBED:
        names = ["chat" if role == Role.LLM else "embed"] * n
        models = get("model", nothing)
        prompts, cached, outputs = _tokens(told, n)
    elif role == Role.TOOL:
        called = zip(get("tool", nothing), get("operation", nothing), group, strict=True)
        names = [tool or operation or tool_name(s.name or "") for tool, operation, s in called]
    elif role == Role.AGENT and None in agents:
        called = zip(agents, get("operation", nothing), group, strict=True)
        agents = [a if a is not None else o or agent_name(s.name or "") for a, o, s in called]
    yield [s.traceId for s in group]
    yield [s.spanId for s in group]
    yield [s.parentSpanId for s in group]
    yield [s.startTimeUnixNano for s in group]
    yield [s.endTimeUnixNano for s in group]
    yield [role] * n
    yield names
    yield agents
    yield models
    yield get("service", [service.get("service")] * n)
    yield prompts
    yield cached
    yield outputs
    yield nothing
    yield [_first_token(s.events) if s.events and role <= Role.EMBED else None for s in group]
    yield [ERROR if s.status is not None and s.status.code in _FAILED else OK for s in group]


def _tokens(told: dict[Slot, list[Any]], n: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Return prompt, cached and output tokens, as `row_of` has them."""
    slots: tuple[Slot, ...] = ("prompt", "cached", "output", "created")
    prompts, cached, outputs, created = (
        counts_of(told[slot]) if slot in told else [None] * n for slot in slots
    )
    if "cached" in told:
        each = zip(prompts, cached, created, strict=True)
        prompts = [with_cached(*one) for one in each]
    return prompts, cached, outputs


def _row(span: _Span, service: Told) -> Row:
    """Return the row of a span."""
    told = service.copy()
    if span.attributes:
        _tell(span.attributes, told)
    return row_of(
        (span.traceId, span.spanId, span.parentSpanId),
        (
            span.startTimeUnixNano,
            span.endTimeUnixNano,
            _first_token(span.events) if span.events else None,
        ),
        told,
        span.name or "",
        server=span.kind in _SERVERS,
        failed=span.status is not None and span.status.code in _FAILED,
    )


def _tell(attributes: list[_Attribute], told: Told) -> None:
    """Note what attributes tell."""
    for slot, at, table in plan_of(tuple([a.key for a in attributes])):
        held = attributes[at].value
        if held is None or (slot in told and slot != "service"):
            continue
        value = _value(held)
        if value is None:
            continue
        if table is not None:
            value = named_role(table, value)
            if value is None:
                continue
        told[slot] = value


def _first_token(events: list[_Event]) -> Time:
    """Return when the first event came that stands for the first token."""
    times = [e.timeUnixNano for e in events if e.name in FIRST_TOKEN_EVENTS]
    return min((t for t in times if t), key=lambda t: moment(t) or 0, default=None)


def _one_by_one(text: Text, findings: Findings) -> list[_Request]:
    """Decode a document whose values are not all of the types they must have, span by span.

    Raises:
        InputError: a span is bad, and bad ones are not to be skipped.
    """
    try:
        found = plain(text.data)
    except msgspec.DecodeError as error:
        broken(text, error, findings, (ARRAYS, KEPT))
        return []
    requests = []
    for request in found if isinstance(found, list) else [found]:
        lists = [_listed(request, key, text, findings) for key in ("resourceSpans", "batches")]
        if all(listed is None for listed in lists):
            findings.bad("JSON that is no OTLP request", where=text.where())
            continue
        held = [one for listed in lists for one in listed or ()]
        resources = [_sound(resource, text, findings) for resource in held]
        requests.append(_Request(resourceSpans=resources))
    return requests


def _listed(value: Any, key: str, text: Text, findings: Findings) -> list[Any] | None:
    """Return a list in an object; None where it has none, which is bad if it is something else."""
    if not isinstance(value, dict):
        findings.bad("something else where OTLP has an object", where=text.where())
        return []
    found = value.get(key)
    if found is None or isinstance(found, list):
        return found
    findings.bad(f"{key} that is no list", where=text.where())
    return []


def _sound(value: Any, text: Text, findings: Findings) -> _ResourceSpans:
    """Return the spans of a resource that are sound."""
    good = []
    for key in ("scopeSpans", "instrumentationLibrarySpans") if isinstance(value, dict) else ("",):
        for scope in _listed(value, key, text, findings) or ():
            for span in _listed(scope, "spans", text, findings) or ():
                try:
                    good.append(msgspec.convert(span, _Span))
                except msgspec.ValidationError as error:
                    what = re.sub(r"\[\d+\]", "[…]", str(error))
                    findings.bad(f"span that is none: {what}", where=text.where())
    try:
        resource = msgspec.convert(value.get("resource"), _Resource | None)
    except (msgspec.ValidationError, AttributeError):
        resource = None
    return _ResourceSpans(resource=resource, scopeSpans=[_ScopeSpans(spans=good)])


_THIS = sys.modules[__name__]
