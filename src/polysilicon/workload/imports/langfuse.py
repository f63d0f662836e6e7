"""Langfuse exports: traces with their observations, lists of observations, or one a line.

Where `metadata` still holds the attributes of the original spans, these are believed first, for
they tell more than the type that Langfuse gave the observation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.json_text import Text, broken, documents, plain
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.spans.rows import (
    LONGEST_ID,
    Row,
    batches,
    moment,
    row_of,
)
from polysilicon.workload.imports.spans.told import Told, real, tell_all, whole
from polysilicon.workload.imports.spans.traces import read_files
from polysilicon.workload.imports.spans.vocabulary import BEEAI_BOUND, BEEAI_EVENT, Role, Slot
from polysilicon.workload.imports.types import NS, Clock, Options

ARRAYS = frozenset({b"observations", b"data"})
KEPT = frozenset({b"trace"})
_TYPES: dict[str, int] = {
    "GENERATION": Role.LLM,
    "EMBEDDING": Role.EMBED,
    "TOOL": Role.TOOL,
    "RETRIEVER": Role.TOOL,
    "GUARDRAIL": Role.TOOL,
    "EVALUATOR": Role.TOOL,
    "AGENT": Role.AGENT,
    "CHAIN": Role.CHAIN,
    "EVENT": Role.EVENT,
}
# Whole numbers of at least this many are milliseconds: exports differ in the unit of `latency`.
_LONGEST_LATENCY_S = 600
_INPUT = ("input", "prompt_tokens", "promptTokens", "input_tokens", "prompt", "inputTokens")
_OUTPUT = ("output", "completion_tokens", "completionTokens", "output_tokens", "completion")
_CACHED = (
    "input_cached_tokens",
    "input_cache_read",
    "input_cache_read_tokens",
    "input_cached",
    "cache_read_input_tokens",
    "cache_read",
    "prompt_details.cache_read",
    "prompt_tokens_details.cached_tokens",
)
_CREATED = (
    "input_cache_creation",
    "input_cache_write",
    "input_cache_creation_tokens",
    "cache_creation_input_tokens",
)


def recognise(source: Source) -> bool:
    """Tell whether a file is an export of Langfuse."""
    head = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[:1] not in (b"{", b"[") or b'"resourceSpans"' in head:
        return False
    if b'"observations"' in head and (b'"trace"' in head or b'"projectId"' in head):
        return True
    observed = b'"traceId"' in head and b'"startTime"' in head
    observed |= b'"trace_id"' in head and b'"start_time"' in head
    kinds = (b'"GENERATION"', b'"SPAN"', b'"parentObservationId"', b'"parent_observation_id"')
    return observed and any(kind in head for kind in kinds)


def read(source: Source, clock: Clock, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the steps of a file's traces."""
    return read_files([(_THIS, source)], clock, findings, options)


