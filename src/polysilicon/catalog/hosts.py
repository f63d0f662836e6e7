"""The CPUs of machines, also of those that are rented for their accelerators."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.catalog.tables import count, data_folder, day, read_rows, text

_COLUMNS = {
    "offer": text,
    "processor": text,
    "vcpus_per_core": count,
    "source": text,
    "date": day,
}


def cpu_of(offer: Offer) -> Processor | None:
    """Return the CPU that an offer's vCPUs are of; None where no source tells."""
    return offer.processor if offer.kind == "cpu" else _hosts().get(offer.name)


@lru_cache(maxsize=1)
def _hosts() -> Mapping[str, Processor]:
    """Return the CPUs of the hosts of accelerators, by offer."""
    return {
        row["offer"]: Processor(
            name=row["processor"],
            vendor=row["processor"].partition(" ")[0],
            kind="cpu",
            vcpus_per_core=row["vcpus_per_core"],
        )
        for _, row in read_rows(data_folder() / "cc_by_sa" / "hosts.csv", _COLUMNS)
    }
