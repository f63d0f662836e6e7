"""Reads the catalog's CSV files: every column named, every cell checked, every error placed."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from polysilicon.errors import InputError

Cell = Callable[[str], Any]

_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


def data_folder(package: str = "polysilicon.catalog") -> Traversable:
    """Return the data folder of a package."""
    return files(package) / "data"


def text(cell: str) -> str:
    """Accept any text but a blank one."""
    if not cell.strip():
        raise ValueError("must not be blank")
    return cell


def number(cell: str) -> float:
    """Accept a finite number."""
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def amount(cell: str) -> float:
    """Accept a number greater than 0."""
    value = number(cell)
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


def count(cell: str) -> int:
    """Accept a whole number greater than 0."""
    value = int(cell)
    if value <= 0:
        raise ValueError("must be greater than 0")
    return value


def day(cell: str) -> str:
    """Accept a year, a month or a day in ISO 8601."""
    if not _DATE.fullmatch(cell):
        raise ValueError("must be a date such as 2026-07-20, or a month or year")
    return cell


def yes_no(cell: str) -> bool:
    """Accept `yes` or `no`."""
    if cell not in ("yes", "no"):
        raise ValueError("must be yes or no")
    return cell == "yes"


def blank_or(cell_of: Cell) -> Cell:
    """Return a reader to which a blank is None: what is not known stays so."""

    def read(cell: str) -> Any:
        return cell_of(cell) if cell else None

    return read


def read_rows(
    source: Traversable, columns: Mapping[str, Cell]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and checked cells of each row of a CSV file.

    Args:
        source: the file.
        columns: name → reader of each column, in the file's order.

    Raises:
        InputError: another header, too few or many cells, or a cell that its reader refuses.
    """
    readers = list(columns.items())
    with source.open("r", encoding="utf-8") as lines:
        rows = csv.reader(lines)
        header = next(rows, [])
        if header != list(columns):
            what = f"columns are {', '.join(header) or 'missing'}"
            raise InputError(what, where=source.name, mend=f"must be {', '.join(columns)}")
        for cells in rows:
            line = rows.line_num
            if len(cells) != len(readers):
                what = f"has {len(cells)} cells, not {len(readers)}"
                raise InputError(what, where=f"{source.name}, row {line}")
            values: dict[str, Any] = {}
            for (name, reader), cell in zip(readers, cells, strict=True):
                try:
                    values[name] = reader(cell)
                except ValueError as error:
                    spot = f"{source.name}, row {line}, {name}"
                    raise InputError(f"{cell!r}: {error}", where=spot) from error
            yield line, values
