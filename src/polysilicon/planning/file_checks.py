"""What a plan problem may say: contradictions are named before anything is worked out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from polysilicon.catalog.policy import Policy
from polysilicon.errors import InputError, nearest
from polysilicon.planning.dates import MOST_MONTHS
from polysilicon.planning.file import Demand, OfferAsked, ProblemFile
from polysilicon.planning.places import Place

_MODELS = ("requests/s", "tokens/s")


def check_file(file: ProblemFile, where: str) -> None:
    """Raise `InputError` where a problem contradicts itself.

    Args:
        file: as it was read.
        where: its name.
    """
    if not 1 <= file.horizon.months <= MOST_MONTHS:
        place = f"{where}, horizon, months"
        raise InputError(f"{file.horizon.months} months", where=place, mend=f"1 to {MOST_MONTHS}")
    if not 0 <= file.horizon.discount_rate < 1:
        place = f"{where}, horizon, discount_rate"
        raise InputError(f"it is {file.horizon.discount_rate:g}", where=place, mend="0.08 is 8 %")
    if not file.demand or not file.offer:
        what = "demand" if not file.demand else "offer"
        raise InputError(f"it has no {what}", where=where, mend=f"add a [[{what}]]")
    _once((one.name for one in file.demand), f"{where}, demand")
    _once((one.name for one in file.offer), f"{where}, offer")
    _once((one.name for one in file.limit), f"{where}, limit")
    for demand in file.demand:
        _check_demand(demand, f"{where}, demand {demand.name!r}")
    names = {one.name for one in file.demand}
    for offer in file.offer:
        _check_offer(offer, names, f"{where}, offer {offer.name!r}")
    if not 0 <= file.risk.cvar_alpha < 1 or not 0 <= file.risk.risk_weight <= 1:
        mend = "cvar_alpha from 0 and below 1, risk_weight from 0 to 1"
        raise InputError("a figure cannot be", where=f"{where}, risk", mend=mend)


def _check_demand(asked: Demand, where: str) -> None:
    """Raise `InputError` where an entry of demand contradicts itself."""
    if asked.amount is not None and asked.file is not None:
        raise InputError("it has an amount and a file", where=where, mend="give one of them")
    if asked.workload is not None and asked.unit not in (None, "tasks/s"):
        mend = "leave unit out: a workload counts tasks/s"
        raise InputError(f"unit {asked.unit} of a workload", where=where, mend=mend)
    if asked.workload is None and asked.unit in (None, "tasks/s"):
        mend = 'unit = "cores", "requests/s", "tokens/s" or "units", or a workload'
        told = "it has no unit" if asked.unit is None else "tasks/s need a workload"
        raise InputError(told, where=where, mend=mend)
    if asked.unit in _MODELS and asked.model is None:
        raise InputError(f"{asked.unit} of which model?", where=where, mend='add model = "…"')
    if asked.model is not None and asked.unit not in _MODELS:
        mend = 'unit = "requests/s" or "tokens/s"'
        raise InputError("a model, but no requests", where=where, mend=mend)
    _check_figures(asked, where)


def _check_figures(asked: Demand, where: str) -> None:
    """Raise `InputError` where a figure of demand cannot be."""
    if asked.measured_on is not None and asked.unit in (*_MODELS, "units"):
        raise InputError(f"measured_on does not matter for {asked.unit}", where=where,
                         mend="leave it out")  # fmt: skip
    if not -1 < asked.growth_per_year <= 100:
        mend = "0.5 is half as much again in a year"
        what = f"growth_per_year is {asked.growth_per_year:g}"
        raise InputError(what, where=where, mend=mend)
    if asked.unmet_usd is not None and not 0 < asked.unmet_usd < math.inf:
        raise InputError(f"unmet_usd is {asked.unmet_usd:g}", where=where, mend="above 0")
    if not 0 <= asked.must_survive <= 1:
        raise InputError(f"must_survive is {asked.must_survive:g}", where=where, mend="0 to 1")
    for name in ("prompt_tokens", "cached_tokens", "output_tokens"):
        if not 0 <= getattr(asked, name) < 1e9:
            raise InputError(f"{name} is {getattr(asked, name):g}", where=where, mend="from 0")
    if asked.unit == "tokens/s" and asked.output_tokens < 1:
        raise InputError("output tokens a second of requests without any", where=where)


def _check_offer(asked: OfferAsked, demands: set[str], where: str) -> None:
    """Raise `InputError` where an entry of offers contradicts itself."""
    if "/" not in asked.name:
        mend = f'such as "own/{asked.name}": who sells it stands before the slash'
        raise InputError("an offer's name has two parts", where=where, mend=mend)
    if asked.like is not None and asked.work:
        raise InputError("it has like and work", where=where, mend="give one of them")
    for name, value in asked.work.items():
        if name not in demands:
            raise InputError(f"work: no demand {name!r}", where=where, mend=nearest(name, demands))
        _number(value, f"work of {name}", where)
    if asked.reserved_by_others and asked.supply is None:
        mend = "add supply = …, the units that there are"
        raise InputError("others hold units of a supply without limit", where=where, mend=mend)
    if not asked.rented and asked.on_demand_usd_per_hour is not None:
        mend = "leave out the price, or rented = false"
        raise InputError("it has a price by the hour, but is not rented", where=where, mend=mend)
    if not asked.spot and asked.spot_usd_per_hour is not None:
        raise InputError("it has a spot price", where=where, mend="add spot = true")
    _check_amounts(asked, where)


def _check_amounts(asked: OfferAsked, where: str) -> None:
    """Raise `InputError` where a figure of an offer cannot be."""
    for name in ("performance", "availability", "price_factor"):
        _number(getattr(asked, name), name, where, above=0.0)
    if asked.availability > 1:
        raise InputError(f"availability is {asked.availability:g}", where=where, mend="at most 1")
    names = ("on_demand_usd_per_hour", "spot_usd_per_hour", "interruptions_per_hour", "restart_s",
             "running_usd_per_hour", "reserved_by_others", "rented_max", "mw")  # fmt: skip
    for name in names:
        value = getattr(asked, name)
        if value is not None:
            _number(value, name, where)
    if not -1 < asked.price_per_year <= 10:
        mend = "-0.1 is a tenth less a year"
        raise InputError(f"price_per_year is {asked.price_per_year:g}", where=where, mend=mend)


def check_policy(policy: Policy, places: Sequence[Place], where: str) -> None:
    """Raise `InputError` where a policy names what the problem does not have."""
    where = f"{where}, policy"
    vendors = {place.vendor for place in places}
    offers = {place.asked.name for place in places}
    regions = {place.region for place in places}
    if policy.redundancy in {"pool", "machine"}:
        mend = 'redundancy = "vendor" or "region"; the rest is for `polysilicon place`'
        raise InputError(f"a plan knows no {policy.redundancy}s", where=where, mend=mend)
    if policy.redundancy == "vendor" and len(vendors) < 2:
        raise InputError(f"only {', '.join(vendors)} is there to be lost", where=where,
                         mend="add offers of another vendor")  # fmt: skip
    if policy.redundancy == "region" and len(regions) < 2:
        raise InputError(f"only {', '.join(regions)} is there to be lost", where=where,
                         mend="add another region to an offer")  # fmt: skip
    _check_shares(policy, vendors, where)
    for name in policy.supply_max:
        if name not in offers:
            raise InputError(f"supply_max: no offer {name!r}", where=where,
                             mend=nearest(name, offers))  # fmt: skip
    for rule in policy.residency:
        if not any(fnmatchcase(region, p) for region in regions for p in rule.regions):
            what = f"residency: no offer is in {', '.join(rule.regions)}"
            raise InputError(what, where=where, mend=f"regions: {', '.join(sorted(regions))}")


def _check_shares(policy: Policy, vendors: set[str], where: str) -> None:
    """Raise `InputError` where shares of vendors cannot be."""
    for name in policy.vendor_share_max:
        if name not in vendors:
            mend = nearest(name, vendors) or f"known: {', '.join(sorted(vendors))}"
            raise InputError(f"vendor_share_max: no offer of {name!r}", where=where, mend=mend)
    together = sum(policy.vendor_share_max.values())
    if vendors <= policy.vendor_share_max.keys() and together < 1:
        what = f"vendor_share_max: all vendors together may have {together:.0%}"
        mend = "shares that sum to 1 or more, or offers of another vendor; else nothing is signed"
        raise InputError(what, where=where, mend=mend)


def _number(value: float, name: str, where: str, above: float | None = None) -> None:
    """Raise `InputError` where a number is infinite or too small."""
    if not 0 <= value < math.inf or (above is not None and value <= above):
        mend = "a number above 0" if above is not None else "a number from 0"
        raise InputError(f"{name} is {value:g}", where=where, mend=mend)


def _once(names: Iterable[str], where: str) -> None:
    """Raise `InputError` where a name is there twice, or blank."""
    seen: set[str] = set()
    for name in names:
        if not name.strip():
            raise InputError("a name is blank", where=where)
        if name in seen:
            raise InputError(f"{name!r} is there twice", where=where)
        seen.add(name)
