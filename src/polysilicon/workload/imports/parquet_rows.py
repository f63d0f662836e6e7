"""Parquet in tables of bounded memory, however much a small file decodes to.

A text that many rows have lies once in a file, and a list of a million equal values in a few bytes.
Texts are therefore read as dictionaries, and only as many rows at once are made plain as memory has
room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polysilicon.errors import InputError, printable
from polysilicon.workload.imports.source import FREE_BYTES, MOST_RATIO

BATCH_ROWS = 65_536
MOST_BYTES = 64 * 2**20
"""Bytes of a table that is given out."""

MOST_VALUES = 2**25
"""Values of a column of lists in a row group."""


def opened(path: Path, dictionaries: Sequence[str] = ()) -> Any:
    """Open a Parquet file.

    Args:
        path: of the file.
        dictionaries: paths of columns that are read as dictionaries.

    Raises:
        InputError: it is none.
    """
    try:
        return pq.ParquetFile(path, read_dictionary=list(dictionaries))
    except (pa.ArrowException, OSError, ValueError) as error:
        what = f"not a Parquet file: {printable(str(error))[:160]}"
        raise InputError(what, where=str(path)) from error


def parquet_tables(path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Yield the columns that are named, in order of the rows.

    Raises:
        InputError: the file is broken, a column is there twice, or more comes out of it than a
            sound file holds.
    """
    where = str(path)
    with opened(path) as file:
        plain = file.schema_arrow
        texts = _checked(file.metadata, set(names), path)
    for name in names:
        if plain.names.count(name) > 1:
            raise InputError(f"column {name!r} is there twice", where=where)
    schema = pa.schema([plain.field(name) for name in names])
    start = 0
    with opened(path, texts) as file:
        try:
            for batch in _batches(file, names):
                for part in _parts(pa.table(batch).select(list(names)), where, start):
                    yield part.cast(schema)
                start += batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"broken Parquet: {printable(str(error))[:160]}"
            raise InputError(what, where=where) from error


def _batches(file: Any, names: Sequence[str]) -> Iterator[Any]:
    """Yield rows of some columns; no batch has rows of two groups, whose dictionaries differ.

    Arrow cannot read lists of dictionaries that do.
    """
    for group in range(file.num_row_groups):
        yield from file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=list(names))


def _checked(metadata: Any, names: set[str], path: Path) -> list[str]:
    """Return the paths of the columns that hold texts or bytes.

    Raises:
        InputError: what is read of a row group is too large.
    """
    columns = [metadata.schema.column(at) for at in range(len(metadata.schema))]
    wanted = [at for at, column in enumerate(columns) if column.path.split(".")[0] in names]
    limit = max(FREE_BYTES, path.stat().st_size * MOST_RATIO)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(at) for at in wanted]
        where = f"{path}, row group {number}"
        if sum(chunk.total_uncompressed_size for chunk in chunks) > limit:
            raise InputError(f"decompresses to more than {limit:,} bytes", where=where)
        lists = (
            c for c, at in zip(chunks, wanted, strict=True) if columns[at].max_repetition_level
        )
        if any(chunk.num_values > MOST_VALUES for chunk in lists):
            raise InputError(f"a column has more than {MOST_VALUES:,} values", where=where)
    return [columns[at].path for at in wanted if columns[at].physical_type == "BYTE_ARRAY"]


def _parts(table: Any, where: str, start: int) -> Iterator[Any]:
    """Yield a table in parts that are not large when they are made plain.

    Raises:
        InputError: a row is too large.
    """
    if sum(_plain_bytes(column) for column in table.combine_chunks().itercolumns()) <= MOST_BYTES:
        yield table
        return
    half = table.num_rows // 2
    if not half:
        spot = f"{where}, row {start}"
        raise InputError(f"a row of more than {MOST_BYTES:,} bytes", where=spot)
    yield from _parts(table.slice(0, half), where, start)
    yield from _parts(table.slice(half), where, start + half)


def _plain_bytes(values: Any) -> int:
    """Return how many bytes values take that are no dictionary."""
    if isinstance(values, pa.ChunkedArray):
        return sum(_plain_bytes(chunk) for chunk in values.chunks)
    kind = values.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(values.dictionary).take(values.indices)
        return int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_plain_bytes(part) for part in values.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _plain_bytes(values.flatten())
    return int(values.nbytes)
