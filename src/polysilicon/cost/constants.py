"""Efficiencies, overheads and bands: fitted numbers, kept apart from data sheet facts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources.abc import Traversable

from polysilicon.catalog.tables import data_folder, day, number, read_rows, text

_COLUMNS = {"family": text, "constant": text, "value": number, "source": text, "date": day}


def read_constants(source: Traversable) -> Mapping[str, Mapping[str, float]]:
    """Read constants: family → constant → value.

    Raises:
        InputError: a row without family, name, number, source or date.
    """
    constants: dict[str, dict[str, float]] = {}
    for _, row in read_rows(source, _COLUMNS):
        constants.setdefault(row["family"], {})[row["constant"]] = row["value"]
    return constants


@lru_cache(maxsize=1)
def constants() -> Mapping[str, Mapping[str, float]]:
    """Return the constants that come with Polysilicon; they are read once."""
    return read_constants(data_folder("polysilicon.cost") / "constants.csv")
