"""OTLP traces in JSON: `ExportTraceServiceRequest` objects, as exporters and collectors write them.

One object, one a line (the collector's file exporter), several after each other, or an array of
them. Only what a step needs is decoded; everything else is passed over by the parser.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.json_text import Text, broken, documents, plain
from polysilicon.workload.imports.otlp_decode import (
    Decoder,
    Request,
    Resource,
    ResourceSpans,
    ScopeSpans,
    Span,
)
from polysilicon.workload.imports.otlp_groups import Groups
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.spans.rows import BATCH_ROWS, SCHEMA
from polysilicon.workload.imports.spans.traces import read_files
from polysilicon.workload.imports.spans.vocabulary import KNOWN
from polysilicon.workload.imports.types import Clock, Options

ARRAYS = frozenset(
    {b"resourceSpans", b"batches", b"scopeSpans", b"instrumentationLibrarySpans", b"spans"}
)
KEPT = frozenset({b"resource"})

BATCH_BYTES = 2**18
"""Bytes of documents whose spans are grouped at once: few enough to lie in the cache."""


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
    groups, decoder = Groups(options.time_unit), Decoder()
    size = 0
    for text in documents(source, findings, ARRAYS, KEPT):
        _gather(text, decoder, groups, findings)
        size += len(text.data)
        if size >= BATCH_BYTES or groups.spans >= BATCH_ROWS:
            yield from groups.tables()
            size = 0
    yield from groups.tables(last=True)


def spans_of_request(body: bytes, findings: Findings, where: str = "request") -> Any:
    """Return the spans of one request in memory as a table of `rows.SCHEMA`.

    Raises:
        InputError: it is none, or a span is bad, and bad ones are not to be skipped.
    """
    groups = Groups()
    _gather(Text(body, where, 0), Decoder(), groups, findings)
    return pa.concat_tables([SCHEMA.empty_table(), *groups.tables(last=True)])


def _gather(text: Text, decoder: Decoder, groups: Groups, findings: Findings) -> None:
    """Add the spans of a document to others."""
    try:
        requests = decoder.requests(text.data, several=text.is_list())
    except (msgspec.ValidationError, UnicodeDecodeError):
        requests = _one_by_one(text, findings)
    except (msgspec.DecodeError, RecursionError) as error:
        for piece in broken(text, error, findings, (ARRAYS, KEPT)):
            part = Text(piece.data, text.path, text.at + piece.at)
            _gather(part, decoder, groups, findings)
        return
    for request in requests:
        if request.resourceSpans is None and request.batches is None:
            findings.bad("JSON that is no OTLP request", where=text.where())
        for resources in (request.resourceSpans, request.batches):
            for resource in resources or ():
                groups.add(resource, findings)


def _one_by_one(text: Text, findings: Findings) -> list[Request]:
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
        requests.append(Request(resourceSpans=resources))
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


def _sound(value: Any, text: Text, findings: Findings) -> ResourceSpans:
    """Return the spans of a resource that are sound."""
    good = []
    for key in ("scopeSpans", "instrumentationLibrarySpans") if isinstance(value, dict) else ("",):
        for scope in _listed(value, key, text, findings) or ():
            for span in _listed(scope, "spans", text, findings) or ():
                try:
                    good.append(msgspec.convert(_needed(span), Span))
                except msgspec.ValidationError as error:
                    what = re.sub(r"\[\d+\]", "[…]", str(error))
                    findings.bad(f"span that is none: {what}", where=text.where())
    try:
        resource = msgspec.convert(value.get("resource"), Resource | None)
    except (msgspec.ValidationError, AttributeError):
        resource = None
    return ResourceSpans(resource=resource, scopeSpans=[ScopeSpans(spans=good)])


def _needed(span: Any) -> Any:
    """Return a span without attributes that tell nothing: what their values are is no matter.

    A decoder that knows the names of attributes does not look at them either.
    """
    attributes = span.get("attributes") if isinstance(span, dict) else None
    if not isinstance(attributes, list):
        return span
    kept = [a for a in attributes if not _tells_nothing(a)]
    return {**span, "attributes": kept}


def _tells_nothing(attribute: Any) -> bool:
    name = attribute.get("key") if isinstance(attribute, dict) else None
    return isinstance(name, str) and name not in KNOWN


_THIS = sys.modules[__name__]
