"""Spans that can be used: each once, in an order that does not depend on how they came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.spans.forest import Forest, Ints, grow
from polysilicon.workload.imports.spans.rows import NAMELESS


def numbers(column: Any) -> Ints:
    """Return a column without nulls as an array that may be written to."""
    return np.array(column.to_numpy(), np.int64)


def usable(spans: Any, findings: Findings) -> Any:
    """Return the spans that can be used, with their columns in one piece each."""
    table = spans.combine_chunks()  # else each look at a column would join its chunks again
    named = pc.and_(pc.is_valid(table["trace"]), pc.is_valid(table["span"]))
    findings.leave(NAMELESS, int(pc.sum(pc.invert(named)).as_py() or 0))
    begun = pc.greater(table["start_ns"], 0)
    lost = pc.and_(named, pc.invert(begun))
    findings.leave("span without a start", int(pc.sum(lost).as_py() or 0))
    good = pc.and_(named, begun)
    return table if pc.all(good).as_py() else table.filter(good).combine_chunks()


def trees_of(table: Any) -> tuple[Ints, Ints, Forest]:
    """Return which spans to keep, in order and each once, the trace of each, and the trees.

    Spans are sorted by their trace's first start, then by their own start and end, whatever order
    they came in, so that an import of the same spans always gives the same steps.
    """
    trace = _codes(table["trace"])
    both = pa.chunked_array([*table["span"].chunks, *table["parent"].chunks])
    codes = _codes(both)
    span, parent = codes[: table.num_rows], codes[table.num_rows :]
    start, end = numbers(table["start_ns"]), numbers(table["end_ns"])
    first = earliest(start, trace)
    order = _sorted(table, trace, first, start, end)
    span, parent, trace = span[order], parent[order], trace[order]
    once = _most_complete(table, order, trace, span)
    order = order[once]
    # Traces are renumbered in the order in which they arrived.
    places = np.full(len(first), -1, np.int64)
    runs = trace[once]
    heads = runs[np.concatenate(([True], runs[1:] != runs[:-1]))]
    places[heads] = np.arange(len(heads))
    trace = places[runs]
    forest = grow(trace, span[once], parent[once])
    return order, trace, forest


def _codes(column: Any) -> Ints:
    """Return the index of each text among the distinct ones, -1 for null."""
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    indices = encoded.dictionary_encode().indices
    return np.asarray(indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def earliest(start: Ints, trace: Ints) -> Ints:
    """Return the first start of each trace, shape (traces,)."""
    first = np.full(int(trace.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, trace, start)
    return first


def _sorted(table: Any, trace: Ints, first: Ints, start: Ints, end: Ints) -> Ints:
    """Return the order of spans; identifiers decide only where times are equal.

    Comparing texts takes longer than all else, so only those are that decide.
    """
    order = np.lexsort((end, start, trace, first[trace]))
    t, f = trace[order], first[trace[order]]
    rivals = (f[1:] == f[:-1]) & (t[1:] != t[:-1])
    if rivals.any():
        # Traces that begin at the same moment are ordered by identifier.
        alike = np.isin(trace, np.concatenate((t[1:][rivals], t[:-1][rivals])))
        ranks = np.zeros_like(trace)
        ranks[alike] = _ranks(table["trace"].filter(pa.array(alike)))
        order = np.lexsort((end, start, ranks, first[trace]))
        t = trace[order]
    s, e = start[order], end[order]
    twins = (t[1:] == t[:-1]) & (s[1:] == s[:-1]) & (e[1:] == e[:-1])
    if twins.any():
        places = np.flatnonzero(np.append(twins, False) | np.append(False, twins))
        group = np.cumsum(np.append(True, ~twins))[places]
        ranks = _ranks(table["span"].take(pa.array(order[places])))
        order[places] = order[places][np.lexsort((ranks, group))]
    return order


def _ranks(column: Any) -> Ints:
    """Return the rank of each text among all distinct ones."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.asarray(pc.rank(whole, tiebreaker="dense").to_numpy(), np.int64)


def _most_complete(table: Any, order: Ints, trace: Ints, span: Ints) -> Ints:
    """Return the places in `order` of spans that are kept: of alike ones the most complete."""
    keys = trace * (int(span.max()) + 1) + span
    by_key = np.argsort(keys, kind="stable")
    same = keys[by_key][1:] == keys[by_key][:-1]
    if not same.any():
        return np.arange(len(order))
    known = np.zeros(len(order), np.int64)
    for name in ("end_ns", "model", "agent", "prompt", "output", "cached", "parent"):
        column = table[name].take(pa.array(order))
        there = pc.greater(column, 0) if name == "end_ns" else pc.is_valid(column)
        known += pc.fill_null(there, fill_value=False).to_numpy().astype(np.int64)
    numbers = [
        pc.fill_null(table[name].take(pa.array(order)), -1).to_numpy()
        for name in ("outcome", "role", "output", "prompt", "end_ns")
    ]
    # What is equal so far is told apart by its texts, so that the order of the file is no matter.
    texts = [
        _ranks(table[name].take(pa.array(order))) for name in ("parent", "name", "agent", "model")
    ]
    best = np.lexsort((*texts, *numbers, known, keys))
    last = np.concatenate((keys[best][1:] != keys[best][:-1], [True]))
    return np.sort(best[last])
