"""What makes a table a workload: its columns, their types, and the rules that its rows obey.

All rules are checked column by column, so that a million rows take well under a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.errors import InputError, nearest
from polysilicon.workload.record import COLUMNS, KINDS, OUTCOMES, REQUIRED

TEXTS: tuple[str, ...] = (
    "task_id", "step_id", "agent", "name", "kind", "model",
    "pool", "offer", "region", "data_class", "outcome",
)  # fmt: skip
WHOLES: tuple[str, ...] = ("prompt_tokens", "cached_tokens", "output_tokens", "memory_bytes")
REALS: tuple[str, ...] = tuple(c for c in COLUMNS if c not in (*TEXTS, *WHOLES, "parent_ids"))

Rows = npt.NDArray[np.int64]


def _type_of(column: str) -> Any:
    """Return the Arrow type of `column`."""
    if column in TEXTS:
        return pa.string()
    if column == "parent_ids":
        return pa.list_(pa.string())
    return pa.int64() if column in WHOLES else pa.float64()


SCHEMA: Any = pa.schema([pa.field(c, _type_of(c), nullable=c not in REQUIRED) for c in COLUMNS])
"""Columns and types of every workload table, in the order of the step record."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one row: row (from 0), field, what, and the mend."""

    row: int
    field: str
    what: str
    mend: str = ""


def normalise(table: Any, where: str) -> Any:
    """Return `table` with all columns of `SCHEMA`, in its order and types; absent ones are null.

    Args:
        table: any `pyarrow.Table`.
        where: named in errors.

    Raises:
        InputError: a column is unknown, given twice, required but absent, or of a wrong type.
    """
    for name in table.column_names:
        if name not in COLUMNS:
            mend = nearest(name, COLUMNS) or f"known columns: {', '.join(COLUMNS)}"
            raise InputError(f"unknown column '{name}'", where=where, mend=mend)
        if table.column_names.count(name) > 1:
            raise InputError(f"column '{name}' is there twice", where=where)
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise InputError(f"required column '{missing[0]}' is missing", where=where)
    columns = [
        _cast(table.column(field.name), field, where)
        if field.name in table.column_names
        else pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        for field in SCHEMA
    ]
    # Nulls of required columns are reported with their row by `find_fault`, not by the cast.
    return pa.table(columns, schema=pa.schema([f.with_nullable(nullable=True) for f in SCHEMA]))


def _cast(column: Any, field: Any, where: str) -> Any:
    """Cast a chunked array to the field's type where no value changes its meaning.

    Raises:
        InputError: the column is of another family of types, or a value does not fit.
    """
    if column.type == field.type:
        return column
    if not _castable(column.type, field.type):
        what = f"column '{field.name}' holds {column.type}, expected {field.type}"
        raise InputError(what, where=where)
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise InputError(f"column '{field.name}': {error}", where=where) from error


def _castable(found: Any, wanted: Any) -> bool:
    """Tell whether `found` is another width or encoding of `wanted`."""
    kinds = pa.types
    if kinds.is_null(found):
        return True
    if kinds.is_dictionary(found):
        return _castable(found.value_type, wanted)
    if kinds.is_list(wanted):
        is_list = kinds.is_list(found) or kinds.is_large_list(found)
        return is_list and _castable(found.value_type, wanted.value_type)
    if kinds.is_string(wanted):
        return bool(
            kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_string_view(found)
        )
    whole = bool(kinds.is_integer(found))
    return whole if kinds.is_integer(wanted) else whole or bool(kinds.is_floating(found))


def find_fault(table: Any) -> Fault | None:
    """Return a broken rule of a normalised table, or None where it obeys all.

    Each rule reports its first row; rules are tried from the simplest (a value by itself) to those
    between rows (identities and parents).
    """
    for breach in breaches(table):
        row = first_true(breach.rows)
        if row is not None:
            what, mend = breach.told(row)
            return Fault(row=row, field=breach.field, what=what, mend=mend)
    return graph_fault(table)


def codes_of(column: Any) -> tuple[Rows, list[str]]:
    """Return the index of each value among the distinct ones (-1 where null), and those."""
    encoded = column.combine_chunks().dictionary_encode()
    return _indices(encoded), encoded.dictionary.to_pylist()


def _indices(encoded: Any) -> Rows:
    """Return the indices of a dictionary array, -1 where it is null."""
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.asarray(codes, dtype=np.int64)


def first_true(mask: Any) -> int | None:
    """Return the first row at which a boolean Arrow column is true, or None."""
    row = pc.index(mask, pa.scalar(value=True)).as_py()
    return None if row < 0 else int(row)


class Breach(msgspec.Struct, frozen=True):
    """A rule that a row can break by itself, and who does.

    Attributes:
        field: that it is about.
        rows: which rows break it, a boolean Arrow array.
        told: what is wrong with one of these rows, and the mend.
    """

    field: str
    rows: Any
    told: Callable[[int], tuple[str, str]]


def breaches(table: Any) -> Iterator[Breach]:
    """Yield the rules that a row can break by itself, whether or not any row does."""
    yield from _text_rules(table)
    yield from _number_rules(table)
    yield from _order_rules(table)


