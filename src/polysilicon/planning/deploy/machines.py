"""Which machines a plan runs in a month, offer by offer, and how they are paid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.errors import InputError
from polysilicon.planning.dates import Calendar
from polysilicon.planning.plan import Plan


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """Machines of an offer in a region.

    Attributes:
        offer: its name.
        region: where.
        committed: units under contract.
        hourly: units by the hour, on average; None where the plan uses none.
        spot: units of the spot market, on average; None where the plan uses none.
        needs: that they serve.
        known: the offer of the catalog; None of those that only the plan knows.
    """

    offer: str
    region: str
    committed: float
    hourly: float | None
    spot: float | None
    needs: tuple[str, ...]
    known: Offer | None

    @property
    def vendor(self) -> str:
        """Who sells it."""
        return self.offer.partition("/")[0]

    @property
    def type(self) -> str:
        """Instance type: what stands behind the slash."""
        return self.offer.partition("/")[2]

    @property
    def label(self) -> str:
        """A name that Kubernetes and Terraform take."""
        text = f"{self.vendor}-{self.type}-{self.region}".lower()
        kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
        return "-".join(part for part in kept.split("-") if part)[:50]


def machines_of(plan: Plan, calendar: Calendar, month: int, catalog: Catalog) -> list[Machines]:
    """Return the machines of a month, those of most units first.

    Raises:
        InputError: the plan runs nothing in it.
    """
    committed: dict[tuple[str, str], float] = {}
    for one in plan.commitments:
        begin, end = (calendar.place(m, "plan") for m in (one.start_month, one.end_month))
        if begin <= month <= end and one.machines > 0 and ", " not in one.offer:
            key = (one.offer, one.region)
            committed[key] = committed.get(key, 0.0) + one.machines
    used = {kind: _used(plan, month, kind) for kind in ("on_demand", "spot")}
    found = []
    for key in dict.fromkeys([*committed, *used["on_demand"], *used["spot"]]):
        offer, region = key
        known = next((o for o in catalog.offers_named(offer)), None)
        needs = [fact.need for fact in plan.facts if (fact.offer, fact.region) == key]
        found.append(
            Machines(
                offer=offer,
                region=region,
                committed=committed.get(key, 0.0),
                hourly=used["on_demand"].get(key),
                spot=used["spot"].get(key),
                needs=tuple(dict.fromkeys(needs)),
                known=known,
            )
        )
    if not found:
        raise InputError(f"the plan runs nothing in {calendar.name(month)}", where="plan")
    return sorted(found, key=lambda one: -(one.committed + (one.hourly or 0.0)))


def _used(plan: Plan, month: int, kind: str) -> dict[tuple[str, str], float]:
    """Return mean units that are paid in some way."""
    per_unit = {(f.offer, f.region, f.need): f.per_unit for f in plan.facts}
    found: dict[tuple[str, str], float] = {}
    for need in plan.needs:
        for one in need.supplied:
            offer, _, region = one.by.rpartition(": ")[2].partition(" ")
            work = per_unit.get((offer, region, need.need))
            if work and one.work[month] > 0 and _paid(one.kind) == kind:
                key = (offer, region)
                found[key] = found.get(key, 0.0) + one.work[month] / work
    return found


def _paid(kind: str) -> str:
    """Return how machines are rented: hourly dollars and drawdown pay for use by the hour."""
    return "on_demand" if kind in ("dollars", "spend", "on_demand") else kind


def of_vendors(each: Sequence[Machines], vendors: Sequence[str], tool: str) -> list[Machines]:
    """Return the machines that a tool can rent.

    Raises:
        InputError: none of them.
    """
    mine = [one for one in each if one.vendor in vendors]
    if not mine:
        what = f"{tool} rents from {', '.join(vendors)}, the plan from"
        told = ", ".join(dict.fromkeys(one.vendor for one in each))
        raise InputError(f"{what} {told}", where="plan", mend="choose another --to")
    return mine