def spans(source: Source, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the observations of a file as tables of `rows.SCHEMA`.

    Raises:
        InputError: an observation is bad, and bad ones are not to be skipped.
    """
    texts = documents(source, findings, ARRAYS, KEPT)
    rows = (_rows(text, findings) for text in texts)
    return batches(rows, options.time_unit, hexadecimal=False)


def _rows(text: Text, findings: Findings) -> list[Row]:
    """Return the rows of a document."""
    rows: list[Row] = []
    try:
        found = plain(text.data)
    except msgspec.DecodeError as error:
        for piece in broken(text, error, findings, (ARRAYS, KEPT)):
            rows += _rows(Text(piece.data, text.path, text.at + piece.at), findings)
        return rows
    for value in found if isinstance(found, list) else [found]:
        if not isinstance(value, dict):
            findings.bad("JSON that is no observation", where=text.where())
            continue
        trace = value.get("trace")
        listed = value.get("observations", value.get("data"))
        if isinstance(listed, list):
            above = trace if isinstance(trace, dict) else value
            _end_beeai(listed)
            found_rows = (_row(each, above, text, findings) for each in listed)
            rows.extend(row for row in found_rows if row is not None)
        elif (row := _row(value, {}, text, findings)) is not None:
            rows.append(row)
    return rows


def _end_beeai(observations: list[Any]) -> None:
    """End what BeeAI began by the event that ended it, in place; without one, nothing tells when.

    BeeAI records `tool.search.start-12` and `tool.search.finish-12` as observations that both end
    when the run does.
    """
    ended: dict[tuple[str, str], Any] = {}
    begun: list[tuple[tuple[str, str], dict[str, Any]]] = []
    for each in observations:
        name = each.get("name") if isinstance(each, dict) else None
        found = BEEAI_BOUND.fullmatch(name[-LONGEST_ID:]) if isinstance(name, str) else None
        if found is None:
            continue
        key = (str(_of(each, "traceId", "trace_id")), f"{found[1]}-{found[3]}")
        if found[2] == "start":
            begun.append((key, each))
        else:
            ended.setdefault(key, _of(each, "startTime", "start_time"))
    for key, each in begun:
        for name in ("endTime", "end_time", "latency"):
            each.pop(name, None)
        each["endTime"] = ended.get(key)


def _row(value: Any, trace: Mapping[str, Any], text: Text, findings: Findings) -> Row | None:
    """Return the row of an observation; None where it is bad."""
    if not isinstance(value, dict):
        findings.bad("JSON that is no observation", where=text.where())
        return None
    trace_id = _of(value, "traceId", "trace_id") or trace.get("id")
    start = _of(value, "startTime", "start_time")
    if trace_id is None or start is None or value.get("id") is None:
        findings.bad("observation without id, traceId or startTime", where=text.where())
        return None
    metadata = _mapping(value.get("metadata"))
    told = tell_all(_mapping(metadata.get("attributes")))
    kind = str(value.get("type") or "")
    _tell_own(value, metadata, kind, told)
    service = _mapping(metadata.get("resourceAttributes")).get("service.name")
    if service is None or str(service).startswith("unknown_service"):
        service = trace.get("name")
    if service is not None:
        told["service"] = service
    parent = _of(value, "parentObservationId", "parent_observation_id")
    end = _of(value, "endTime", "end_time")
    if end is None:
        end = _later(start, real(value.get("latency")))
    return row_of(
        (_id(trace_id), _id(value["id"]), None if parent is None else _id(parent)),
        (start, end, _of(value, "completionStartTime", "completion_start_time")),
        told,
        str(value.get("name") or ""),
        server=False,
        failed=value.get("level") == "ERROR",
    )


def _tell_own(value: Mapping[str, Any], metadata: Mapping[str, Any], kind: str, told: Told) -> None:
    """Note what Langfuse says of an observation itself."""
    role = _TYPES.get(kind)
    # LangChain's handler gives these of tools only, and older versions record those as spans.
    if kind == "SPAN" and "inputs" in metadata and "color" in metadata:
        role = Role.TOOL
    if BEEAI_EVENT.search(str(value.get("name"))[-LONGEST_ID:]):
        told["role"] = Role.EVENT
    if role is not None:
        told.setdefault("role", role)
    model = _of(value, "model", "providedModelName", "provided_model_name")
    if model is not None and role is not None:
        told.setdefault("model", model)
    for slot, count in _usage(value).items():
        told.setdefault(slot, count)
    first_s = real(_of(value, "timeToFirstToken", "time_to_first_token"))
    if first_s is not None:
        told.setdefault("first_s", first_s)


def _usage(value: Mapping[str, Any]) -> dict[Slot, int]:
    """Return tokens by slot.

    Langfuse keeps tokens in buckets that add up to the total: those read from a cache are not in
    `input`, unless the sum says that they are.
    """
    usage = _mapping(_of(value, "usageDetails", "usage_details")) or _mapping(value.get("usage"))
    usage = usage or {k: value[k] for k in ("promptTokens", "completionTokens") if value.get(k)}
    prompt, _ = _first(usage, _INPUT)
    output, _ = _first(usage, _OUTPUT)
    cached, key = _first(usage, _CACHED)
    created, _ = _first(usage, _CREATED)
    total, _ = _first(usage, ("total", "total_tokens", "totalTokens"))
    if prompt is not None and cached is not None:
        rest = cached + (created or 0)
        apart = not key.startswith("prompt")
        if total is not None:
            apart = prompt + (output or 0) + rest <= total
        prompt += rest if apart else 0
    found: dict[Slot, int | None] = {"prompt": prompt, "cached": cached, "output": output}
    return {slot: count for slot, count in found.items() if count is not None}


def _first(usage: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[int | None, str]:
    """Return the first count that is there, and its key."""
    for key in keys:
        count = whole(usage.get(key))
        if count is not None:
            return count, key
    return None, ""


def _of(value: Mapping[str, Any], *keys: str) -> Any:
    """Return the first of some values that is there."""
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, also where it is given as JSON text; else an empty one."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            value = plain(value.encode(errors="replace"))
        except msgspec.DecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _id(value: Any) -> str:
    return str(value)[:LONGEST_ID]


def _later(start: Any, latency: float | None) -> int | None:
    """Return the end of what has a start and a latency."""
    begin = moment(start)
    if begin is None or latency is None:
        return None
    if latency >= _LONGEST_LATENCY_S and latency.is_integer():
        latency /= 1e3
    return begin + round(latency * NS)


_THIS = sys.modules[__name__]
