"""Workload files: Parquet and JSONL, read strictly and written all or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from polysilicon.disk import atomic
from polysilicon.errors import InputError, nearest
from polysilicon.workload.checks import SCHEMA, TEXTS, normalise
from polysilicon.workload.record import COLUMNS, StepRecord
from polysilicon.workload.workload import Workload, rows

SUFFIXES = (".parquet", ".jsonl")
_BLOCK_BYTES = 4 * 2**20
_ROW_GROUP = 131_072
_FEW_VALUES = ("cores",)


def read(path: Path) -> Workload:
    """Read a workload file.

    Rows are named in errors as people find them: lines of JSONL count from 1, rows of Parquet
    from 0.

    Raises:
        InputError: the file is missing, is not a workload file, or breaks a rule.
    """
    check_suffix(path)
    if not path.is_file():
        raise InputError("no such file", where=str(path), mend="expected a .parquet or .jsonl file")
    try:
        return _read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error


def write(workload: Workload, path: Path) -> None:
    """Write a workload file, by suffix; on any failure the old file, or none, is left.

    Raises:
        InputError: the suffix is unknown.
        PolysiliconError: the disk is full, or the folder cannot be written.
    """
    check_suffix(path)
    with atomic(path) as temporary, stream(temporary, path.suffix) as put:
        put(workload.table)


@contextmanager
def stream(
    path: Path, suffix: str = ".parquet", *, ids_repeat: bool = True
) -> Iterator[Callable[[Any], None]]:
    """Give what appends tables in the columns of the step record to a new file.

    Memory is that of one table. Texts may be dictionary-encoded, and are then written much faster;
    a reader sees plain texts, for the file does not keep Arrow's own schema. Combine it with
    `atomic`, for a file that breaks off is broken.

    Args:
        path: of the file.
        suffix: `.parquet` or `.jsonl`, whatever the path ends in.
        ids_repeat: tasks use the same ids of steps, as generated ones do, and a dictionary of them
            pays; else they are all different, as those of traces are, and it costs time and room.
    """
    if suffix == ".jsonl":
        encode = msgspec.json.Encoder().encode
        with path.open("wb", buffering=2**20) as file:
            yield lambda table: file.writelines(encode(row) + b"\n" for row in rows(table))
        return
    encoded = [name for name in TEXTS if ids_repeat or name != "step_id"]
    schema = pa.schema(
        pa.field(f.name, pa.dictionary(pa.int32(), f.type) if f.name in encoded else f.type)
        for f in SCHEMA
    )
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[*encoded, *_FEW_VALUES, *(["parent_ids.list.element"] * ids_repeat)],
        write_statistics=["arrival_s"],
        store_schema=False,
    ) as writer:
        yield lambda table: writer.write_table(table.cast(schema), row_group_size=_ROW_GROUP)


def tables(path: Path) -> Iterator[Any]:
    """Yield a workload file in tables of some hundred thousand rows; rules are not checked.

    Memory is that of one table, and the steps of a task may lie in several.

    Raises:
        InputError: the file is missing or is not a workload file.
    """
    check_suffix(path)
    if path.suffix == ".jsonl":
        yield read(path).table
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROW_GROUP):
                yield normalise(pa.table(batch), str(path))
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path)) from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a Parquet file: {error}", where=str(path)) from error


def check_suffix(path: Path) -> None:
    """Refuse a path that is neither Parquet nor JSONL.

    Raises:
        InputError: so it is.
    """
    if path.suffix not in SUFFIXES:
        what = f"unknown kind of workload file '{path.suffix or path.name}'"
        raise InputError(what, where=str(path), mend="expected .parquet or .jsonl")


def check_other(output: Path, sources: Iterable[Path]) -> None:
    """Refuse to write over what is read: a file, or the steps of a run folder.

    Raises:
        InputError: so it would be.
    """
    for source in sources:
        steps = source / "steps.parquet" if source.is_dir() else source
        if output.exists() and steps.exists() and output.samefile(steps):
            mend = "write to another file"
            raise InputError("is read from and cannot be written to", where=str(output), mend=mend)


def _read_parquet(path: Path) -> Workload:
    """Read a Parquet file; only the workload's own columns are ever decoded."""
    try:
        # One file read by itself: folder names such as `agent=x` must not become columns.
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"not a Parquet file: {error}", where=str(path)) from error
    return Workload(table, where=str(path))


def _read_jsonl(path: Path) -> Workload:
    """Read JSONL with Arrow's parser; only where that fails line by line, to say what is wrong."""
    fast = pj.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="error")
    try:
        table = pj.read_json(
            path, read_options=pj.ReadOptions(block_size=_BLOCK_BYTES), parse_options=fast
        )
        return Workload(table, where=str(path))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, InputError):
        return _read_lines(path)


def _read_lines(path: Path) -> Workload:
    """Read JSONL one line at a time.

    Raises:
        InputError: names the first line that is not a step, or breaks a rule.
    """
    decoder = msgspec.json.Decoder(StepRecord)
    records: list[StepRecord] = []
    lines: list[int] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            records.append(decode_line(decoder, line, f"{path}, line {number}", COLUMNS))
            lines.append(number)
    return Workload.from_records(records, where=str(path), place=lambda row: f"line {lines[row]}")


def decode_line(
    decoder: msgspec.json.Decoder[Any], line: bytes, where: str, known: tuple[str, ...]
) -> Any:
    """Decode one JSON object.

    Raises:
        InputError: it is not JSON, or a field is unknown, missing or of the wrong type.
    """
    try:
        return decoder.decode(line)
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        text = str(error)
        spot = f"{where}, {_field_of(text)}" if _field_of(text) else where
        mend = nearest(_field_of(text), known) if "unknown field" in text else ""
        raise InputError(text, where=spot, mend=mend) from error
    except msgspec.DecodeError as error:
        raise InputError(f"not a JSON object: {error}", where=where) from error


def _field_of(text: str) -> str:
    """Return the field that an error of msgspec names, or an empty string."""
    match = re.search(r"field `(\w+)`|`\$\.([\w.\[\]]+)`", text)
    return (match[1] or match[2]) if match else ""
