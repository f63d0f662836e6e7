"""Commitment programs and the carbon of the grid, as read from their tables."""

from __future__ import annotations

from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.tables import Cell, blank_or, day, number, read_rows, text


class Commitment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that sells cheaper prices for a promise.

    Attributes:
        vendor: who offers it.
        program: its name.
        term: `1y`, `3y`, …; blank where the source gives none.
        discount_min: fraction off the on-demand price.
        discount_max: fraction off; where only this one is known it is an "up to".
        terms: its rules, in words.
        source: of the row.
        date: of the source.
    """

    vendor: str
    program: str
    term: str
    discount_min: float | None = None
    discount_max: float | None = None
    terms: str
    source: str
    date: str


class GridCarbon(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Carbon of a region's grid: grams of CO₂ equivalent a kWh, and the carbon-free share."""

    cloud: str
    region: str
    g_co2e_per_kwh: float | None = None
    carbon_free_share: float | None = None
    date: str
    source: str


def _fraction(cell: str) -> float:
    """Accept a number from 0 to 1."""
    value = number(cell)
    if not 0 <= value <= 1:
        raise ValueError("must be a fraction from 0 to 1")
    return value


_COMMITMENT_COLUMNS: dict[str, Cell] = {
    "vendor": text,
    "program": text,
    "term": str,
    "discount_min": blank_or(_fraction),
    "discount_max": blank_or(_fraction),
    "terms": str,
    "source": text,
    "date": day,
}

_CARBON_COLUMNS: dict[str, Cell] = {
    "cloud": text,
    "region": text,
    "g_co2e_per_kwh": blank_or(number),
    "carbon_free_share": blank_or(_fraction),
    "date": day,
    "source": text,
}


def read_commitments(source: Traversable) -> tuple[Commitment, ...]:
    """Read commitment programs."""
    return tuple(Commitment(**row) for _, row in read_rows(source, _COMMITMENT_COLUMNS))


def read_grid_carbon(source: Traversable) -> dict[tuple[str, str], GridCarbon]:
    """Read the grid's carbon by cloud and region."""
    rows = (GridCarbon(**row) for _, row in read_rows(source, _CARBON_COLUMNS))
    return {(row.cloud, row.region): row for row in rows}
