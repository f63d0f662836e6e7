"""What work can run on: the offers of a problem file, region by region, as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.policy import Policy
from polysilicon.errors import InputError, nearest
from polysilicon.placement.program import Numbers
from polysilicon.planning.dates import MONTHS_PER_YEAR, Calendar
from polysilicon.planning.file import OfferAsked
from polysilicon.planning.needs import SECONDS_PER_HOUR, Need
from polysilicon.planning.problem import INF, Option
from polysilicon.planning.scenarios import Future


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An offer in a region.

    Attributes:
        asked: what the file says.
        region: where.
        base: the offer of the catalog that it is or works like; None where the file tells all.
        here: the catalog's offer in this region, where its prices are known.
        hourly: dollars by the hour; None where it is not rented.
        spot: dollars by the hour on the spot market; None where it is not.
        price_basis: where the prices come from, in words.
        only_spot: a twin that stands for the spot market, for needs that may use it.
    """

    asked: OfferAsked
    region: str
    base: Offer | None
    here: Offer | None
    hourly: float | None
    spot: float | None
    price_basis: str
    only_spot: bool = False

    @property
    def vendor(self) -> str:
        """Who sells it: what stands before the slash."""
        return self.asked.name.partition("/")[0]

    @property
    def name(self) -> str:
        """Its name among options."""
        return f"{self.asked.name} {self.region}" + (" spot" if self.only_spot else "")


def places_of(offers: Sequence[OfferAsked], catalog: Catalog, where: str) -> list[Place]:
    """Return the offers region by region.

    Raises:
        InputError: an unknown offer, region, or a price that nobody tells.
    """
    found = []
    for asked in offers:
        place = f"{where}, offer {asked.name!r}"
        base = _base(asked, catalog, place)
        known = {one.region: one for one in catalog.offers_named(asked.name)}
        regions = asked.regions or tuple(known)
        if not regions:
            raise InputError("it has no region", where=place, mend='add regions = ["…"]')
        if len(set(regions)) < len(regions):
            raise InputError("a region is there twice", where=place)
        for region in regions:
            here = known.get(region)
            if here is None and asked.like is None and not asked.work:
                told = ", ".join(sorted(known)[:8])
                given = asked.on_demand_usd_per_hour is not None or not asked.rented
                if not given:
                    mend = f"known: {told}; or give on_demand_usd_per_hour"
                    raise InputError(f"no price in region {region!r}", where=place, mend=mend)
            found.append(_place(asked, region, base, here, place))
    return found


def _base(asked: OfferAsked, catalog: Catalog, where: str) -> Offer | None:
    """Return the offer of the catalog that one is or works like."""
    if asked.like is not None:
        return catalog.offer(asked.like)
    known = catalog.offers_named(asked.name)
    if known:
        return known[0]
    if asked.work:
        return None
    mend = nearest(asked.name, {o.name for o in catalog.offers})
    mend = f"{mend} or say what it works like: like = …, or its work by demand: work = …"
    raise InputError("the catalog does not know it", where=where, mend=mend)


def _place(
    asked: OfferAsked, region: str, base: Offer | None, here: Offer | None, where: str
) -> Place:
    """Return an offer in a region with its prices."""
    told = asked.on_demand_usd_per_hour
    known = None if here is None else here.on_demand_usd_per_hour
    hourly = (told if told is not None else known) if asked.rented else None
    if asked.rented and hourly is None:
        mend = "give on_demand_usd_per_hour, or rented = false"
        raise InputError(f"no price by the hour is known in {region}", where=where, mend=mend)
    spot = None
    if asked.spot:
        spot = asked.spot_usd_per_hour
        spot = spot if spot is not None else here.spot_usd_per_hour if here else None
        if spot is None:
            mend = "give spot_usd_per_hour, or spot = false"
            raise InputError(f"no spot price is known in {region}", where=where, mend=mend)
    basis = "given"
    if told is None and here is not None:
        basis = f"{here.source} ({here.date})"
    elif hourly is None and spot is None:
        basis = "contracts only"
    return Place(
        asked=asked, region=region, base=base, here=here, hourly=hourly, spot=spot,
        price_basis=basis,
    )  # fmt: skip


