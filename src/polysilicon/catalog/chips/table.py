"""The table of ids by which chips tell what they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources.abc import Traversable

import msgspec

from polysilicon.catalog.tables import Cell, count, data_folder, day, read_rows, text


class ChipId(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An id, and the chip that has it.

    Attributes:
        bus: what the id is of: `arm`, `intel` and `amd` are CPUs, `name` is a part of a CPU's name,
            `pci` a device.
        id: on that bus.
        place: words for where that is so, see `Hardware.place`; blank for anywhere.
        chip: core, generation or accelerator.
        processor: of the catalog; blank where it has none.
        isa: widest instructions of an x86 generation that a model can use.
        functions: PCI devices that are one accelerator.
        source: of the row.
        date: of the row.
    """

    bus: str
    id: str
    place: str
    chip: str
    processor: str
    isa: str
    functions: int
    source: str
    date: str

    def holds_in(self, place: str) -> bool:
        """Tell whether the id is that chip's in a place."""
        return not self.place or place in self.place.split()


_COLUMNS: dict[str, Cell] = {
    "bus": text,
    "id": text,
    "place": str,
    "chip": text,
    "processor": str,
    "isa": str,
    "functions": count,
    "source": text,
    "date": day,
}


def read_chip_ids(source: Traversable) -> tuple[ChipId, ...]:
    """Read ids.

    Raises:
        InputError: a cell that cannot be.
    """
    return tuple(ChipId(**row) for _, row in read_rows(source, _COLUMNS))


@lru_cache(maxsize=1)
def chip_ids() -> tuple[ChipId, ...]:
    """Return the ids that come with Polysilicon; they are read once."""
    return read_chip_ids(data_folder() / "chip_ids.csv")


def best(rows: Sequence[ChipId], place: str) -> ChipId | None:
    """Return the row that says most in a place: one of that place, else one of any."""
    here = [row for row in rows if row.holds_in(place)]
    return max(here, key=lambda row: bool(row.place), default=None)
