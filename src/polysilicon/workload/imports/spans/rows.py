"""Spans as compact rows: what is kept of a span, whatever format it came in."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from polysilicon.errors import printable
from polysilicon.workload.imports.spans.told import (
    Told,
    agent_name,
    count_of,
    guessed_role,
    real,
    tool_name,
)
from polysilicon.workload.imports.spans.vocabulary import LONGEST_NAME, Role
from polysilicon.workload.record import OUTCOMES

BATCH_ROWS = 8_192
"""Rows that are turned into a table at once: few enough to lie in the processor's cache."""

LONGEST_ID = 128
NAMELESS = "span without trace or span identifier"

SCHEMA: Any = pa.schema(
    [
        ("trace", pa.string()),
        ("span", pa.string()),
        ("parent", pa.string()),
        ("start_ns", pa.int64()),  # 0 where it is not told, as OTLP has it
        ("end_ns", pa.int64()),
        ("role", pa.int8()),
        ("name", pa.string()),
        ("agent", pa.string()),
        ("model", pa.string()),
        ("service", pa.string()),
        ("prompt", pa.int64()),
        ("cached", pa.int64()),
        ("output", pa.int64()),
        ("first_s", pa.float64()),  # after the start
        ("first_ns", pa.int64()),  # or as a time of day
        ("outcome", pa.int8()),  # index in OUTCOMES
    ]
)
"""One row a span."""

OK, ERROR, _TIMEOUT, _CANCELLED = (
    OUTCOMES.index(o) for o in ("ok", "error", "timeout", "cancelled")
)
_IDS = {"trace": 32, "span": 16, "parent": 16}
_MOMENTS = ("start_ns", "end_ns", "first_ns")
_TEXTS = ("name", "agent", "model", "service")
Row = tuple[Any, ...]
Ids = tuple[str, str, str | None]


class Same:
    """A column that has one value in all rows."""

    __slots__ = ("count", "value")

    def __init__(self, value: Any, count: int) -> None:
        self.value, self.count = value, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return repeat(self.value, self.count)


class Column:
    """A column that grows; a run of one value is kept as that value and its length."""

    __slots__ = ("_counts", "_rows", "_values")

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._counts: list[int] = []
        self._rows = 0

    def extend(self, more: Values) -> None:
        """Add values at the end."""
        self._rows += len(more)
        if isinstance(more, Same):
            self._values.append(more.value)
            self._counts.append(more.count)
        else:
            self._values += more
            self._counts += repeat(1, len(more))

    def __len__(self) -> int:
        return self._rows

    def made(self, convert: Callable[[list[Any]], Any]) -> Any:
        """Return the Arrow array into which a function makes values."""
        array = convert(self._values)
        if self._rows == len(self._values):
            return array
        return array.take(pa.array(np.repeat(np.arange(len(self._values)), self._counts)))


Values = Sequence[Any] | Same
Columns = Sequence[Column]


def row_of(
    ids: Ids, times: tuple[Any, Any, Any], told: Told, name: str, *, server: bool, failed: bool
) -> Row:
    """Return the row of a span.

    Args:
        ids: of its trace, of itself, and of its parent.
        times: its start, end and first token as they are told, without their unit.
        told: what its attributes tell.
        name: its name.
        server: its kind is that of a server.
        failed: its status is an error.
    """
    get = told.get
    role = get("role")
    if role is None:
        role = guessed_role(told, server=server)
    agent, model, first_ns = get("agent"), None, times[2]
    prompt = cached = output = first_s = operation = None
    if role <= Role.EMBED:
        operation = "chat" if role == Role.LLM else "embed"
        model = get("model")
        prompt, cached, output = _tokens(told)
        if "first_s" in told or "first_ms" in told:
            first_s = _first_s(told)
        if first_ns is None:
            first_ns = get("first_at")
    elif role == Role.TOOL:
        operation = get("tool") or get("operation") or tool_name(name)
    elif role == Role.AGENT and agent is None:
        agent = get("operation") or agent_name(name)
    return (
        *ids,
        times[0],
        times[1],
        role,
        operation,
        agent,
        model,
        get("service"),
        prompt,
        cached,
        output,
        first_s,
        first_ns,
        _outcome(told["error"]) if "error" in told else ERROR if failed else OK,
    )