def split_spot(places: Sequence[Place], needs: Sequence[Need]) -> list[Place]:
    """Give the spot market options of its own where some needs may not run on it."""
    if all(need.asked.spot for need in needs):
        return list(places)
    found = []
    for place in places:
        if place.spot is None:
            found.append(place)
            continue
        found.append(msgspec.structs.replace(place, spot=None))
        found.append(msgspec.structs.replace(place, hourly=None, only_spot=True))
    return found


def option_of(
    place: Place,
    needs: Sequence[Need],
    futures: Sequence[Future],
    policy: Policy,
    calendar: Calendar,
    where: str,
) -> Option:
    """Return an offer in a region in numbers; arrays are of shape (scenarios, months).

    Raises:
        InputError: a month that is none.
    """
    asked, where = place.asked, f"{where}, offer {place.asked.name!r}"
    years = np.arange(calendar.months) / MONTHS_PER_YEAR
    trend = asked.price_factor * (1.0 + asked.price_per_year) ** years
    factor = np.stack([future.price_of(asked.name, calendar, where) for future in futures])
    output = np.stack([_output(asked, future, calendar, where) for future in futures])
    price = np.array([[future.generation(asked.name).price] for future in futures])
    prices = trend * factor * price
    supply = steps_of(asked.supply, calendar, f"{where}, supply")
    free = np.maximum(supply - asked.reserved_by_others, 0.0)
    limit = INF if asked.rented_max is None else asked.rented_max
    lost = asked.interruptions_per_hour * asked.restart_s / SECONDS_PER_HOUR
    return Option(
        name=place.name,
        vendor=place.vendor,
        region=place.region,
        work=np.array([work_of_unit(place, need, policy) for need in needs]),
        output=output,
        availability=asked.availability,
        on_demand_usd_per_h=INF if place.hourly is None else place.hourly * prices,
        on_demand_limit=np.minimum(limit, free) if place.hourly is not None else 0.0,
        spot_usd_per_h=INF if place.spot is None else place.spot * prices,
        spot_efficiency=max(1.0 - lost, 1e-6),
        spot_limit=np.minimum(limit, free) if place.spot is not None else 0.0,
        running_usd_per_h=asked.running_usd_per_hour,
        supply=0.0 if place.only_spot else free,
    )


def work_of_unit(place: Place, need: Need, policy: Policy) -> float:
    """Return what a unit does of a need, in the need's unit; 0 where it may not or cannot."""
    if not policy.resident(need.asked.data_class if need.mix is None else need.mix.data_class,
                           place.region):  # fmt: skip
        return 0.0
    if place.only_spot and not need.asked.spot:
        return 0.0
    told = place.asked.work
    if need.demand in told:
        return told[need.demand] * place.asked.performance
    if told or place.base is None or need.mix is None:
        return 0.0
    way = need.ways.get(place.base.name)
    return 0.0 if way is None else way.per_unit * need.per_task * place.asked.performance


def _output(asked: OfferAsked, future: Future, calendar: Calendar, where: str) -> Numbers:
    """Return the factor on an offer's work, 0 before it exists."""
    said = future.generation(asked.name)
    told = asked.from_month if said.from_month is None else said.from_month
    found = np.full(calendar.months, said.performance)
    if told is None:
        return found
    if told == 0:
        return np.zeros(calendar.months)
    begin = calendar.place(told, where) + future.delay
    found[: max(begin, 0)] = 0.0
    return found


def steps_of(told: float | Mapping[str, float] | None, calendar: Calendar, where: str) -> Numbers:
    """Return a limit by month, shape (months,): one number, or steps by the first month of each.

    Raises:
        InputError: a month that is none, or a number below 0.
    """
    if told is None:
        return np.full(calendar.months, INF)
    values = {"1": float(told)} if isinstance(told, float | int) else dict(told)
    found = np.zeros(calendar.months)
    for month, value in sorted(values.items(), key=lambda one: _month(one[0], calendar, where)):
        if not value >= 0:
            raise InputError(f"{value:g} units", where=where, mend="give a number from 0")
        found[max(_month(month, calendar, where), 0) :] = value
    return found


def _month(told: str, calendar: Calendar, where: str) -> int:
    """Return the place of a month that stands as the key of a table."""
    return calendar.place(int(told) if told.isdecimal() else told, where)
