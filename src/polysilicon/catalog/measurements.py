"""Measurement files: what somebody measured of a model on a machine, one row a run."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import get_args

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from polysilicon.catalog.cells import (
    CellError,
    above_zero,
    at_once,
    isoday,
    plain_text,
    whole_above_zero,
    whole_from_zero,
)
from polysilicon.catalog.rows import Table, read_table
from polysilicon.catalog.tables import Cell, blank_or
from polysilicon.disk import write_whole
from polysilicon.errors import InputError, nearest

METRICS = ("ttft_ms", "tpot_ms", "prefill_tokens_per_s", "decode_tokens_per_s")
"""Columns of which a row has at least one."""

SUFFIXES = (".csv", ".csv.gz", ".parquet")


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a measurement file; None is what was not measured or not told.

    Attributes:
        row: line in its file; the header is line 1. In Parquet the row, counted from 0.
        source: who measured it, and where that stands.
        date: when.
        instance: `cloud/instance type`.
        processor: as the source names it.
        count: accelerators, or vCPUs.
        engine: which served.
        engine_version: of it.
        model: as the source names it.
        precision: of the weights.
        tp: tensor parallelism.
        pp: pipeline parallelism.
        dp: data parallelism of the attention.
        ep: expert parallelism.
        concurrency: requests at once; a mean where the source tells one.
        prompt_tokens: of a request.
        output_tokens: of a request.
        ttft_ms: to the first token.
        tpot_ms: for each later one.
        prefill_tokens_per_s: prompt tokens of one request over the time that they take.
        decode_tokens_per_s: output tokens; of served-load rows of all concurrent requests.
    """

    row: int
    source: str = ""
    date: str = ""
    instance: str = ""
    processor: str = ""
    count: int | None = None
    engine: str = ""
    engine_version: str = ""
    model: str = ""
    precision: str = ""
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    concurrency: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None


def _or_off(cell: str) -> int | None:
    """Accept a whole number; engines write 0 where experts are not spread at all."""
    return whole_from_zero(cell) or None


_WHOLE = blank_or(whole_above_zero)
_TOKENS = blank_or(whole_from_zero)
_FIGURE = blank_or(above_zero)

COLUMNS: Mapping[str, Cell] = {
    "source": plain_text,
    "date": isoday,
    "instance": plain_text,
    "processor": plain_text,
    "count": _WHOLE,
    "engine": plain_text,
    "engine_version": plain_text,
    "model": plain_text,
    "precision": plain_text,
    "tp": _WHOLE,
    "pp": _WHOLE,
    "dp": _WHOLE,
    "ep": blank_or(_or_off),
    "concurrency": blank_or(at_once),
    "prompt_tokens": _TOKENS,
    "output_tokens": _TOKENS,
    **dict.fromkeys(METRICS, _FIGURE),
}
"""Columns of a measurement file and what reads their cells."""


def read_measurements(
    path: Path | Traversable, skipped: Counter[str] | None = None
) -> tuple[Measurement, ...]:
    """Read a measurement file: `.csv`, `.csv.gz` or `.parquet`.

    Columns are found by name, in any order; those that are missing are None or blank in all rows.

    Args:
        path: the file.
        skipped: where bad rows are counted by reason and left out; without it the first bad row is
            an error.

    Raises:
        InputError: no such file, not a measurement file, an unknown column, none of the columns
            that it must have, or a bad row; names file, row and column.
    """
    table = read_table(path, SUFFIXES)
    _check_columns(table)
    readers = [(at, name, COLUMNS[name]) for at, name in enumerate(table.columns)]
    found: list[Measurement] = []
    for line, cells in table.rows:
        try:
            found.append(_row(line, cells, readers))
        except CellError as error:
            if skipped is None:
                spot = f"{table.where}, row {line}"
                spot = f"{spot}, {error.column}" if error.column else spot
                raise InputError(error.told, where=spot, mend=error.mend) from error
            skipped[f"{error.column}: {error}" if error.column else str(error)] += 1
    return tuple(found)


def write_measurements(rows: Iterable[Measurement], path: Path) -> None:
    """Write a measurement file, by suffix; on any failure the old file, or none, is left.

    Raises:
        InputError: the suffix is unknown.
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    names = list(COLUMNS)
    if path.name.endswith(".parquet"):
        table = pa.table(_arrays(list(rows)))
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_whole(path, sink.getvalue().to_pybytes())
        return
    if not path.name.endswith(SUFFIXES):
        what = f"unknown kind of measurement file {path.name!r}"
        raise InputError(what, where=str(path), mend=f"expected {', '.join(SUFFIXES)}")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    content = text.getvalue().encode()
    # Without a time of writing, equal rows make equal files.
    write_whole(path, gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)


def _check_columns(table: Table) -> None:
    """Raise `InputError` where a column is unknown, told twice, or missing without replacement."""
    names = list(table.columns)
    for name in names:
        if name not in COLUMNS:
            what = f"unknown column {name!r}"
            raise InputError(what, where=table.where, mend=nearest(name, COLUMNS))
        if names.count(name) > 1:
            raise InputError(f"column {name!r} is there twice", where=table.where)
    for either in (("model",), ("processor", "instance"), METRICS):
        if not set(either) & set(names):
            what = f"no column {' or '.join(either)}"
            mend = f"columns are {', '.join(COLUMNS)}"
            raise InputError(what, where=table.where, mend=mend)


def _row(line: int, cells: Sequence[str], readers: list[tuple[int, str, Cell]]) -> Measurement:
    """Read the cells of a row and check that they go together.

    Raises:
        CellError: they do not, or a cell cannot be.
    """
    if len(cells) != len(readers):
        raise CellError("another number of cells than the header", told=_width(cells, readers))
    values = {}
    for at, name, reader in readers:
        try:
            values[name] = reader(cells[at].strip())
        except ValueError as error:
            raise CellError(str(error), column=name, cell=cells[at]) from error
    found = Measurement(row=line, **values)
    if not found.model:
        raise CellError("must not be blank", column="model", cell="")
    if not found.processor and not found.instance:
        raise CellError("neither processor nor instance is told")
    if all(getattr(found, name) is None for name in METRICS):
        raise CellError("nothing was measured", mend=f"give one of {', '.join(METRICS)}")
    if found.prompt_tokens == 0 and found.output_tokens == 0:
        raise CellError("neither prompt nor output has a token")
    return found


def _width(cells: Sequence[str], readers: list[tuple[int, str, Cell]]) -> str:
    """Say how many cells a row has and the header."""
    return f"has {len(cells)} cells, not {len(readers)}"


def _cell(value: str | float | None) -> str:
    """Write a value as a cell; text becomes one line, as it is read."""
    return "" if value is None else plain_text(str(value))


def _arrays(rows: Sequence[Measurement]) -> dict[str, pa.Array]:
    """Return the columns of Parquet."""
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    kinds = {field.name: field.type for field in msgspec.structs.fields(Measurement)}
    return {
        name: pa.array(
            [getattr(row, name) for row in rows],
            next(
                types[kind] for kind in (get_args(kinds[name]) or (kinds[name],)) if kind in types
            ),
        )
        for name in COLUMNS
    }
