"""Rows of the same task, wherever they lie in a file, in one table, in bounded memory.

A file of some hundred thousand rows is gathered in memory. A larger one is dealt into parts on the
disk by a checksum of the task's id, and gathered part by part.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from polysilicon.workload.checks import codes_of

MOST_ROWS = 2**20
"""Rows that are gathered in memory."""

MOST_BYTES = 512 * 2**20
"""Bytes that are, where rows have long texts."""

PARTS = 64
TABLE_ROWS = 131_072


def whole_tasks(tables: Iterable[Any], most_rows: int = MOST_ROWS) -> Iterator[Any]:
    """Yield the rows of tables such that all rows of a `task_id` lie in one.

    Tasks of a table are in order of their first row, and their rows in that in which they came.
    Memory is that of `most_rows` rows, of a sixty-fourth of all, or of the largest task.

    Args:
        tables: with the same columns, `task_id` (text, never null) among them.
        most_rows: that are gathered in memory.
    """
    source = iter(tables)
    held: list[Any] = []
    rows = size = 0
    for table in source:
        held.append(table)
        rows += table.num_rows
        size += table.nbytes
        if rows > most_rows or size > MOST_BYTES:
            break
    else:
        yield from _gathered(held)
        return
    # A folder of its own, which only this user may read, and which is gone however this ends.
    with TemporaryDirectory(prefix="polysilicon-") as folder:
        yield from _by_parts(_chain(held, source), Path(folder))


def _chain(held: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """Yield tables that were held, letting go of each, and the rest."""
    while held:
        yield held.pop(0)
    yield from rest


def _by_parts(tables: Iterator[Any], folder: Path) -> Iterator[Any]:
    """Deal rows into files by their task, then yield each file gathered."""
    writers: dict[int, Any] = {}
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    try:
        for table in tables:
            part_of = _parts(table["task_id"])
            for part in np.unique(part_of).tolist():
                rows = table.filter(pa.array(part_of == part))
                if part not in writers:
                    path = str(folder / str(part))
                    writers[part] = pa.ipc.new_file(path, rows.schema, options=options)
                writers[part].write_table(rows)
    finally:
        for writer in writers.values():
            writer.close()
    for part in sorted(writers):
        with pa.ipc.open_file(str(folder / str(part))) as file:
            found = file.read_all()
        yield from _gathered([found])


def _parts(column: Any) -> Any:
    """Return the part of each row: a checksum of its task, the same in every run."""
    codes, names = codes_of(column)
    parts = np.array([zlib.crc32(name.encode()) % PARTS for name in names], dtype=np.int64)
    return parts[codes]


def _gathered(tables: list[Any]) -> Iterator[Any]:
    """Yield tables with the rows of each task together."""
    tables = [table for table in tables if table.num_rows]
    if not tables:
        return
    table = pa.concat_tables(tables)
    tables.clear()
    codes, _ = codes_of(table["task_id"])
    if (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        table, codes = table.take(order), codes[order]
    starts = np.flatnonzero(np.diff(codes)) + 1
    low = 0
    while low < len(codes):
        later = starts[np.searchsorted(starts, low + TABLE_ROWS, side="left") :]
        high = int(later[0]) if later.size else len(codes)
        yield table.slice(low, high - low)
        low = high
