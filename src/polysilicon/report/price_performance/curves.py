"""Dollars over load, and where processors of one kind stop being the cheapest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.cost.llm.law import Numbers
from polysilicon.report.price_performance.capacity import Capacity
from polysilicon.units import SECONDS_PER_HOUR

# A capacity that is used up to the last request needs no second machine for rounding.
SLACK = 1e-9


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The cheapest machines of one kind over load; arrays are (loads,).

    Attributes:
        usd_per_hour: of as many machines of one type as the load takes; infinite where none does.
        chosen: which capacity that is; -1 where there is none.
        machines: how many of it.
    """

    usd_per_hour: Numbers
    chosen: npt.NDArray[np.int64]
    machines: npt.NDArray[np.int64]


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """Up to which load one kind is the cheapest.

    Attributes:
        first_per_s: below this load it always is; 0 where it is not even at the least load,
            infinite where it is at all loads.
        last_per_s: from this load on it never is.
    """

    first_per_s: float
    last_per_s: float


def cheapest(capacities: Sequence[Capacity], loads: Numbers) -> Curve:
    """Return the cheapest machines at each load by best estimates.

    As many machines of one type are taken as the load needs, at least one; of equally dear ones the
    first.
    """
    able = [i for i, capacity in enumerate(capacities) if capacity.per_s > 0]
    if not able:
        nothing = np.full(len(loads), -1, dtype=np.int64)
        return Curve(usd_per_hour=np.full(len(loads), np.inf), chosen=nothing, machines=0 * nothing)
    usd = np.stack([fleet_usd(capacities[i], loads) for i in able])
    best = np.argmin(usd, axis=0)
    per_s = np.array([capacities[i].per_s for i in able])[best]
    return Curve(
        usd_per_hour=usd[best, np.arange(len(loads))],
        chosen=np.array(able, dtype=np.int64)[best],
        machines=machines(per_s, loads).astype(np.int64),
    )


def at_end(curve: Curve, capacities: Sequence[Capacity], loads: Numbers, end: str) -> Curve:
    """Return what the machines of a curve cost if their seconds are at an end of their bands."""
    usd = np.full(len(loads), np.inf)
    needed = np.zeros(len(loads), dtype=np.int64)
    for i in np.unique(curve.chosen[curve.chosen >= 0]):
        here = curve.chosen == i
        usd[here] = fleet_usd(capacities[i], loads[here], end)
        per_s = capacities[i].end(end)
        needed[here] = machines(per_s, loads[here]) if per_s > 0 else 0
    return Curve(usd_per_hour=usd, chosen=curve.chosen, machines=needed)


def fleet_usd(capacity: Capacity, loads: Numbers, end: str = "best") -> Numbers:
    """Return dollars an hour of the machines that a load takes; infinite where they cannot.

    Args:
        capacity: of one machine.
        loads: requests a second.
        end: of the band that the capacity is taken at.
    """
    per_s = capacity.end(end)
    if per_s <= 0:
        return np.full(len(loads), np.inf)
    return capacity.offer.usd_per_hour() * machines(per_s, loads)


def machines(per_s: Numbers | float, loads: Numbers) -> Numbers:
    """Return how many machines a load takes, at least one."""
    return np.asarray(np.maximum(np.ceil(loads / per_s - SLACK), 1.0))


def crossing(one: Curve, other: Curve, loads: Numbers) -> Crossing:
    """Return up to which load the first kind is the cheapest; equal dollars count for it."""
    wins = np.isfinite(one.usd_per_hour) & (one.usd_per_hour <= other.usd_per_hour)
    edges = np.append(loads, math.inf)
    edges[0] = 0.0
    lost, won = np.flatnonzero(~wins), np.flatnonzero(wins)
    first = int(lost[0]) if len(lost) else len(loads)
    last = int(won[-1]) + 1 if len(won) else 0
    return Crossing(first_per_s=float(edges[first]), last_per_s=float(edges[last]))


def usd_per_million(usd_per_hour: float, per_s: float, units_each: float) -> float:
    """Return dollars for a million units, such as output tokens.

    Args:
        usd_per_hour: of what serves the load.
        per_s: requests a second.
        units_each: units of a request.
    """
    return usd_per_hour / SECONDS_PER_HOUR / per_s / units_each * 1e6


def saturated(capacities: Sequence[Capacity]) -> Capacity | None:
    """Return the machine that is cheapest when it is full; None where none keeps the SLO."""
    able = [capacity for capacity in capacities if capacity.per_s > 0]
    if not able:
        return None
    # Machines of one chip in several sizes cost the same but for rounding: the smallest stands.
    return min(able, key=lambda c: (float(f"{_usd_each(c):.6g}"), c.offer.usd_per_hour()))


def _usd_each(capacity: Capacity) -> float:
    """Return dollars for a request on a full machine."""
    return capacity.offer.usd_per_hour() / SECONDS_PER_HOUR / capacity.per_s
