"""A stream of CSV in blocks of whole rows, each of which can be read by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from polysilicon.errors import InputError
from polysilicon.workload.imports.findings import Findings

_QUOTE, _LINE_ENDS = 34, (10, 13)


def row_blocks(
    chunks: Iterable[bytes],
    delimiter: bytes,
    where: str,
    findings: Findings,
    size: int,
    is_cut: Callable[[], bool],
) -> Iterator[bytes]:
    """Yield a stream in blocks of whole rows.

    A row whose quote is not closed, which goes to the end, is bad.

    Args:
        chunks: of CSV in UTF-8.
        delimiter: between cells, one byte.
        where: the file, named in errors.
        findings: counts a bad row.
        size: bytes of a block, about; a row that goes on for more beyond its chunk is too long.
        is_cut: asked at the end: the stream broke off, and its last row is not whole.

    Raises:
        InputError: a row is too long, or is bad and not to be skipped.
    """
    held: list[bytes] = []
    length = done = 0
    for chunk in chunks:
        held.append(chunk)
        length += len(chunk)
        if length < size:
            continue
        whole = b"".join(held)
        end, is_open = _end_of_rows(whole, delimiter)
        if length - end > size:
            mend = "is a quote not closed?" if is_open else "is it CSV?"
            spot = f"{where}, byte {done + end}"
            raise InputError(f"a row of more than {size:,} bytes", where=spot, mend=mend)
        if end:
            yield whole[:end]
        held, length, done = [whole[end:]], length - end, done + end
    whole = b"".join(held)
    end, is_open = _end_of_rows(whole, delimiter)
    broke_off = is_cut()
    if is_open or broke_off:
        whole = whole[:end]
    if whole:
        yield whole
    if is_open and not broke_off:
        mend = "the rows after it are in it; close it, or leave them out with --skip-bad"
        spot = f"{where}, byte {done + end}"
        findings.bad("a quote is not closed", where=spot, mend=mend)


def _end_of_rows(data: bytes, delimiter: bytes) -> tuple[int, bool]:
    """Return how many bytes are whole rows, and whether a quote is open at the end of all.

    Args:
        data: begins with a row.
        delimiter: between cells.
    """
    if b'"' not in data:
        return max(data.rfind(b"\n"), data.rfind(b"\r")) + 1, False
    values = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(values == _QUOTE)
    opens = quotes[::2]
    before = values[np.maximum(opens - 1, 0)]
    usual = np.isin(before, np.array([*_LINE_ENDS, _QUOTE, delimiter[0]], np.uint8))
    if not (usual | (opens == 0)).all():
        # A quote within a cell that does not begin with one stands for itself.
        return _end_by_cells(data, delimiter)
    ends = np.flatnonzero(np.isin(values, np.array(_LINE_ENDS, np.uint8)))
    outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(outside[-1]) + 1 if outside.size else 0, len(quotes) % 2 == 1


def _end_by_cells(data: bytes, delimiter: bytes) -> tuple[int, bool]:
    """Return what `_end_of_rows` does, cell by cell."""
    # Two quotes in a quoted cell are one that does not close it; UTF-8 has no byte 255.
    single = data.replace(b'""', b"\xff\xff")
    quoted = re.compile(rb'(\A|[\r\n%b])(\xff*"[^"]*)("?)' % re.escape(delimiter))
    is_open = False

    def hidden(found: re.Match[bytes]) -> bytes:
        nonlocal is_open
        is_open = not found[3]
        return found[1] + b"x" * (len(found[2]) + len(found[3]))

    shown = quoted.sub(hidden, single)
    return max(shown.rfind(b"\n"), shown.rfind(b"\r")) + 1, is_open
