"""CSV, TSV, JSONL and Parquet files as rows of columns, in memory of some megabytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj

from polysilicon.errors import InputError, printable
from polysilicon.workload.imports.columns import Rows, note_unread
from polysilicon.workload.imports.csv_rows import BLOCK_BYTES, BOM, MOST_COLUMNS, csv_rows, header
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.parquet_rows import opened, parquet_tables
from polysilicon.workload.imports.source import HEAD_BYTES, Source

_MAGIC = b"PAR1"
_MOST_BRACKETS = 1000
"""Opening brackets of a line that Arrow's parser is given."""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE = msgspec.json.Decoder()


def names_of(source: Source) -> list[str]:
    """Return the names of the columns of a file; of JSONL, the fields of its first lines.

    Raises:
        InputError: it is no table.
    """
    if source.head.startswith(_MAGIC):
        with opened(source.path) as file:
            return [str(name) for name in file.schema_arrow.names]
    if _is_json(source):
        return _fields(source)
    names = header(source, _delimiter(source))
    if len(names) < 2:
        what = "no table: neither Parquet, nor JSONL, nor CSV with a header"
        raise InputError(what, where=str(source.path))
    return names


def rows_of(
    source: Source, findings: Findings, names: Sequence[str], texts: Sequence[str]
) -> Iterator[Rows]:
    """Yield the rows of a file, of the columns that are named.

    Args:
        source: the file.
        findings: counts bad rows.
        names: of the columns.
        texts: of those that hold texts, even if they look like dates.

    Raises:
        InputError: the file is broken, or a row is and bad ones are not to be skipped.
    """
    if source.head.startswith(_MAGIC):
        yield from _parquet_rows(source, findings, names)
    elif _is_json(source):
        yield from _json_rows(source, findings, names, texts)
    else:
        yield from csv_rows(source, findings, names, delimiter=_delimiter(source))


def _is_json(source: Source) -> bool:
    return source.head.removeprefix(BOM).lstrip().startswith(b"{")


def _delimiter(source: Source) -> str:
    """Return what stands between cells: what is commonest in the first line."""
    line = source.head.removeprefix(BOM).lstrip(b"\r\n").partition(b"\n")[0]
    return max((",", "\t", ";"), key=lambda mark: line.count(mark.encode()))


def _fields(source: Source) -> list[str]:
    """Return the fields of the lines that begin a file of JSON lines.

    Raises:
        InputError: the first line is no JSON object.
    """
    lines = [line for line in source.head.removeprefix(BOM).split(b"\n") if line.strip()]
    cut = len(source.head) >= HEAD_BYTES and len(lines) > 1
    whole = lines[:-1] if cut else lines
    fields: dict[str, None] = {}
    for line in whole[:1000]:
        try:
            fields.update(dict.fromkeys(_OBJECT.decode(line)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if fields:
                break
            what = "the first line is no JSON object"
            raise InputError(what, where=str(source.path)) from error
    return list(fields)[:MOST_COLUMNS]


def _parquet_rows(source: Source, findings: Findings, names: Sequence[str]) -> Iterator[Rows]:
    start = 0
    for table in parquet_tables(source.path, names):
        place = partial(_parquet_row, start)
        yield Rows(table, start, str(source.path), findings, place)
        start += table.num_rows


def _parquet_row(start: int, row: int) -> str:
    """Name a row of a batch by its number in the file, from 0 as in workload files."""
    return f"row {start + row}"


def _json_rows(
    source: Source, findings: Findings, names: Sequence[str], texts: Sequence[str]
) -> Iterator[Rows]:
    """Yield JSON lines with Arrow's parser; blocks that it cannot read, line by line."""
    schema = pa.schema([(name, pa.string()) for name in texts])
    parse = pj.ParseOptions(explicit_schema=schema)
    told = set(_fields(source))
    start = 0
    for block in _blocks(source):
        table = _parsed(block, parse)
        offsets = [offset for offset, _ in block]
        if table is None:
            table, offsets = _line_by_line(block, source, findings, names)
        note_unread((n for n in table.column_names if n not in told), findings)
        told.update(table.column_names)
        columns = {
            name: table.column(name) if name in table.column_names else pa.nulls(table.num_rows)
            for name in names
        }
        place = partial(_json_line, source, offsets)
        yield Rows(pa.table(columns), start, str(source.path), findings, place)
        start += table.num_rows


def _json_line(source: Source, offsets: Sequence[int], row: int) -> str:
    """Name a line by its number, from 1, and its first byte; reads the file up to there."""
    left = offset = offsets[row]
    number = 1
    for chunk in source.chunks():
        number += chunk[:left].count(b"\n")
        left -= len(chunk)
        if left <= 0:
            break
    return f"line {number}, byte {offset}"


def _blocks(source: Source) -> Iterator[list[tuple[int, bytes]]]:
    """Yield lines with their offsets, some megabytes at once."""
    block: list[tuple[int, bytes]] = []
    held = 0
    for offset, line in source.lines():
        block.append((offset, line.removeprefix(BOM) if offset == 0 else line))
        held += len(line)
        if held >= BLOCK_BYTES:
            yield block
            block, held = [], 0
    if block:
        yield block


def _parsed(block: list[tuple[int, bytes]], parse: Any) -> Any:
    """Return lines as a table; None where they are of mixed types, or some are no objects."""
    # Arrow's parser recurses into what is nested, and ends the process where that is too deep.
    if any(line.count(b"[") + line.count(b"{") > _MOST_BRACKETS for _, line in block):
        return None
    content = pa.py_buffer(b"\n".join(line for _, line in block))
    read = pj.ReadOptions(use_threads=False, block_size=len(content) + 1)
    try:
        table = pj.read_json(pa.BufferReader(content), read_options=read, parse_options=parse)
        table.validate(full=True)
    except (pa.ArrowException, ValueError):
        return None
    twice = len(set(table.column_names)) < len(table.column_names)
    return None if twice or table.num_rows != len(block) else table


def _line_by_line(
    block: list[tuple[int, bytes]], source: Source, findings: Findings, names: Sequence[str]
) -> tuple[Any, list[int]]:
    """Return lines of which some are bad, or of mixed types, as columns of text.

    And the offsets of those that are not bad.
    """
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    good: list[int] = []
    for offset, line in block:
        try:
            found = _OBJECT.decode(line)
            texts = {name: _text(found[name]) for name in names if name in found}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            place = "" if findings.skip_bad else _json_line(source, [offset], 0)
            findings.bad("a line is no JSON object", where=f"{source.path}, {place}")
            continue
        good.append(offset)
        for name in names:
            columns[name].append(texts.get(name))
    arrays = {name: pa.array(texts, pa.string()) for name, texts in columns.items()}
    return pa.table(arrays), good


def _text(raw: msgspec.Raw) -> str | None:
    """Return a JSON value as text: a string as it is, null as none, all else as it is written."""
    written = bytes(raw)
    if written.startswith(b'"'):
        return printable(str(_VALUE.decode(raw)))
    return None if written == b"null" else written.decode()
