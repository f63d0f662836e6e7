"""SkyPilot catalogs as offers: one for each instance type and region, known faults handled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.imports.chips import Chips, chips_of, tpu_slice
from polysilicon.catalog.imports.clouds import check_cloud, cloud_of
from polysilicon.catalog.imports.hosts import Attachable, is_host
from polysilicon.catalog.imports.vms import NEEDED, Vm, read_vms
from polysilicon.catalog.offers import GIB, Offer
from polysilicon.catalog.rows import read_table

# An accelerator offer below this share of the catalog's price lacks its accelerators.
LEAST_SHARE = 0.5

_KEPT = {
    "on_demand_usd_per_hour": "on-demand",
    "spot_usd_per_hour": "spot",
    "reserved_1y_usd_per_hour": "1y",
    "reserved_3y_usd_per_hour": "3y",
    "vcpus": "",
    "memory_bytes": "",
}
"""What stays the catalog's where the file does not tell it, and the words for prices."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a file.

    Attributes:
        cloud: whose offers they are.
        rows: of the file, bad ones left out.
        offers: one for each instance type and region.
        left_out: rows that are no offers, by reason.
        handled: faults that were handled, by what was done.
        ignored: columns that were not looked at.
    """

    cloud: str
    rows: int
    offers: tuple[Offer, ...]
    left_out: Counter[str]
    handled: Counter[str]
    ignored: tuple[str, ...]


def is_skypilot(path: Path) -> bool:
    """Tell whether a CSV file has the columns of a SkyPilot catalog.

    Raises:
        InputError: no such file, or not CSV.
    """
    return set(NEEDED) <= set(read_table(path, (".csv", ".csv.gz", ".parquet")).columns)


def read_skypilot(
    path: Path,
    catalog: Catalog,
    *,
    date: str,
    cloud: str | None = None,
    skipped: Counter[str] | None = None,
) -> Imported:
    """Read a SkyPilot catalog as offers.

    Of the zones of a region the lowest prices count. What the catalog knows of an instance type
    (processors, and their number) holds over what the file says. Prices that the file does not
    tell, such as those for 1 and 3 years, stay the catalog's, and the note says so.

    Args:
        path: the file.
        catalog: processors and offers that are known.
        date: of the prices.
        cloud: whose; by default it is told by the names of the instance types.
        skipped: where bad rows are counted and left out; without it the first is an error.

    Raises:
        InputError: see `read_vms`; or it is not to tell of which cloud it is.
    """
    handled: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    vms, ignored = read_vms(path, handled, skipped)
    where = check_cloud(cloud) if cloud is not None else cloud_of(vms, str(path))
    source = f"SkyPilot catalog {path.name}"
    attachable = Attachable([vm for vm in vms if not vm.instance], catalog)
    groups: dict[tuple[str, str], list[Vm]] = {}
    for vm in _without_copies(vms, handled):
        instance = vm.instance or (vm.accelerator if vm.accelerator.startswith("tpu-") else "")
        if instance:
            groups.setdefault((f"{where}/{instance}", vm.region), []).append(vm)
        else:
            left_out["an accelerator to attach, no offer of its own"] += 1
    offers = []
    for (name, region), zones in groups.items():
        found = _offer(name, zones, catalog, attachable, handled)
        if isinstance(found, str):
            left_out[found] += len(zones)
            continue
        about = {"name": name, "region": region, "date": date, "source": source}
        offers.append(_with_rates(msgspec.structs.replace(found, **about), catalog))
    return Imported(
        cloud=where,
        rows=len(vms),
        offers=tuple(offers),
        left_out=left_out,
        handled=handled,
        ignored=ignored,
    )


def _without_copies(vms: Sequence[Vm], handled: Counter[str]) -> list[Vm]:
    """Return the rows without those that tell of a zone again, at no lower price."""
    seen: dict[tuple[str, ...], Vm] = {}
    for vm in vms:
        key = (vm.instance, vm.accelerator, str(vm.count), vm.region, vm.zone)
        if key in seen:
            handled["told twice of one zone: the lower price holds"] += 1
            seen[key] = _cheaper(seen[key], vm)
        else:
            seen[key] = vm
    return list(seen.values())


def _cheaper(first: Vm, second: Vm) -> Vm:
    """Return the first row with the lower prices of two."""
    return msgspec.structs.replace(
        first,
        usd=_lowest([first.usd, second.usd]),
        spot_usd=_lowest([first.spot_usd, second.spot_usd]),
    )


def _offer(
    name: str, zones: list[Vm], catalog: Catalog, attachable: Attachable, handled: Counter[str]
) -> Offer | str:
    """Return the offer of some zones of a region, or why there is none."""
    vm = zones[0]
    chips = chips_of(vm, name, catalog) if vm.instance else tpu_slice(vm.accelerator, catalog)
    if chips.unknown:
        return chips.unknown
    if not vm.accelerator and is_host(name, chips):
        found = attachable.complete(zones, chips)
        if not found:
            return "the price excludes its accelerators, and the file has none for them"
        handled["price of the accelerators added to the host's"] += len(found)
        zones = found
    if chips.differs:
        handled[chips.differs] += len(zones)
    if len({(z.vcpus, z.memory_gib) for z in zones}) > 1:
        handled["sizes differ between zones: those of the first hold"] += 1
    usd, spot_usd = _lowest([z.usd for z in zones]), _lowest([z.spot_usd for z in zones])
    if usd is None and spot_usd is None:
        return "no price is known"
    if len({z.usd for z in zones if z.usd is not None}) > 1:
        handled["on-demand price differs between zones: the lowest holds"] += 1
    if usd is not None and _too_cheap(name, vm.region, usd, chips, catalog):
        return "less than half of the catalog's price: its accelerators seem to be excluded"
    return Offer(
        name=name,
        region=vm.region,
        kind="cpu" if chips.processor is None else chips.processor.kind,
        processor=chips.processor,
        accelerators=chips.count,
        vcpus=vm.vcpus,
        memory_bytes=None if vm.memory_gib is None else round(vm.memory_gib * GIB),
        on_demand_usd_per_hour=usd,
        spot_usd_per_hour=spot_usd,
        note=chips.note,
    )


def _too_cheap(name: str, region: str, usd: float, chips: Chips, catalog: Catalog) -> bool:
    """Tell whether an accelerator offer costs far less than the catalog says."""
    if chips.processor is None or chips.processor.kind == "cpu":
        return False
    known = [o.on_demand_usd_per_hour for o in catalog.offers_named(name) if o.region == region]
    return any(price is not None and usd < LEAST_SHARE * price for price in known)


def _with_rates(offer: Offer, catalog: Catalog) -> Offer:
    """Return an offer with what the file does not tell and the catalog does."""
    for known in catalog.offers_named(offer.name):
        if known.region != offer.region:
            continue
        kept = {name: getattr(known, name) for name in _KEPT if getattr(offer, name) is None}
        prices = [words for name, words in _KEPT.items() if kept.get(name) is not None and words]
        told = f"{' and '.join(prices)} as of {known.date}" if prices else ""
        note = "; ".join(part for part in (offer.note, told) if part)
        return msgspec.structs.replace(offer, **kept, note=note)
    return offer


def _lowest(prices: Sequence[float | None]) -> float | None:
    """Return the lowest known price."""
    return min((p for p in prices if p is not None), default=None)
