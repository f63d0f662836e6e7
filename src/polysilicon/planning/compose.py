"""A plan problem in numbers, made of its file, the catalog and the cost model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.policy import Policy, read_policy
from polysilicon.errors import InputError
from polysilicon.placement.program import Numbers
from polysilicon.planning.agreements import Agreements, agreements_of
from polysilicon.planning.dates import HOURS_PER_MONTH, MONTHS_PER_YEAR, Calendar, calendar_of
from polysilicon.planning.file import Limit, ProblemFile
from polysilicon.planning.file_checks import check_file, check_policy
from polysilicon.planning.market import Market
from polysilicon.planning.needs import HOURS, Facts, Need, needs_of
from polysilicon.planning.places import Place, option_of, places_of, split_spot, steps_of
from polysilicon.planning.problem import INF, Cap, Option, Problem, Redundancy, UnitContract
from polysilicon.planning.scenarios import Future, futures_of
from polysilicon.planning.shapes import OwnedHardware
from polysilicon.planning.unit_terms import running_usd_per_h


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a problem comes from.

    Attributes:
        folder: that names of files in it are relative to.
        where: its name, for errors.
        today: what lies before is the past.
    """

    folder: Path
    where: str
    today: date


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """A problem in numbers, and what its indices stand for.

    Attributes:
        file: as it was written.
        policy: what is allowed and wanted.
        calendar: months.
        needs: the classes of demand.
        places: the options.
        futures: the scenarios.
        agreements: the contracts.
        problem: the numbers.
        notes: what figures rest on, and what was left out.
    """

    file: ProblemFile
    policy: Policy
    calendar: Calendar
    needs: Sequence[Need]
    places: Sequence[Place]
    futures: Sequence[Future]
    agreements: Agreements
    problem: Problem
    notes: Sequence[str]


class _Bought(msgspec.Struct, frozen=True, kw_only=True):
    """What work can run on, in scenarios."""

    calendar: Calendar
    places: Sequence[Place]
    futures: Sequence[Future]
    options: list[Option]
    agreements: Agreements = Agreements(contracts=[], held=[], asked=[], basis=[])


def compose(file: ProblemFile, source: Source, catalog: Catalog) -> Composed:
    """Return a problem in numbers.

    Raises:
        InputError: what is written cannot be; says where, and the mend.
    """
    where = source.where
    check_file(file, where)
    calendar = calendar_of(file.horizon.start, file.horizon.months, source.today, where)
    policy = file.policy
    if isinstance(policy, str):
        policy = read_policy(source.folder / policy)
    places = places_of(file.offer, catalog, where)
    check_policy(policy, places, where)
    bases = {place.base.name: place.base for place in places if place.base is not None}
    facts = Facts(
        folder=source.folder,
        where=where,
        calendar=calendar,
        offers=list(bases.values()),
        policy=policy,
        catalog=catalog,
    )
    needs, notes = needs_of(file, facts)
    places = split_spot(places, needs)
    futures = futures_of(file, calendar, where)
    options = [option_of(place, needs, futures, policy, calendar, where) for place in places]
    bought = _Bought(calendar=calendar, places=places, futures=futures, options=options)
    _check_served(needs, bought, policy, where)
    bought = _agreed(file, bought, where)
    return Composed(
        file=file,
        policy=policy,
        calendar=calendar,
        needs=needs,
        places=places,
        futures=futures,
        agreements=bought.agreements,
        problem=_problem(file, policy, needs, bought, where),
        notes=[*notes, *_notes(file, policy, bought)],
    )


def _agreed(file: ProblemFile, bought: _Bought, where: str) -> _Bought:
    """Return contracts beside the options, which then tell the power of owned machines."""
    futures, options = bought.futures, list(bought.options)
    months = (len(futures), bought.calendar.months)
    market = Market(
        places=bought.places,
        hourly=np.stack([np.broadcast_to(one.on_demand_usd_per_h, months) for one in options]),
        probability=np.array([future.probability for future in futures]),
        calendar=bought.calendar,
        where=where,
    )
    agreements = agreements_of(file.contract, market)
    for asked, contract in zip(agreements.asked, agreements.contracts, strict=True):
        if isinstance(asked, OwnedHardware) and isinstance(contract, UnitContract):
            usd = bought.places[contract.option].asked.running_usd_per_hour
            usd += running_usd_per_h(asked)
            options[contract.option] = msgspec.structs.replace(
                options[contract.option], running_usd_per_h=usd
            )
    return msgspec.structs.replace(bought, options=options, agreements=agreements)


