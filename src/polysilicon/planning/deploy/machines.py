"""Which machines a plan runs in a month, or a placement, offer by offer, and how they are paid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.offers import Offer
from polysilicon.errors import InputError
from polysilicon.placement.types import Placement, PoolPlan
from polysilicon.planning.dates import HOURS_PER_MONTH, Calendar
from polysilicon.planning.plan import Plan

_PAID = {"committed": ("1y", "3y"), "hourly": ("on-demand",), "spot": ("spot",)}


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a placement has machines of an offer do.

    Attributes:
        pool: its name in the placement.
        role: `tool`, `llm`, `embed` or `train`.
        name: by which its model is asked for; blank of tools.
        published_as: where the model's weights are found.
        count: accelerators of one copy; None where nobody says.
        units: machines that do it.
        concurrency: steps at once on one of them.
        price: kind of price.
    """

    pool: str
    role: str
    name: str
    published_as: str
    count: int | None
    units: float
    concurrency: int
    price: str


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
        committed_usd_per_hour: what is paid for those under contract, in all.
        served: what a placement has them do; nothing of a plan, which does not say.
    """

    offer: str
    region: str
    committed: float
    hourly: float | None
    spot: float | None
    needs: tuple[str, ...]
    known: Offer | None
    committed_usd_per_hour: float = 0.0
    served: tuple[Served, ...] = ()

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
    usd: dict[tuple[str, str], float] = {}
    for one in plan.commitments:
        begin, end = (calendar.place(m, "plan") for m in (one.start_month, one.end_month))
        if begin <= month <= end and one.machines > 0 and ", " not in one.offer:
            key = (one.offer, one.region)
            committed[key] = committed.get(key, 0.0) + one.machines
            usd[key] = usd.get(key, 0.0) + one.usd_per_month / HOURS_PER_MONTH
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
                committed_usd_per_hour=usd.get(key, 0.0),
            )
        )
    if not found:
        raise InputError(f"the plan runs nothing in {calendar.name(month)}", where="plan")
    return sorted(found, key=lambda one: -(one.committed + (one.hourly or 0.0)))


def machines_of_placement(placement: Placement, catalog: Catalog) -> list[Machines]:
    """Return the machines of a placement, those of most units first; without this machine.

    Raises:
        InputError: it has none.
    """
    pools: dict[tuple[str, str], list[PoolPlan]] = {}
    for pool in placement.pools:
        if pool.offer != LOCAL:
            pools.setdefault((pool.offer, pool.region), []).append(pool)
    if not pools:
        raise InputError("the placement has no machine but this one", where="placement")
    found = [_placed(offer, region, each, catalog) for (offer, region), each in pools.items()]
    return sorted(found, key=lambda one: -(one.committed + (one.hourly or 0.0)))


def _placed(offer: str, region: str, pools: Sequence[PoolPlan], catalog: Catalog) -> Machines:
    """Return the machines of the pools of an offer in a region."""
    units = {kind: sum(float(p.units) for p in pools if p.price in prices)
             for kind, prices in _PAID.items()}  # fmt: skip
    return Machines(
        offer=offer,
        region=region,
        committed=units["committed"],
        hourly=units["hourly"] or None,
        spot=units["spot"] or None,
        needs=tuple(dict.fromkeys(p.model or p.role for p in pools)),
        known=next((o for o in catalog.offers_named(offer)), None),
        committed_usd_per_hour=sum(p.usd_per_hour for p in pools if p.price in _PAID["committed"]),
        served=tuple(_served(p, catalog) for p in pools),
    )


def _served(pool: PoolPlan, catalog: Catalog) -> Served:
    """Return what a pool does."""
    name = catalog.aliases.model_name(pool.model, catalog.models) if pool.model else None
    return Served(
        pool=pool.name,
        role=pool.role,
        name=pool.model,
        published_as=catalog.models[name].published_as if name is not None else pool.model,
        count=pool.count,
        units=float(pool.units),
        concurrency=pool.concurrency,
        price=pool.price,
    )


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


def of_vendors(
    each: Sequence[Machines], vendors: Sequence[str], tool: str
) -> tuple[list[Machines], list[str]]:
    """Return the machines that a tool can rent, and a note of those that it cannot.

    Raises:
        InputError: none of them.
    """
    mine = [one for one in each if one.vendor in vendors]
    if not mine:
        what = f"{tool} rents from {', '.join(vendors)}, here machines are from"
        told = ", ".join(dict.fromkeys(one.vendor for one in each))
        raise InputError(f"{what} {told}", mend="choose another --to")
    others = dict.fromkeys(one.offer for one in each if one.vendor not in vendors)
    text = f"Not in here, as {tool} rents from {', '.join(vendors)} only: {', '.join(others)}."
    return mine, [text] if others else []
