"""CSV as rows of Arrow columns, in memory of some megabytes, however large the file is."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv

from polysilicon.errors import InputError, printable
from polysilicon.workload.imports.columns import Rows
from polysilicon.workload.imports.csv_blocks import row_blocks
from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.source import HEAD_BYTES, Source

BLOCK_BYTES = 4 * 2**20
BOM = b"\xef\xbb\xbf"
MOST_COLUMNS = 2000

_NO_ROWS = ("Empty CSV file", "Could not skip initial")
"""What Arrow says of a file of a header alone."""


class Stream:
    """The decompressed content of a source as pieces of UTF-8.

    Arrow cannot tell of a row that is no UTF-8, so none reaches it.

    Attributes:
        replaced: bytes that are no UTF-8 were replaced.

    Args:
        source: of the bytes.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.replaced = False

    def chunks(self) -> Iterator[bytes]:
        """Yield pieces; a character that lies in two of the source's comes with the second."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for found in self._source.chunks():
            yield self._utf8(found, decoder)
        yield self._utf8(b"", decoder)

    def _utf8(self, chunk: bytes, decoder: codecs.IncrementalDecoder) -> bytes:
        """Return bytes as UTF-8; no bytes end them."""
        if chunk.isascii() and chunk and not decoder.getstate()[0]:
            return chunk
        text = decoder.decode(chunk, final=not chunk)
        if "\ufffd" in text and b"\xef\xbf\xbd" not in chunk:
            self.replaced = True
        return text.encode()


def header(source: Source, delimiter: str = ",") -> list[str]:
    """Return the names in the first line that is not blank, without the blanks around them.

    It is empty where that line is no line of CSV.
    """
    line, _ = _first_line(source.head)
    try:
        text = line.decode()
        names = next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []
    if "\x00" in text or len(names) > MOST_COLUMNS:
        return []
    return [name.strip() for name in names]


def csv_rows(
    source: Source,
    findings: Findings,
    wanted: Sequence[str],
    *,
    needed: Sequence[str] = (),
    delimiter: str = ",",
) -> Iterator[Rows]:
    """Yield the wanted columns of a CSV file as texts, some megabytes at once.

    A column that is not there is left out. Rows are numbered from 1, without the header.

    Args:
        source: the file.
        findings: counts bad rows.
        wanted: names of columns.
        needed: those of them that must be there.
        delimiter: between cells.

    Raises:
        InputError: it is no CSV, a wanted column is there twice, a needed one is not, or a row has
            too many or too few cells and bad ones are not to be skipped.
    """
    names = header(source, delimiter)
    where = str(source.path)
    if not names:
        raise InputError("the first line has no names of columns", where=where)
    for name in needed:
        if name not in names:
            mend = f"it has: {printable(', '.join(names))[:200]}"
            raise InputError(f"column {name!r} is not there", where=where, mend=mend)
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"column {name!r} is there twice", where=where)
    found = [name for name in wanted if name in names]
    made = {name: f"c{names.index(name)}" for name in found}
    start = 0
    for table in _tables(source, findings, len(names), list(made.values()), delimiter):
        yield Rows(table.rename_columns(found), start, where, findings)
        start += table.num_rows


def _tables(
    source: Source, findings: Findings, width: int, columns: list[str], delimiter: str
) -> Iterator[Any]:
    """Yield the columns, of bytes, that are named `c0`, `c1`, … by their place."""
    where = str(source.path)
    short: list[tuple[int, int]] = []

    def on_wrong_width(row: Any) -> str:
        short.append((row.number, row.actual_columns))
        return "skip"

    parse = pcsv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_wrong_width
    )
    convert = pcsv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.binary()),
        strings_can_be_null=True,
    )
    stream = Stream(source)
    skipped, rows = _first_line(source.head)[1] + 1, 0
    chunks, mark = stream.chunks(), delimiter.encode()

    def is_cut() -> bool:
        return bool(source.damage)

    for block in row_blocks(chunks, mark, where, findings, BLOCK_BYTES, is_cut):
        # The names of the file are not used: they may be there twice, be empty or hold anything.
        read = pcsv.ReadOptions(
            use_threads=False,
            block_size=len(block) + 1,
            column_names=[f"c{i}" for i in range(width)],
            skip_rows=skipped,
        )
        try:
            # Arrow reads on threads of its own, which must not run Python: where an import ends
            # early, such a thread would end the process with an abort.
            table = pcsv.read_csv(pa.BufferReader(block), read, parse, convert)
        except pa.ArrowInvalid as error:
            if not any(words in str(error) for words in _NO_ROWS):
                what = f"no CSV: {printable(str(error))[:160]}"
                raise InputError(what, where=where) from error
            continue
        finally:
            before, skipped = rows - skipped, 0
        rows += table.num_rows + len(short)
        _tell_short(short, before, findings, width, where)
        yield table
    if stream.replaced:
        findings.note("bytes that are no UTF-8 were replaced")


def _tell_short(
    short: list[tuple[int, int]], before: int, findings: Findings, width: int, where: str
) -> None:
    """Count the rows of a block that have a wrong number of cells; `before` it were other rows."""
    for number, count in short:
        mend = f"this one has {count}; leave such rows out with --skip-bad"
        spot = f"{where}, row {before + number}"
        findings.bad(f"a row has not {width} cells, as the header has", where=spot, mend=mend)
    short.clear()


def _first_line(head: bytes) -> tuple[bytes, int]:
    """Return the first line that is not blank, without a byte order mark, and those before it.

    One that goes beyond the head is no line of names.
    """
    lines = head.removeprefix(BOM).split(b"\n")
    for number, line in enumerate(lines):
        if line.strip():
            cut = number == len(lines) - 1 and len(head) >= HEAD_BYTES
            return b"" if cut else line.strip(b"\r"), number
    return b"", 0
