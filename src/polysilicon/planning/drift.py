"""What was used against what a plan expected: by need, and by commitment.

A need's use is within the plan where it lies between the scenarios with the least and the most
demand, or within a tenth of what was expected. Only beyond that its demand is rescaled, to what was
seen: the next plan then expects just that, so the same usage asks for nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np

from polysilicon.catalog.catalog import Catalog
from polysilicon.cost.kinds import REFERENCE
from polysilicon.errors import InputError
from polysilicon.planning.dates import Calendar
from polysilicon.planning.focus import Bill, Ran
from polysilicon.planning.needs import Need
from polysilicon.planning.plan import Plan
from polysilicon.workload.groups import task_times
from polysilicon.workload.workload import Workload

NEAR = 0.1
"""Share of what was expected that use may be off without a change of the plan."""


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """Use of a need.

    Attributes:
        need: its name.
        unit: of the figures.
        expected: mean, by the plan.
        low: of the scenario with the least.
        high: of that with the most.
        used: mean that was seen.
        ratio: used over expected.
        within: the plan reckoned with it.
        factor: on its demand from now on; 1 where it is within the plan.
    """

    need: str
    unit: str
    expected: float
    low: float
    high: float
    used: float
    ratio: float
    within: bool
    factor: float


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Use of an offer in a region, in units on average.

    Attributes:
        offer: its name.
        region: where.
        committed: units that commitments covered.
        unused: units of commitments that nothing used: too much is signed.
        by_the_hour: units paid by the hour or on the spot market.
        planned: committed units by the plan; 0 where it has none.
        words: what that says.
    """

    offer: str
    region: str
    committed: float
    unused: float
    by_the_hour: float
    planned: float
    words: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was used, and over which months.

    Attributes:
        first: month of the horizon, from 0; may lie before it.
        last: likewise.
        used: need → mean use in its unit; needs that it says nothing of are not there.
        coverage: of offers, where a bill tells.
        notes: what was left out.
    """

    first: int
    last: int
    used: dict[str, float]
    coverage: list[Coverage]
    notes: list[str]


def drifts(plan: Plan, seen: Seen) -> list[Drift]:
    """Return how far use is from what the plan expected in the same months."""
    first, last = max(seen.first, 0), min(seen.last, plan.months - 1)
    found = []
    for need in plan.needs:
        if need.need not in seen.used:
            continue
        expected, low, high = (
            float(np.mean(values[first : last + 1]))
            for values in (need.demand, need.low, need.high)
        )
        used = seen.used[need.need]
        ratio = used / expected if expected > 0 else (1.0 if used == 0 else float("inf"))
        within = low <= used <= high or abs(ratio - 1.0) <= NEAR
        found.append(
            Drift(
                need=need.need,
                unit=need.unit,
                expected=expected,
                low=low,
                high=high,
                used=used,
                ratio=ratio,
                within=within,
                factor=1.0 if within or not np.isfinite(ratio) else ratio,
            )
        )
    return found


def months_seen(plan: Plan, calendar: Calendar, begin: datetime, end: datetime) -> tuple[int, int]:
    """Return the first and last month that was seen.

    Raises:
        InputError: it lies before or after the plan.
    """
    first = calendar.place(f"{begin.year:04d}-{begin.month:02d}", "usage")
    last = calendar.place(f"{end.year:04d}-{end.month:02d}", "usage")
    if last > first and end == datetime(end.year, end.month, 1, tzinfo=UTC):
        last -= 1  # the end is not in it
    if last < 0 or first >= plan.months:
        what = f"it is of {calendar.name(first)} to {calendar.name(last)}"
        mend = f"the plan is of {calendar.name(0)} to {calendar.name(plan.months - 1)}"
        raise InputError(what, where="usage", mend=mend)
    return first, last


def seen_of_bill(bill: Bill, plan: Plan, calendar: Calendar) -> Seen:
    """Return what a bill says of needs: unit-hours of offers, shared as the plan shares them."""
    first, last = months_seen(plan, calendar, bill.begin, bill.end)
    months = slice(max(first, 0), min(last, plan.months - 1) + 1)
    per_unit = {(f.offer, f.region, f.need): f.per_unit for f in plan.facts}
    expected = _units_of_plan(plan, per_unit, months)
    demand = {need.need: float(np.mean(need.demand[months])) for need in plan.needs}
    used = dict.fromkeys(demand, 0.0)
    notes = [f"{reason}: ${usd:,.2f}" for reason, usd in bill.left_out_usd.items()]
    told: set[str] = set()
    for (offer, region), ran in bill.ran.items():
        shares = expected.get((offer, region)) or {
            need: amount / per_unit[offer, region, need]
            for need, amount in demand.items()
            if (offer, region, need) in per_unit
        }
        total = sum(shares.values())
        if not total:
            notes.append(f"{offer} {region} is not in the plan: ${ran.usd:,.2f}")
            continue
        for need, share in shares.items():
            mean = ran.used_h / bill.hours * share / total
            used[need] += mean * per_unit[offer, region, need]
            told.add(need)
    billed = {offer.partition("/")[0] for offer, _ in bill.ran}
    unbilled = [key for key in expected if key[0].partition("/")[0] not in billed]
    for offer, region in unbilled:
        for need, count in expected[offer, region].items():
            used[need] += count * per_unit[offer, region, need]
    if unbilled:
        names = ", ".join(dict.fromkeys(offer for offer, _ in unbilled))
        notes.append(f"the bill is not of {names}: use there is taken to be as planned")
    signed = {
        (one.offer, one.region)
        for one in plan.commitments
        if one.vendor in billed and (one.offer, one.region) in expected
    }
    coverage = [
        _coverage(plan, calendar, offer, region, months, bill)
        for offer, region in sorted({*bill.ran, *signed})
    ]
    seen = {need: value for need, value in used.items() if need in told}
    return Seen(first=first, last=last, used=seen, coverage=coverage, notes=notes)


def _units_of_plan(
    plan: Plan, per_unit: dict[tuple[str, str, str], float], months: slice
) -> dict[tuple[str, str], dict[str, float]]:
    """Return mean busy units of each offer and region by need, as the plan has them."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for need in plan.needs:
        for one in need.supplied:
            offer, _, region = one.by.rpartition(": ")[2].partition(" ")
            work = per_unit.get((offer, region, need.need))
            if work:
                mine = found.setdefault((offer, region), {})
                units = float(np.mean(one.work[months])) / work
                mine[need.need] = mine.get(need.need, 0.0) + units
    return {key: each for key, each in found.items() if sum(each.values()) > 0}


