"""Readers of cells that come from outside: strict numbers, and reasons that can be counted."""

from __future__ import annotations

import math
import re

from polysilicon.catalog.tables import day

LARGEST = 1e12
"""Larger numbers are taken for mistakes, whatever they count."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_AT_ONCE = re.compile(r"(?:\w+ )?concurrency=(\S+)", re.ASCII)
_SHOWN = 40


class CellError(ValueError):
    """A row that cannot be; the text is the same for all alike rows.

    Args:
        reason: why, without the cell's value.
        column: of the cell; blank where the row as a whole is wrong.
        cell: its value, for those who mend it.
        told: what is told of this very row, where that is more than the reason.
        mend: what to do about it.
    """

    def __init__(
        self, reason: str, *, column: str = "", cell: str = "", told: str = "", mend: str = ""
    ) -> None:
        shown = cell if len(cell) <= _SHOWN else f"{cell[:_SHOWN]}…"
        self.column, self.mend = column, mend
        self.told = told or (f"{shown!r}: {reason}" if column else reason)
        super().__init__(reason)


def plain_text(cell: str) -> str:
    """Accept any text, a blank too; space of any kind becomes single blanks, so it is one line."""
    return " ".join(cell.split())


def isoday(cell: str) -> str:
    """Accept a blank, a year, a month or a day in ISO 8601."""
    return day(cell) if cell else ""


def finite(cell: str) -> float:
    """Accept a number that is written in digits and is not absurdly large."""
    if not _NUMBER.fullmatch(cell):
        raise ValueError("must be a finite number")
    value = float(cell)
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise ValueError(f"must not be larger than {LARGEST:g}")
    return value


def above_zero(cell: str) -> float:
    """Accept a number greater than 0."""
    value = finite(cell)
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


def whole_from_zero(cell: str) -> int:
    """Accept a whole number from 0 on, `8` or `8.0`."""
    value = finite(cell)
    if value < 0:
        raise ValueError("must not be negative")
    if value != int(value):
        raise ValueError("must be a whole number")
    return int(value)


def whole_above_zero(cell: str) -> int:
    """Accept a whole number greater than 0, `8` or `8.0`."""
    value = whole_from_zero(cell)
    if value == 0:
        raise ValueError("must be greater than 0")
    return value


def at_once(cell: str) -> float:
    """Accept a mean number of requests, `26.9` or, as GuideLLM's, `throughput concurrency=26.9`."""
    match = _AT_ONCE.fullmatch(cell)
    return above_zero(match[1] if match else cell)