def _problem(
    file: ProblemFile, policy: Policy, needs: Sequence[Need], bought: _Bought, where: str
) -> Problem:
    """Return the numbers."""
    calendar, hours = bought.calendar, HOURS[file.horizon.hours]
    probability = np.array([future.probability for future in bought.futures])
    demand = np.stack([_demand(needs, future) for future in bought.futures])
    years = np.arange(calendar.months) / MONTHS_PER_YEAR
    # What must survive is the busiest hour of each month, as expected over the scenarios.
    expected = np.einsum("s,sthk->thk", probability, demand).max(axis=1)
    survive = expected * np.array([need.asked.must_survive for need in needs])
    redundancy: tuple[Redundancy, ...] = ()
    if policy.redundancy is not None:
        assert policy.redundancy != "pool"
        assert policy.redundancy != "machine"
        redundancy = (Redundancy(by=policy.redundancy, demand=survive),)
    unmet = [INF if n.asked.unmet_usd is None else n.asked.unmet_usd for n in needs]
    return Problem(
        classes=tuple(need.name for need in needs),
        scenarios=tuple(future.name for future in bought.futures),
        probability=probability / probability.sum(),
        hours=np.full((calendar.months, hours), HOURS_PER_MONTH / hours),
        demand=demand,
        options=tuple(bought.options),
        contracts=tuple(bought.agreements.contracts),
        held=tuple(bought.agreements.held),
        unmet_usd_per_h=np.array(unmet, np.float64),
        money=(1.0 + file.horizon.discount_rate) ** -years,
        caps=_caps(file.limit, policy, bought, where),
        vendor_share_max=dict(policy.vendor_share_max),
        redundancy=redundancy,
        cvar_alpha=file.risk.cvar_alpha,
        risk_weight=file.risk.risk_weight,
    )


def _demand(needs: Sequence[Need], future: Future) -> Numbers:
    """Return the demand of a scenario, shape (months, hours, needs)."""
    each = [np.outer(future.of(need), need.rhythm) for need in needs]
    return np.stack(each, axis=2)


def _caps(limits: Sequence[Limit], policy: Policy, bought: _Bought, where: str) -> tuple[Cap, ...]:
    """Return the limits on what is under contract at once."""
    places = bought.places
    found = []
    for name, units in policy.supply_max.items():
        mine = [at for at, place in enumerate(places) if place.asked.name == name]
        ones = (1.0,) * len(mine)
        cap = Cap(name=f"supply_max of {name}", options=tuple(mine), weights=ones, limit=units)
        found.append(cap)
    for one in limits:
        spot = f"{where}, limit {one.name!r}"
        mine = [
            at
            for at, place in enumerate(places)
            if any(fnmatchcase(place.asked.name, p) for p in one.offers)
            and any(fnmatchcase(place.region, p) for p in one.regions)
        ]
        if not mine:
            raise InputError("it is of no offer of the problem", where=spot)
        weights = [1.0] * len(mine)
        if one.unit == "MW":
            told = [places[at].asked.mw for at in mine]
            if None in told:
                name = places[mine[told.index(None)]].asked.name
                mend = f"add mw = … to offer {name!r}, or name offers without it"
                raise InputError(f"{name} does not tell its power", where=spot, mend=mend)
            weights = [mw or 0.0 for mw in told]
        limit = steps_of(one.most, bought.calendar, spot)
        cap = Cap(name=one.name, options=tuple(mine), weights=tuple(weights), limit=limit)
        found.append(cap)
    return tuple(found)


def _check_served(needs: Sequence[Need], bought: _Bought, policy: Policy, where: str) -> None:
    """Raise `InputError` where a need has no option at all."""
    for at, need in enumerate(needs):
        if any(option.work[at] > 0 for option in bought.options):
            continue
        data_class = need.asked.data_class if need.mix is None else need.mix.data_class
        here = [p for p in bought.places if policy.resident(data_class, p.region)]
        told = f"{where}, demand {need.name!r}"
        if not here:
            what = f"no offer is where its data ({data_class}) may be"
            raise InputError(what, where=told, mend="add an offer in these regions")
        if need.mix is None:
            mend = f'add work = {{ "{need.demand}" = … }} to an offer'
            raise InputError("no offer tells what a unit does of it", where=told, mend=mend)
        reasons = "; ".join(need.refused[:3]) or "they are for other work"
        raise InputError(f"nobody can serve it: {reasons}", where=told, mend="add another offer")


def _notes(file: ProblemFile, policy: Policy, composed: _Bought) -> list[str]:
    """Return what figures rest on."""
    found = []
    calendar = composed.calendar
    late = sum(
        any(o + getattr(c, "lead_months", 0) + c.term_months > calendar.months for o in c.orders)
        for c in composed.agreements.contracts
    )
    if late:
        found.append(
            f"{late} contracts can go on after {calendar.name(calendar.months - 1)}; what counts"
            " of them is as each says (beyond), by default the upfront price by months"
        )
    if policy.prices != ("on-demand",):
        found.append("prices of the policy are not read: offers and contracts say what is paid")
    if policy.objective != "cost":
        found.append(
            f"objective {policy.objective} of the policy is not read: a plan is of dollars"
        )
    if file.horizon.discount_rate:
        found.append(
            f"cost is of today's dollars, at {file.horizon.discount_rate:.1%} a year; dollars of a"
            " month are of that month"
        )
    growing = [one.name for one in file.demand if one.growth_per_year]
    if growing:
        found.append(f"growth of {', '.join(growing[:4])} is assumed")
    risky = [o.name for o in file.offer if o.spot and o.interruptions_per_hour]
    if risky:
        found.append(f"work lost to interruptions of {', '.join(risky[:4])} is assumed")
    if any(one.spot and not one.interruptions_per_hour for one in file.offer):
        found.append("some spot machines are taken to be never taken away: nothing says how often")
    return found