def _coverage(
    plan: Plan, calendar: Calendar, offer: str, region: str, months: slice, bill: Bill
) -> Coverage:
    """Return how commitments cover an offer."""
    ran = bill.ran.get((offer, region), Ran())
    planned = 0.0
    for one in plan.commitments:
        if one.offer == offer and one.region == region:
            begin, end = (calendar.place(m, "plan") for m in (one.start_month, one.end_month))
            active = range(max(begin, months.start), min(end + 1, months.stop))
            planned += one.machines * len(active) / (months.stop - months.start)
    committed, unused = ran.committed_h / bill.hours, ran.unused_h / bill.hours
    by_hour = (ran.on_demand_h + ran.spot_h) / bill.hours
    words = "as signed"
    if unused > NEAR * (committed + unused):
        words = f"over-committed: {unused:,.1f} units are paid and not used"
    elif by_hour > NEAR * (committed + by_hour) and planned > 0:
        words = f"under-committed: {by_hour:,.1f} units beside what is signed"
    elif planned > 0 and committed + unused < (1 - NEAR) * planned:
        words = f"{planned - committed - unused:,.1f} units of the plan are not signed"
    return Coverage(
        offer=offer,
        region=region,
        committed=committed,
        unused=unused,
        by_the_hour=by_hour,
        planned=planned,
        words=words,
    )


def seen_of_workload(
    workload: Workload,
    begin: datetime,
    plan: Plan,
    calendar: Calendar,
    needs: Sequence[Need],
    catalog: Catalog,
) -> Seen:
    """Return what the steps of a run or a trace say of needs.

    Args:
        workload: steps; arrivals tell how long it lasted.
        begin: when it began.
        plan: in force.
        calendar: its months.
        needs: of its problem.
        catalog: core speeds.

    Raises:
        InputError: it does not tell when its tasks arrived, or no need is in it.
    """
    times = task_times(workload)
    arrival_s = np.asarray(times.arrival_s, np.float64)
    if not len(arrival_s) or np.isnan(arrival_s).any() or np.ptp(arrival_s) <= 0:
        raise InputError("its tasks do not say when they arrive", where="usage")
    span_s = float(np.ptp(arrival_s))
    end = datetime.fromtimestamp(begin.timestamp() + span_s, UTC)
    first, last = months_seen(plan, calendar, begin, end)
    if all(need.unit == "units" for need in needs):
        what = "demand is counted in units of offers, of which steps say nothing"
        raise InputError(what, where="usage", mend="update with a bill")
    used, notes = {}, []
    agents = np.asarray(times.agents)
    for need in needs:
        if need.unit == "units":
            notes.append(f"steps say nothing of {need.name}: it is left as planned")
            continue
        mine = agents == (need.demand if need.mix is None else need.mix.agent)
        if not mine.any():
            notes.append(f"no task is of {need.name}: it is left as planned")
            continue
        steps = mine[np.asarray(times.codes)]
        used[need.name] = _amount(workload, need, steps, int(mine.sum()), catalog) / span_s
    if not used:
        known = ", ".join(sorted({need.demand for need in needs})[:6])
        raise InputError("no task is of an agent of the plan", where="usage",
                         mend=f"agents are named as demand is: {known}")  # fmt: skip
    return Seen(first=first, last=last, used=used, coverage=[], notes=notes)


def _amount(
    workload: Workload, need: Need, steps: np.ndarray, tasks: int, catalog: Catalog
) -> float:
    """Return all that steps are of a need, in its unit times seconds."""
    if need.unit == "tasks/s":
        return float(tasks)
    if need.unit == "cores":
        cpu_s = np.nan_to_num(workload.numbers("cpu_s"))[steps]
        codes, names = workload.codes("offer")
        speeds = np.array([_speed(name, catalog) for name in names] + [_speed(None, catalog)])
        measured_on = _speed(need.asked.measured_on or REFERENCE, catalog)
        return float((cpu_s * speeds[codes[steps]]).sum() / measured_on)
    kind, kinds = workload.codes("kind")
    llm = steps & (kind == (kinds.index("llm") if "llm" in kinds else -2))
    if need.unit == "tokens/s":
        return float(np.nan_to_num(workload.numbers("output_tokens"))[llm].sum())
    return float(llm.sum())


def _speed(offer: str | None, catalog: Catalog) -> float:
    """Return the core speed of an offer; of those without one that of the reference, 1."""
    known = catalog.offers_named(offer or REFERENCE)
    chip = known[0].processor if known else None
    return 1.0 if chip is None or chip.core_speed is None else chip.core_speed