def _tokens(told: Told) -> tuple[int | None, int | None, int | None]:
    """Return prompt, cached and output tokens."""
    prompt, output = count_of(told.get("prompt")), count_of(told.get("output"))
    if "cached" not in told:
        return prompt, None, output
    cached = count_of(told["cached"])
    return with_cached(prompt, cached, count_of(told.get("created"))), cached, output


def with_cached(prompt: int | None, cached: int | None, created: int | None) -> int | None:
    """Return the tokens of a prompt with those that were cached.

    A prompt with fewer tokens than were cached tells those that were not cached only, as some
    vendors count: then those read from the cache and written to it belong to it too.
    """
    if prompt is None or cached is None or prompt < 0 or cached <= prompt:
        return prompt
    return prompt + cached + max(created or 0, 0)


def _first_s(told: Told) -> float | None:
    """Return seconds to the first token; whole numbers are milliseconds."""
    value = told.get("first_ms", told.get("first_s"))
    is_whole = isinstance(value, int) or (isinstance(value, str) and value.isdigit())
    number = real(value)
    return number / 1e3 if number is not None and ("first_ms" in told or is_whole) else number


def _outcome(error: Any) -> int:
    """Return the outcome that the type of an error names."""
    what = str(error)[:LONGEST_NAME].lower()
    if "timeout" in what or "timed out" in what:
        return _TIMEOUT
    return _CANCELLED if "cancel" in what else ERROR


def columns_of(rows: list[Row]) -> Columns:
    """Return rows as columns."""
    columns = no_columns()
    extend(columns, zip(*rows, strict=True) if rows else repeat((), len(columns)))
    return columns


def no_columns() -> Columns:
    """Return the columns of no rows."""
    return [Column() for _ in SCHEMA]


def extend(columns: Columns, more: Iterable[Values]) -> None:
    """Add rows, given by column, at the end."""
    for column, values in zip(columns, more, strict=True):
        column.extend(values)


def batch_of(found: Columns, unit: str = "", *, hexadecimal: bool = True) -> Any:
    """Return columns as an Arrow table of `SCHEMA`.

    Args:
        found: columns of rows, as `row_of` makes these.
        unit: of the times; empty to tell it by their size.
        hexadecimal: identifiers are hexadecimal or base64, and are made hexadecimal.
    """
    columns = []
    for field, column in zip(SCHEMA, found, strict=True):
        convert: Callable[[list[Any]], Any]
        if field.name in _IDS:
            convert = partial(_identifiers, length=_IDS[field.name], fixed=hexadecimal)
        elif field.name in _MOMENTS:
            convert = partial(moments, unit=unit, nullable=field.name == "first_ns")
        elif field.name in _TEXTS:
            convert = _texts
        else:
            convert = partial(pa.array, type=field.type)
        columns.append(column.made(convert))
    return pa.table(columns, schema=SCHEMA)


def _texts(values: Sequence[Any]) -> Any:
    """Return texts of bounded length; null for empty ones and for what is none."""
    distinct = _strings(values).dictionary_encode()
    names = pc.utf8_slice_codeunits(distinct.dictionary, 0, LONGEST_NAME)
    if pc.any(pc.equal(names, "")).as_py():
        names = pc.if_else(pc.equal(names, ""), pa.scalar(None, pa.string()), names)
    return names.take(distinct.indices)


def _strings(values: Sequence[Any]) -> Any:
    """Return values as an Arrow array of text, whatever they are."""
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowException, TypeError, UnicodeEncodeError):
        return pa.array([None if v is None else printable(str(v)) for v in values], pa.string())


def _identifiers(values: Sequence[Any], length: int, *, fixed: bool) -> Any:
    """Return identifiers as text, null for none.

    Args:
        values: as they are told.
        length: of those in hexadecimal.
        fixed: they are hexadecimal or base64, and are made lower-case hexadecimal; all-zero ones
            are none.
    """
    array = _strings(values)
    if fixed:
        sizes = _sizes(array)
        if ((sizes != 0) & (sizes != length)).any():
            again = [v if v is None else _from_base64(v, length) for v in array.to_pylist()]
            array = pa.array(again, pa.string())
        array = pc.ascii_lower(array)
    none = pc.or_(pc.equal(array, ""), pc.equal(array, "0" * length))
    if pc.any(none).as_py():
        array = pc.if_else(none, pa.scalar(None, pa.string()), array)
    return array


