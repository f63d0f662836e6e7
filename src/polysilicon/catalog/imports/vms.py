"""Rows of SkyPilot catalogs (`vms.csv`), by column name; the clouds order columns differently."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from polysilicon.catalog.cells import (
    LARGEST,
    CellError,
    above_zero,
    finite,
    plain_text,
    whole_above_zero,
)
from polysilicon.catalog.offers import SENTINEL_USD
from polysilicon.catalog.rows import read_table
from polysilicon.catalog.tables import Cell, blank_or
from polysilicon.errors import InputError

NEEDED = ("InstanceType", "Region", "Price")

_ONLY_NINES = re.compile(r"9{3,}(\.9*|\.0*)?")
_LONGEST_INFO = 4096


class Vm(msgspec.Struct, frozen=True, kw_only=True):
    """One row: an instance type in a zone, or an accelerator to attach to one.

    Attributes:
        row: line in the file.
        instance: blank of accelerators that are rented on their own.
        accelerator: as the file names it; blank where it names none.
        count: accelerators; a fraction of shared ones.
        vcpus: of the host.
        memory_gib: of the host.
        gpu_memory_gib: of one accelerator, where the row tells.
        usd: on-demand, by the hour; None where it is not known.
        spot_usd: None where it is not known.
        region: of the cloud, in lower case.
        zone: of the region, or blank.
        arch: of the host's CPU, or blank.
    """

    row: int
    instance: str
    accelerator: str
    count: float | None
    vcpus: int | None
    memory_gib: float | None
    gpu_memory_gib: float | None
    usd: float | None
    spot_usd: float | None
    region: str
    zone: str
    arch: str


def read_vms(
    path: Path, handled: Counter[str], skipped: Counter[str] | None = None
) -> tuple[list[Vm], tuple[str, ...]]:
    """Read a SkyPilot catalog.

    Args:
        path: `.csv` or `.csv.gz`.
        handled: where known faults of prices are counted; such a price is not known.
        skipped: where bad rows are counted by reason and left out; without it the first bad row is
            an error.

    Returns:
        The rows, and the columns that were not looked at.

    Raises:
        InputError: no such file, a column is missing or there twice, or a bad row; names file, row
            and column.
    """
    table = read_table(path, (".csv", ".csv.gz"))
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        what = f"no column {', '.join(missing)}"
        raise InputError(what, where=table.where, mend="is it a SkyPilot catalog, vms.csv?")
    twice = [name for name, count in Counter(table.columns).items() if count > 1]
    if twice:
        raise InputError(f"column {twice[0]!r} is there twice", where=table.where)
    found: list[Vm] = []
    for line, cells in table.rows:
        try:
            found.append(_vm(line, _by_name(table.columns, cells), handled))
        except CellError as error:
            if skipped is None:
                spot = ", ".join(p for p in (table.where, f"row {line}", error.column) if p)
                raise InputError(error.told, where=spot, mend=error.mend) from error
            skipped[f"{error.column}: {error}" if error.column else str(error)] += 1
    ignored = tuple(name for name in table.columns if name not in _READERS)
    return found, ignored


def gpu_memory_gib(text: str) -> float | None:
    """Return the memory of the first accelerator that a `GpuInfo` cell describes.

    The cell is a Python dictionary in words, which is read as data and never run; in some catalogs
    it is only a name.
    """
    if not text.startswith("{") or len(text) > _LONGEST_INFO:
        return None
    try:
        told = ast.literal_eval(text)
        mib = told["Gpus"][0]["MemoryInfo"]["SizeInMiB"]
    except (ValueError, SyntaxError, KeyError, IndexError, TypeError, RecursionError, MemoryError):
        return None
    if isinstance(mib, bool) or not isinstance(mib, int | float) or not 0 < mib < LARGEST:
        return None
    return mib / 1024


def _not_negative(cell: str) -> float | None:
    """Accept a number from 0 on; 0 is not known."""
    value = finite(cell)
    if value < 0:
        raise ValueError("must not be negative")
    return value or None


def _count_or_none(cell: str) -> int | None:
    """Accept a whole number from 0 on; 0 is not known."""
    return whole_above_zero(cell) if finite(cell) != 0 else None


_READERS: Mapping[str, Cell] = {
    "InstanceType": plain_text,
    "AcceleratorName": plain_text,
    "AcceleratorCount": blank_or(_not_negative),
    "vCPUs": blank_or(_count_or_none),
    "MemoryGiB": blank_or(_not_negative),
    "GpuInfo": gpu_memory_gib,
    "Price": blank_or(finite),
    "SpotPrice": blank_or(finite),
    "Region": plain_text,
    "AvailabilityZone": plain_text,
    "Arch": plain_text,
}


def _by_name(columns: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Return the cells of a row by their columns.

    Raises:
        CellError: there are more or fewer cells than columns.
    """
    if len(cells) != len(columns):
        told = f"has {len(cells)} cells, not {len(columns)}"
        raise CellError("another number of cells than the header", told=told)
    return dict(zip(columns, cells, strict=True))


def _vm(line: int, cells: Mapping[str, str], handled: Counter[str]) -> Vm:
    """Read one row.

    Raises:
        CellError: a cell cannot be.
    """
    values = {}
    for name, reader in _READERS.items():
        cell = cells.get(name, "").strip()
        try:
            values[name] = reader(cell)
        except ValueError as error:
            raise CellError(str(error), column=name, cell=cell) from error
    if not values["Region"]:
        raise CellError("must not be blank", column="Region")
    if not values["InstanceType"] and not values["AcceleratorName"]:
        raise CellError("neither InstanceType nor AcceleratorName is told")
    usd = _price("Price", cells, handled)
    spot_usd = _price("SpotPrice", cells, handled)
    if usd is not None and spot_usd is not None and spot_usd >= usd:
        how = "equal to" if spot_usd == usd else "above"
        handled[f"spot price {how} the on-demand price: not known"] += 1
        spot_usd = None
    return Vm(
        row=line,
        instance=values["InstanceType"],
        accelerator=values["AcceleratorName"],
        count=values["AcceleratorCount"],
        vcpus=values["vCPUs"],
        memory_gib=values["MemoryGiB"],
        gpu_memory_gib=values["GpuInfo"],
        usd=usd,
        spot_usd=spot_usd,
        region=values["Region"].casefold(),
        zone=values["AvailabilityZone"],
        arch=values["Arch"],
    )


def _price(column: str, cells: Mapping[str, str], handled: Counter[str]) -> float | None:
    """Return a price; None of what feeds write where they do not know it."""
    cell = cells.get(column, "").strip()
    if not cell:
        return None
    for what, is_it in _UNKNOWN.items():
        if is_it(cell):
            handled[f"{column} {what}: not known"] += 1
            return None
    return above_zero(cell)


_UNKNOWN: Mapping[str, Callable[[str], bool]] = {
    "of 0 or less": lambda cell: finite(cell) <= 0,
    f"of {SENTINEL_USD:g}": lambda cell: finite(cell) == SENTINEL_USD,
    "of nothing but nines": lambda cell: _ONLY_NINES.fullmatch(cell) is not None,
}
"""What feeds write for a price that they do not know."""
