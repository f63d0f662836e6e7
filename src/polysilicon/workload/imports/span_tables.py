"""Spans that the gateway has taken in, already reduced to what steps are made of.

A file is a stream of Arrow batches of `spans.rows.SCHEMA`, as `SpanLog` appends them. Its writer
may have been killed, or be at work: what comes after the last whole batch is not read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from polysilicon.errors import PolysiliconError
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.source import Source
from polysilicon.workload.imports.spans.rows import SCHEMA
from polysilicon.workload.imports.spans.traces import read_files
from polysilicon.workload.imports.types import Clock, Options

SUFFIX = ".spans"
_MAGIC = b"\xff\xff\xff\xff"


def recognise(source: Source) -> bool:
    """Tell whether a file is a stream of such batches."""
    if not source.head.startswith(_MAGIC):
        return False
    try:
        with pa.OSFile(str(source.path)) as file, pa.ipc.open_stream(file) as stream:
            return bool(stream.schema.equals(SCHEMA))
    except (OSError, pa.ArrowException):
        return False


def read(source: Source, clock: Clock, findings: Findings, options: Options) -> Iterator[Any]:
    """Yield the steps of a file's traces."""
    return read_files([(_THIS, source)], clock, findings, options)


def spans(source: Source, findings: Findings, _options: Options) -> Iterator[Any]:
    """Yield the spans of a file.

    Raises:
        InputError: it is no such file, or a batch is bad, and bad ones are not to be skipped.
    """
    where = str(source.path)
    try:
        with pa.OSFile(where) as file, pa.ipc.open_stream(file) as stream:
            if not stream.schema.equals(SCHEMA):
                findings.bad("a stream of other columns than those of spans", where=where)
                return
            for batch in stream:
                batch.validate(full=True)
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        findings.note(f"{source.path.name}: what comes after the last whole batch is left out")
        if not isinstance(error, pa.ArrowInvalid | OSError):
            findings.bad("a batch that cannot be read", where=where)


class SpanLog:
    """Appends spans to a new file of its own; what was appended survives the death of the process.

    Args:
        path: that is not there yet.

    Raises:
        PolysiliconError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("xb", buffering=0)
            self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, mode="w"), SCHEMA)
        except OSError as error:
            raise PolysiliconError(f"{path}: cannot be written: {error.strerror}") from error

    def append(self, table: Any) -> None:
        """Append spans.

        Args:
            table: of `SCHEMA`.

        Raises:
            PolysiliconError: the disk is full.
        """
        try:
            self._writer.write_table(table)
        except (OSError, pa.ArrowException) as error:
            raise PolysiliconError(f"{self._path}: cannot be written: {error}") from error

    @property
    def size_bytes(self) -> int:
        """Bytes that were written."""
        return self._file.tell()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
        self._file.close()


_THIS = sys.modules[__name__]
