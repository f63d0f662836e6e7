"""Tables from outside, CSV or Parquet: header and rows of text, with a place for every error."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from polysilicon.errors import InputError

MAX_BYTES = 2**28
"""Larger tables are refused, measured after decompression: a small file can unfold to any size."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table whose rows are read as they are asked for.

    Attributes:
        where: the file, for errors.
        columns: names as the header tells them, without space around them.
        rows: line number and cells of each; blank lines are left out. Asking for a row raises
            `InputError` where the file is broken there.
    """

    where: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]


def read_table(path: Path | Traversable, suffixes: tuple[str, ...]) -> Table:
    """Open a table.

    Args:
        path: the file; lines of CSV count from 1, the header's, and rows of Parquet from 0.
        suffixes: those that are accepted, of `.csv`, `.csv.gz` and `.parquet`.

    Raises:
        InputError: no such file, an unknown suffix, too large, or not what the suffix says.
    """
    where = str(path)
    if not path.name.endswith(suffixes):
        what = f"unknown kind of file {path.name!r}"
        raise InputError(what, where=where, mend=f"expected {', '.join(suffixes)}")
    if not path.is_file():
        raise InputError("no such file", where=where)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=where) from error
    if path.name.endswith(".parquet"):
        return _of_parquet(content, where)
    stream: IO[bytes] = io.BytesIO(content)
    if path.name.endswith(".gz"):
        stream = io.BytesIO(_unfolded(content, where))
    return _of_csv(stream, where)


def _unfolded(content: bytes, where: str) -> bytes:
    """Return what a gzip file holds.

    Raises:
        InputError: it is broken, or holds more than `MAX_BYTES`.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unfolded = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"not a gzip file: {error}", where=where) from error
    if len(unfolded) > MAX_BYTES:
        raise InputError(f"holds more than {MAX_BYTES} bytes", where=where, mend="split it")
    return unfolded


def _of_csv(stream: IO[bytes], where: str) -> Table:
    """Return the table of a CSV stream."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    rows = _csv_rows(csv.reader(text), where)
    _, header = next(rows, (1, []))
    if not header:
        raise InputError("the file is empty", where=where, mend="its first line names the columns")
    return Table(where=where, columns=tuple(name.strip() for name in header), rows=rows)


def _csv_rows(reader: Any, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells."""
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(str(error), where=f"{where}, row {reader.line_num}") from error
        except UnicodeDecodeError as error:
            # Bytes are decoded in blocks, so the row is not known.
            what, spot = f"not UTF-8 text: {error}", f"{where}, after row {reader.line_num}"
            raise InputError(what, where=spot) from error
        if cells is None:
            return
        if cells:
            yield reader.line_num, cells


def _of_parquet(content: bytes, where: str) -> Table:
    """Return the table of a Parquet file's bytes."""
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        groups = range(file.metadata.num_row_groups)
        held = sum(file.metadata.row_group(i).total_byte_size for i in groups)
        if held > MAX_BYTES:
            raise InputError(f"holds more than {MAX_BYTES} bytes", where=where, mend="split it")
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a Parquet file: {error}", where=where) from error
    columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = ((i, list(cells)) for i, cells in enumerate(zip(*columns, strict=True)))
    return Table(where=where, columns=tuple(table.column_names), rows=rows)


def _text(value: Any) -> str:
    """Return a value of Parquet as the cell that CSV would have."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)
