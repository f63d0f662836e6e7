"""Spans of OTLP JSON as tables: those with the same attributes are taken together, by columns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.otlp_decode import (
    Attribute,
    Event,
    ResourceSpans,
    Span,
    Time,
    Value,
)
from polysilicon.workload.imports.spans.rows import (
    BATCH_ROWS,
    ERROR,
    NAMELESS,
    OK,
    Row,
    Same,
    Values,
    batch_of,
    extend,
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
from polysilicon.workload.imports.spans.vocabulary import FIRST_TOKEN_EVENTS, Role, Slot

_SERVERS = frozenset({2, 5, "2", "5", "SPAN_KIND_SERVER", "SPAN_KIND_CONSUMER"})
_RARE = frozenset({"error", "first_s", "first_ms", "first_at", "hint"})
"""Slots that only few spans have, which are looked at one by one."""

_FEW = 4
_FAILED = frozenset({2, "2", "STATUS_CODE_ERROR"})

Part = list[Values]
_Group = tuple[list[str], list[Span]]
_Alike = dict[tuple[str, ...], _Group]


class Groups:
    """Spans of several documents by service and by the names of their attributes.

    Looking an attribute up once for many spans takes a third of the time, and what all of them
    have in common is made once.

    Attributes:
        spans: how many are held that were not given out as tables yet.

    Args:
        unit: of times; empty to tell it by their size.
    """

    def __init__(self, unit: str = "") -> None:
        self.spans = 0
        self._unit = unit
        self._of: dict[Any, _Alike] = {}
        self._rows = no_columns()

    def add(self, resource: ResourceSpans, findings: Findings) -> None:
        """Take the spans of one resource, without those that name no span or no trace."""
        above: Told = {}
        if resource.resource is not None and resource.resource.attributes:
            _tell(resource.resource.attributes, above)
        alike = self._of.setdefault(above.get("service"), {})
        latest: dict[int, _Group] = {}
        nameless = 0
        scopes = (resource.scopeSpans, resource.instrumentationLibrarySpans)
        for scope in chain.from_iterable(found for found in scopes if found):
            for span in scope.spans or ():
                # Empty spans make no rows: a file holds a hundred times as many as sound ones.
                if not span.spanId or not span.traceId:
                    nameless += 1
                    continue
                keys = [a.key for a in span.attributes] if span.attributes else []
                # Comparing names with those of the last span that has as many saves their hashes.
                group = latest.get(len(keys))
                if group is None or group[0] != keys:
                    group = latest[len(keys)] = alike.setdefault(tuple(keys), (keys, []))
                group[1].append(span)
                self.spans += 1
        findings.leave(NAMELESS, nameless)

    def tables(self, *, last: bool = False) -> Iterator[Any]:
        """Forget the spans, and yield a table where they and those before are enough for one.

        Args:
            last: there are no more, and what waits is enough.
        """
        groups, self._of, self.spans = self._of, {}, 0
        for service, alike in groups.items():
            told: Told = {} if service is None else {"service": service}
            few: list[Span] = []
            for keys, group in alike.values():
                parts = _alike(group, plan_of(tuple(keys)), told) if len(group) >= _FEW else None
                if parts is None:
                    few += group
                for part in parts or ():
                    extend(self._rows, part)
            if few:
                extend(self._rows, zip(*(_row(span, told) for span in few), strict=True))
        if len(self._rows[0]) >= (1 if last else BATCH_ROWS):
            yield batch_of(self._rows, self._unit)
            self._rows = no_columns()


def _alike(group: list[Span], plan: Plan, service: Told) -> list[Part] | None:
    """Return the columns of spans with the same attributes, by role.

    Returns:
        None where they must be looked at one by one.
    """
    told: dict[Slot, list[Any]] = {}
    attributes = [span.attributes or [] for span in group]
    for slot, at, table in plan:
        if slot in _RARE:
            return None
        values = _values(attributes, at)
        if table is not None:
            named = {value: named_role(table, value) for value in set(values) if value is not None}
            values = list(map(named.get, values))
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
        return None
    if len(different) == 1:
        return [list(_of_role(group, roles[0], told, service))]
    found: list[Part] = []
    for role in sorted(different):
        among = [at for at, named in enumerate(roles) if named == role]
        some = {slot: [values[at] for at in among] for slot, values in told.items()}
        found.append(list(_of_role([group[at] for at in among], role, some, service)))
    return found


def _values(attributes: list[list[Attribute]], at: int) -> list[Any]:
    """Return the values of an attribute of several spans, by its place among all of theirs."""
    found: list[Any]
    try:
        if attributes[0][at].value.stringValue is None:  # type: ignore[union-attr]
            found = [a[at].value.intValue for a in attributes]  # type: ignore[union-attr]
        else:
            found = [a[at].value.stringValue for a in attributes]  # type: ignore[union-attr]
        if None not in found:
            return found
    except AttributeError:
        pass
    held = [a[at].value for a in attributes]
    return [None if value is None else _value(value) for value in held]


def _value(held: Value) -> Any:
    if held.stringValue is not None:
        return held.stringValue
    return held.doubleValue if held.intValue is None else held.intValue


def _of_role(
    group: list[Span], role: int, told: dict[Slot, list[Any]], service: Told
) -> Iterator[Values]:
    """Yield the columns of spans that have the same role and attributes, as `row_of` has them."""
    n = len(group)
    nothing = Same(None, n)
    names: Values = nothing
    agents: Values = told.get("agent", nothing)
    models: Values = nothing
    tokens: tuple[Values, Values, Values] = (nothing, nothing, nothing)
    first: Values = nothing
    if role <= Role.EMBED:
        names = Same("chat" if role == Role.LLM else "embed", n)
        models = told.get("model", nothing)
        tokens = _tokens(told, nothing)
        events = [s.events for s in group]
        if any(events):
            first = [_first_token(some) if some else None for some in events]
    elif role == Role.TOOL:
        tools, operations = told.get("tool", nothing), told.get("operation", nothing)
        called = zip(tools, operations, group, strict=True)
        names = [tool or operation or tool_name(s.name or "") for tool, operation, s in called]
    elif role == Role.AGENT and None in agents:
        called = zip(agents, told.get("operation", nothing), group, strict=True)
        agents = [a if a is not None else o or agent_name(s.name or "") for a, o, s in called]
    failed = [s.status is not None and s.status.code in _FAILED for s in group]
    yield [s.traceId for s in group]
    yield [s.spanId for s in group]
    yield [s.parentSpanId for s in group]
    yield [s.startTimeUnixNano for s in group]
    yield [s.endTimeUnixNano for s in group]
    yield Same(role, n)
    yield names
    yield agents
    yield models
    yield told.get("service", Same(service.get("service"), n))
    yield from tokens
    yield nothing
    yield first
    yield [ERROR if one else OK for one in failed] if True in failed else Same(OK, n)


def _tokens(told: dict[Slot, list[Any]], nothing: Same) -> tuple[Values, Values, Values]:
    """Return prompt, cached and output tokens, as `row_of` has them."""
    slots: tuple[Slot, ...] = ("prompt", "cached", "output", "created")
    prompts, cached, outputs, created = (
        counts_of(told[slot]) if slot in told else nothing for slot in slots
    )
    if "cached" in told:
        each = zip(prompts, cached, created, strict=True)
        prompts = [with_cached(*one) for one in each]
    return prompts, cached, outputs


def _row(span: Span, service: Told) -> Row:
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


def _tell(attributes: list[Attribute], told: Told) -> None:
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


def _first_token(events: list[Event]) -> Time:
    """Return when the first event came that stands for the first token."""
    times = [e.timeUnixNano for e in events if e.name in FIRST_TOKEN_EVENTS]
    return min((t for t in times if t), key=lambda t: moment(t) or 0, default=None)
