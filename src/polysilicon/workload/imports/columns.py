"""Columns of a foreign table as numbers, texts and moments; what is no such value is told apart.

Whole columns are cast at once. Only where that fails are the values that cannot be cast looked for:
first by their shape, then by halves, so that bad rows among a million cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.errors import printable
from polysilicon.workload.imports.findings import Findings

MOST = 2**53
"""The largest whole number that is taken: a float still holds it exactly."""

LONGEST_TEXT = 4096
"""Bytes of an identifier or a name: a million rows are held in memory."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_TIME = r"([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)"
_SHAPES: dict[int, str] = {
    pa.int64().id: r"^[+-]?\d{1,19}$",
    pa.float64().id: _NUMBER,
    pa.string().id: "",
    pa.timestamp("ns").id: rf"^\d{{4}}-\d\d-\d\d({_TIME}(Z|[+-]\d\d(:?\d\d)?)?)?$",
}
"""How texts look that can be cast: those that do not are passed over at once."""

_NO_NUMBERS = ["NaN", "nan", "NAN"]

Mask = npt.NDArray[np.bool_]


class Rows:
    """Some rows of a file, of which the bad ones are counted and left out.

    Args:
        table: the rows, as read.
        start: number of its first row in the file, from 0.
        where: the file, named in errors.
        findings: counts the bad rows.
        place: gives where in the file a row of the table is, for errors; by default its number in
            the file, from 1.
    """

    def __init__(
        self,
        table: Any,
        start: int,
        where: str,
        findings: Findings,
        place: Callable[[int], str] | None = None,
    ) -> None:
        self.table = table
        self.start = start
        self._where = where
        self._findings = findings
        self._place = place or (lambda row: f"row {start + row + 1}")
        self.keep: Mask = np.ones(table.num_rows, dtype=np.bool_)

    def __len__(self) -> int:
        """Return the number of rows, bad ones included."""
        return int(self.table.num_rows)

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a column of this name."""
        return name in self.table.column_names

    def texts(self, name: str, *, needed: bool = False) -> Any:
        """Return a column as texts; an empty one is null."""
        made = as_texts(self._column(name))
        values = self._checked(name, made, "is not text", needed=needed)
        long = pc.greater(pc.binary_length(values), LONGEST_TEXT)
        what = f"{name} has more than {LONGEST_TEXT:,} bytes"
        self.reject(np.asarray(pc.fill_null(long, fill_value=False)), what)
        return values

    def wholes(self, name: str, *, needed: bool = False) -> Any:
        """Return a column as whole numbers that are not negative."""
        made = as_wholes(self._without_nan(name))
        return self._checked(name, made, "is no whole number from 0 to 2^53", needed=needed)

    def reals(self, name: str, *, needed: bool = False) -> Any:
        """Return a column as numbers that are finite and not negative."""
        made = as_reals(self._without_nan(name))
        return self._checked(name, made, "is no number from 0", needed=needed)

    def moments(self, name: str, *, needed: bool = False) -> Any:
        """Return a column of dates with times as nanoseconds since 1970; UTC where no zone is."""
        made = as_moments(self._column(name))
        return self._checked(name, made, "is no time of ISO 8601", needed=needed)

    def reject(self, bad: Mask, reason: str) -> None:
        """Leave out rows that are bad and were not left out before.

        Raises:
            InputError: bad rows are not to be skipped; names the first.
        """
        found = bad & self.keep
        count = int(np.count_nonzero(found))
        if not count:
            return
        place = "" if self._findings.skip_bad else self._place(int(np.argmax(found)))
        self._findings.bad(reason, where=f"{self._where}, {place}")
        self._findings.leave(reason, count - 1)
        self.keep &= ~bad

    def sound(self, columns: dict[str, Any]) -> Any:
        """Return made columns as a table, without the bad rows."""
        table = pa.table(columns)
        return table if self.keep.all() else table.filter(pa.array(self.keep))

    def _column(self, name: str) -> Any:
        column = self.table.column(name)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def _without_nan(self, name: str) -> Any:
        """Return a column in which NaN, by which tables mean nothing, is null, and counted."""
        values, kind = _plain(self._column(name))
        if pa.types.is_floating(kind):
            empty = pc.is_nan(values)
        elif is_text(kind):
            empty = pc.is_in(values, value_set=pa.array(_NO_NUMBERS).cast(kind))
        else:
            return values
        count = pc.sum(empty).as_py()
        if not count:
            return values
        self._findings.note(f"values of {printable(name)[:40]} that are NaN are not told", count)
        return pc.if_else(empty, pa.scalar(None, kind), values)

    def _checked(self, name: str, made: tuple[Any, Mask], what: str, *, needed: bool) -> Any:
        values, bad = made
        self.reject(bad, f"{name} {what}")
        if needed and values.null_count:
            self.reject(nulls(values) & ~bad, f"{name} is missing")
        return values


def nulls(column: Any) -> Mask:
    """Return where a column is null."""
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def floats(column: Any) -> npt.NDArray[np.float64]:
    """Return a column of numbers as an array, NaN where it is null."""
    values = column.cast(pa.float64(), safe=False).fill_null(float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def from_floats(values: npt.NDArray[np.float64]) -> Any:
    """Return an array as a column, null where it is NaN."""
    return pa.array(values, mask=np.isnan(values))


def as_texts(column: Any) -> tuple[Any, Mask]:
    """Return a column as texts, and where that failed; numbers become their digits."""
    values, kind = _plain(column)
    if pa.types.is_floating(kind):
        whole, _ = as_wholes(values)
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
        values = pc.coalesce(whole.cast(pa.string()), values.cast(pa.string()))
    if not _castable_to_text(kind):
        return _all_bad(values, pa.string())
    made, bad = _cast(values, pa.string())
    empty = pc.equal(made, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), made), bad


def as_wholes(column: Any) -> tuple[Any, Mask]:
    """Return a column as whole numbers from 0 to `MOST`, and where it holds something else."""
    values, kind = _plain(column)
    if pa.types.is_integer(kind):
        return _within(*_cast(values, pa.int64()), 0, MOST)
    if is_text(kind):
        made, bad = _cast(values, pa.int64())
        if not bad.any():
            return _within(made, bad, 0, MOST)
        return _whole_floats(_cast(values, pa.float64())[0], nulls(values))
    if pa.types.is_floating(kind):
        return _whole_floats(values.cast(pa.float64()), nulls(values))
    return _all_bad(values, pa.int64())


def as_reals(column: Any) -> tuple[Any, Mask]:
    """Return a column as finite numbers from 0, and where it holds something else."""
    values, kind = _plain(column)
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return _all_bad(values, pa.float64())
    made, bad = _cast(values, pa.float64())
    if pa.types.is_floating(kind):
        made = pc.if_else(pc.is_nan(made), pa.scalar(None, pa.float64()), made)
    return _within(made, bad, 0.0, np.finfo(np.float64).max)


def as_moments(column: Any) -> tuple[Any, Mask]:
    """Return a column of dates as nanoseconds since 1970 (UTC), and where that failed."""
    values, kind = _plain(column)
    if is_text(kind):
        texts, bad = _cast(values, pa.string())
        for zone in (None, "UTC"):  # a column is of one kind, unless it is bad
            try:
                return texts.cast(pa.timestamp("ns", zone)).cast(pa.int64()), bad
            except pa.ArrowInvalid:
                continue
        local, no_local = _cast(texts, pa.timestamp("ns"))
        zoned, no_zoned = _cast(texts, pa.timestamp("ns", "UTC"))
        both = pc.coalesce(local.cast(pa.int64()), zoned.cast(pa.int64()))
        return both, bad | (no_local & no_zoned)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        made, bad = _cast(values, pa.timestamp("ns", zone))
        return made.cast(pa.int64()), bad
    return _all_bad(values, pa.int64())


def _plain(column: Any) -> tuple[Any, Any]:
    """Return a column that is neither chunked nor a dictionary, and its type."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    if pa.types.is_float16(values.type) or pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    return values, values.type


def is_text(kind: Any) -> bool:
    """Tell whether a type holds texts, or bytes that may be some."""
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _castable_to_text(kind: Any) -> bool:
    types = pa.types
    digits = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return is_text(kind) or bool(digits)


def _cast(values: Any, kind: Any) -> tuple[Any, Mask]:
    """Cast values one and all; what cannot be cast is null, and told."""
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        texts, bad = _cast_by_halves(values, pa.string())
        made, more = _cast(texts, kind) if kind != pa.string() else (texts, bad)
        return made, bad | more
    try:
        return values.cast(kind), np.zeros(len(values), dtype=np.bool_)
    except pa.ArrowInvalid:
        if not is_text(values.type):
            return _cast_by_halves(values, kind)
    trimmed = pc.utf8_trim_whitespace(values)
    shaped = pc.match_substring_regex(trimmed, _SHAPES[kind.id])
    made, _ = _cast_by_halves(pc.if_else(shaped, trimmed, pa.scalar(None, trimmed.type)), kind)
    return made, nulls(made) & ~nulls(values)


def _cast_by_halves(values: Any, kind: Any) -> tuple[Any, Mask]:
    """Cast what can be cast of a column, in logarithmic depth."""
    if not len(values):
        return pa.nulls(0, kind), np.zeros(0, dtype=np.bool_)
    parts: list[Any] = []

    def add(start: int, count: int) -> None:
        piece = values.slice(start, count)
        try:
            parts.append(piece.cast(kind))
        except pa.ArrowInvalid:
            if count == 1:
                parts.append(pa.nulls(1, kind))
            else:
                add(start, count // 2)
                add(start + count // 2, count - count // 2)

    add(0, len(values))
    made = pa.chunked_array(parts, kind).combine_chunks()
    return made, nulls(made) & ~nulls(values)


def _within(values: Any, bad: Mask, least: float, most: float) -> tuple[Any, Mask]:
    """Null what lies outside two numbers (both included), and tell it."""
    inside = pc.and_(pc.greater_equal(values, least), pc.less_equal(values, most))
    found = pc.fill_null(pc.invert(inside), fill_value=False)
    outside = np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
    if outside.any():
        values = pc.if_else(inside, values, pa.scalar(None, values.type))
    return values, bad | outside


def _whole_floats(values: Any, absent: Mask) -> tuple[Any, Mask]:
    """Return floats that are whole numbers as such; NaN, by which tables mean nothing, is null."""
    known = floats(values)
    nothing = absent | (np.isnan(known) & ~nulls(values))
    with np.errstate(invalid="ignore"):
        good = (known >= 0) & (known <= MOST) & (known == np.floor(known))
    whole = np.where(good, known, 0).astype(np.int64)
    return pa.array(whole, mask=~good), ~good & ~nothing


def _all_bad(values: Any, kind: Any) -> tuple[Any, Mask]:
    """Tell that a column is of a type without such values; where it is null, nothing is wrong."""
    return pa.nulls(len(values), kind), ~nulls(values)


def note_unread(names: Iterable[str], findings: Findings) -> None:
    """Say which columns mean nothing to an importer, if any."""
    known = [printable(name)[:40] for name in names]
    if known:
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        findings.note(f"columns that were not read: {', '.join(known[:20])}{more}")