def _text_rules(table: Any) -> Iterator[Breach]:
    """Check required texts and the closed lists of `kind` and `outcome`."""
    for field in REQUIRED:
        column = table[field]

        def empty(row: int, column: Any = column) -> tuple[str, str]:
            return "is missing" if column[row].as_py() is None else "is empty", ""

        yield Breach(field, pc.fill_null(pc.equal(column, ""), fill_value=True), empty)
    for field, known in (("kind", KINDS), ("outcome", OUTCOMES)):
        column = table[field]

        def unknown(
            row: int, column: Any = column, known: tuple[str, ...] = known
        ) -> tuple[str, str]:
            value = column[row].as_py()
            mend = nearest(value, known) or f"known: {', '.join(known)}"
            return f"unknown value '{value}'", mend

        allowed = pc.is_in(column, value_set=pa.array([*known, None], pa.string()))
        yield Breach(field, pc.invert(allowed), unknown)


def _number_rules(table: Any) -> Iterator[Breach]:
    """Check that numbers are finite and not negative."""
    for field in (*WHOLES, *REALS):
        column = table[field]
        if column.null_count == len(column):
            continue

        def wrong(row: int, column: Any = column) -> tuple[str, str]:
            value = column[row].as_py()
            return (
                f"{value} is negative" if value < 0 else f"{value} is not a number of any size",
                "",
            )

        bad = pc.less(column, 0)
        if field in REALS:
            bad = pc.or_(bad, pc.invert(pc.is_finite(column)))
        yield Breach(field, bad, wrong)


_PAIRS: tuple[tuple[str, str, str], ...] = (
    ("end_s", "start_s", "ends before it starts"),
    ("first_token_s", "start_s", "first token before its start"),
    ("end_s", "first_token_s", "ends before its first token"),
    ("prompt_tokens", "cached_tokens", "more tokens were cached than the prompt has"),
)


def _order_rules(table: Any) -> Iterator[Breach]:
    """Check pairs of columns of which the first must not be less than the second."""
    for larger, smaller, what in _PAIRS:

        def less(
            row: int, larger: str = larger, smaller: str = smaller, what: str = what
        ) -> tuple[str, str]:
            high, low = table[larger][row].as_py(), table[smaller][row].as_py()
            return f"{what} ({larger} {high} < {smaller} {low})", ""

        yield Breach(larger, pc.less(table[larger], table[smaller]), less)


def graph_fault(table: Any) -> Fault | None:
    """Return a broken rule between rows of a normalised table, or None where it obeys all.

    Steps are unique in their task, their parents are other steps of it, and none waits for itself.
    """
    if table.num_rows == 0:
        return None
    task = _indices(table["task_id"].combine_chunks().dictionary_encode())
    step, child, parent_step = edges(table)
    width = int(max(step.max(), parent_step.max(initial=-1))) + 1
    keys = task * width + step
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    if again.size:
        row = int(order[again + 1].min())
        first = int(order[np.searchsorted(ordered, keys[row])])
        what = f"step '{table['step_id'][row]}' of task '{table['task_id'][row]}' is already there"
        return Fault(
            row=row, field="step_id", what=what, mend=f"first seen {row - first} rows above"
        )
    wanted = np.where(parent_step < 0, -1, task[child] * width + parent_step)
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    absent = np.flatnonzero(ordered[at] != wanted)
    if absent.size:
        edge = int(absent[0])
        name = pc.list_flatten(table["parent_ids"])[edge].as_py()
        what = f"parent '{name}' is not a step of task '{table['task_id'][child[edge]]}'"
        return Fault(row=int(child[edge]), field="parent_ids", what=what)
    return _cycle_fault(table, child, order[at])


def edges(table: Any) -> tuple[Rows, Rows, Rows]:
    """Return the code of each row's step id, and for each parent link its row and its parent's.

    Ids are equal where their codes are; -1 stands for null.

    Returns:
        Codes of shape (rows,), rows of shape (links,), and codes of shape (links,).
    """
    column = table["parent_ids"]
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    child = np.repeat(np.arange(table.num_rows, dtype=np.int64), lengths)
    both = pa.chunked_array(
        [*table["step_id"].chunks, *pc.list_flatten(column).chunks], type=pa.string()
    )
    codes = _indices(both.combine_chunks().dictionary_encode())
    return codes[: table.num_rows], child, codes[table.num_rows :]


def _cycle_fault(table: Any, child: Rows, parent: Rows) -> Fault | None:
    """Check that no step waits for itself.

    Where all parents come first in the table, as any recorder writes them, there is no cycle; only
    tasks where one does not are walked.
    """
    late = parent >= child
    if not late.any():
        return None
    task, _ = codes_of(table["task_id"])
    walked = np.isin(task[child], task[child[late]])
    graph: dict[int, set[int]] = {}
    for row, before in zip(child[walked].tolist(), parent[walked].tolist(), strict=True):
        graph.setdefault(row, set()).add(before)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        rows = sorted(set(error.args[1]))
        steps = ", ".join(table["step_id"][row].as_py() for row in rows[:5])
        what = f"steps wait for each other: {steps}"
        return Fault(row=rows[0], field="parent_ids", what=what)
    return None
