"""Offers: what can be rented, where, with which processors, at which prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from typing import Literal

import msgspec

from polysilicon.catalog.processors import Processor, ProcessorKind
from polysilicon.catalog.tables import Cell, amount, blank_or, count, day, read_rows, text
from polysilicon.errors import InputError, nearest

Price = Literal["on-demand", "spot", "1y", "3y"]
SortBy = Literal["price", "name"]

GIB = 2**30
# Some price feeds write this where a price is not known.
SENTINEL_USD = 700.0


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance type in a region; None is what no source tells.

    Attributes:
        name: `cloud/instance type`; unique together with `region`.
        region: of the cloud.
        kind: of the processors that it is rented for.
        processor: these processors.
        accelerators: how many of them; None of CPU offers and of shared accelerators.
        vcpus: of the host.
        memory_bytes: of the host.
        on_demand_usd_per_hour: by the hour.
        spot_usd_per_hour: may be taken away.
        reserved_1y_usd_per_hour: bound for a year.
        reserved_3y_usd_per_hour: bound for three years.
        date: of the prices.
        source: of the prices and the size.
        note: what else to know.
    """

    name: str
    region: str
    kind: ProcessorKind = "cpu"
    processor: Processor | None = None
    accelerators: int | None = None
    vcpus: int | None = None
    memory_bytes: int | None = None
    on_demand_usd_per_hour: float | None = None
    spot_usd_per_hour: float | None = None
    reserved_1y_usd_per_hour: float | None = None
    reserved_3y_usd_per_hour: float | None = None
    date: str = ""
    source: str = ""
    note: str = ""

    @property
    def cloud(self) -> str:
        """Who rents it out: what stands before the slash."""
        return self.name.partition("/")[0]

    def price(self, price: Price = "on-demand") -> float | None:
        """Return dollars an hour, or None where no source tells."""
        return {
            "on-demand": self.on_demand_usd_per_hour,
            "spot": self.spot_usd_per_hour,
            "1y": self.reserved_1y_usd_per_hour,
            "3y": self.reserved_3y_usd_per_hour,
        }[price]

    def usd_per_hour(self, price: Price = "on-demand") -> float:
        """Return dollars an hour.

        Raises:
            InputError: no source tells this price.
        """
        found = self.price(price)
        if found is None:
            known = [p for p in PRICES if self.price(p) is not None]
            mend = f"known: {', '.join(known)}" if known else ""
            where = f"{self.name} in {self.region}"
            raise InputError(f"no {price} price is known", where=where, mend=mend)
        return found


PRICES: tuple[Price, ...] = ("on-demand", "spot", "1y", "3y")


def _usd(cell: str) -> float | None:
    """Read a price; a blank and the feeds' "unknown" are None."""
    value = blank_or(amount)(cell)
    return None if value == SENTINEL_USD else value


COLUMNS: dict[str, Cell] = {
    "name": text,
    "region": text,
    "processor": str,
    "accelerators": blank_or(count),
    "vcpus": blank_or(count),
    "memory_gib": blank_or(amount),
    "on_demand_usd_per_hour": _usd,
    "spot_usd_per_hour": _usd,
    "reserved_1y_usd_per_hour": _usd,
    "reserved_3y_usd_per_hour": _usd,
    "date": day,
    "source": text,
    "note": str,
}


def read_offers(
    source: Traversable, sources: Mapping[str, str], processors: Mapping[str, Processor]
) -> tuple[Offer, ...]:
    """Read offers.

    Args:
        source: the file.
        sources: id → words, for the column `source`.
        processors: by name.

    Raises:
        InputError: a cell that cannot be, an unknown processor or source, or an offer told twice.
    """
    offers: dict[tuple[str, str], Offer] = {}
    for line, row in read_rows(source, COLUMNS):
        where = f"{source.name}, row {line}"
        processor = None
        if chip := row.pop("processor"):
            processor = processors.get(chip)
            if processor is None:
                mend = nearest(chip, processors)
                raise InputError(f"unknown processor {chip!r}", where=where, mend=mend)
        if row["source"] not in sources:
            raise InputError(f"unknown source {row['source']!r}", where=f"{where}, source")
        row["source"] = sources[row["source"]]
        memory_gib = row.pop("memory_gib")
        memory_bytes = None if memory_gib is None else round(memory_gib * GIB)
        kind: ProcessorKind = "cpu" if processor is None else processor.kind
        offer = Offer(kind=kind, processor=processor, memory_bytes=memory_bytes, **row)
        if (offer.name, offer.region) in offers:
            raise InputError(f"{offer.name} in {offer.region} is told twice", where=where)
        offers[offer.name, offer.region] = offer
    return tuple(offers.values())


def select(
    offers: Iterable[Offer],
    *,
    kind: str | None = None,
    vendor: str | None = None,
    region: str | None = None,
    chip: str | None = None,
) -> list[Offer]:
    """Return the offers that match all that is given; upper and lower case are the same.

    Args:
        offers: to choose from.
        kind: `cpu`, `gpu` or `asic`.
        vendor: the cloud, or who makes the chip.
        region: exact name.
        chip: part of the processor's name.
    """

    def fits(offer: Offer) -> bool:
        maker = offer.processor.vendor.casefold() if offer.processor else ""
        name = offer.processor.name.casefold() if offer.processor else ""
        return (
            (kind is None or offer.kind == kind)
            and (vendor is None or vendor.casefold() in (offer.cloud, maker))
            and (region is None or offer.region == region.casefold())
            and (chip is None or chip.casefold() in name)
        )

    return [offer for offer in offers if fits(offer)]


def in_order(offers: Iterable[Offer], by: SortBy = "price") -> list[Offer]:
    """Return offers by on-demand price, those without one last, or by name."""
    if by == "name":
        return sorted(offers, key=lambda o: (o.name, o.region))
    return sorted(
        offers,
        key=lambda o: (
            o.on_demand_usd_per_hour is None,
            o.on_demand_usd_per_hour or 0.0,
            o.name,
            o.region,
        ),
    )