def _sizes(array: Any) -> npt.NDArray[np.int32]:
    """Return the bytes of each text, 0 for null."""
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, 4 * array.offset)
    return offsets[1:] - offsets[:-1]


def _from_base64(value: str, length: int) -> str:
    """Return a base64 identifier in hexadecimal; one that is neither is kept as it is."""
    size = length // 2
    if len(value) in (-(-size // 3) * 4, -(-size * 4 // 3)):
        try:
            found = a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True).hex()
        except (Base64Error, ValueError):
            return value
        return found if len(found) == length else value
    return value[:LONGEST_ID]


_UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
# 2010 to 2100 in seconds: a number in these bounds is a time of day in that unit.
_FROM_S, _TO_S = 1_262_304_000, 4_102_444_800
_LATEST_NS = 2**62
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def moments(values: Sequence[Any], unit: str = "", *, nullable: bool = False) -> Any:
    """Return times of day as nanoseconds since 1970; 0, or null, where none is told.

    Args:
        values: whole numbers or numbers, as themselves or as text, or ISO 8601.
        unit: of the numbers; empty to tell it by their size.
        nullable: null stands for what is not told, instead of 0.
    """
    try:
        if values and isinstance(values[0], int):
            array = pa.array(values, pa.int64())
        else:
            array = pa.array(values, pa.string()).cast(pa.int64())
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        array = pa.array([moment(value, unit) for value in values], pa.int64())
    else:
        if array.null_count < len(array):
            array = _scaled(array, unit)
    return array if nullable else array.fill_null(0)


def _scaled(array: Any, unit: str) -> Any:
    """Return whole numbers of some unit in nanoseconds."""
    known = pc.fill_null(array, 0).to_numpy()
    least, most = int(known.min()), int(known.max())
    low = least if least > 0 else int(known[known > 0].min(initial=_LATEST_NS))
    sound = least >= 0 and most < _LATEST_NS
    if sound and (unit == "ns" or (not unit and low >= _TO_S * 1_000_000)):
        return array
    return pa.array([moment(value, unit) for value in array.to_pylist()], pa.int64())


def moment(value: Any, unit: str = "") -> int | None:
    """Return a time of day in nanoseconds since 1970, or None where it is none.

    Without a unit, what lies between 2010 and 2100 in seconds, milliseconds or microseconds is
    in that unit, and all else in nanoseconds.
    """
    if isinstance(value, str):
        value = value.strip().strip('"')
        if not _NUMBER.fullmatch(value[:64]):
            return _iso(value)
    try:
        number = int(value) if not isinstance(value, str) or value.isdigit() else float(value)
        number = value if isinstance(value, float) else number
        if not unit:
            unit = next(
                (u for u in ("s", "ms", "us") if _FROM_S <= number * _UNITS[u] / 1e9 < _TO_S), "ns"
            )
        found = round(number * _UNITS[unit])
    except (TypeError, ValueError, OverflowError):
        return None
    return found if 0 <= found < _LATEST_NS else None


def _iso(value: str) -> int | None:
    """Return a time in ISO 8601 as nanoseconds; without a zone it is UTC."""
    try:
        time = datetime.fromisoformat(value[:64])
    except ValueError:
        return None
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    found = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
    return found if 0 <= found < _LATEST_NS else None


def batches(
    documents: Iterable[list[Row]], unit: str = "", *, hexadecimal: bool = True
) -> Iterator[Any]:
    """Yield the rows of documents as tables of bounded size; arguments as of `batch_of`."""
    waiting: list[Row] = []
    for rows in documents:
        waiting += rows
        if len(waiting) >= BATCH_ROWS:
            yield batch_of(columns_of(waiting), unit, hexadecimal=hexadecimal)
            waiting = []
    if waiting:
        yield batch_of(columns_of(waiting), unit, hexadecimal=hexadecimal)
