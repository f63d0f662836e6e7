from __future__ import annotations

import math

import numpy as np
import pytest

from polysilicon.catalog.offers import Offer
from polysilicon.report.price_performance.capacity import Capacity
from polysilicon.report.price_performance.curves import (
    at_end,
    cheapest,
    crossing,
    fleet_usd,
    machines,
    saturated,
    usd_per_million,
)

LOADS = np.array([0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0])


def machine(name, usd, per_s, slow=None, fast=None):
    offer = Offer(name=name, region="here", on_demand_usd_per_hour=usd)
    ends = {"slow_per_s": per_s if slow is None else slow, "fast_per_s": fast or per_s}
    return Capacity(offer=offer, per_s=per_s, **ends)


def test_machines_are_whole_and_at_least_one():
    assert machines(2.0, LOADS).tolist() == [1, 1, 1, 1, 2, 4, 8]
    # Three tenths, ten times: rounding must not buy a machine.
    assert machines(0.1 + 0.2, np.array([3.0])).tolist() == [10]


def test_dollars_by_the_end_of_the_band():
    one = machine("a", 3.0, 2.0, slow=1.0, fast=4.0)
    at = np.array([4.0])
    assert fleet_usd(one, at)[0] == 6.0
    assert fleet_usd(one, at, "slow")[0] == 12.0
    assert fleet_usd(one, at, "fast")[0] == 3.0
    assert np.isinf(fleet_usd(machine("b", 3.0, 2.0, slow=0.0), at, "slow"))[0]


def test_the_cheapest_changes_with_load():
    small, large = machine("small", 1.0, 1.0), machine("large", 3.0, 8.0)
    never = machine("never", 0.1, 0.0)
    found = cheapest([never, small, large], LOADS)
    assert found.chosen.tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert found.machines.tolist() == [1, 1, 2, 2, 1, 1, 2]
    assert found.usd_per_hour.tolist() == [1, 1, 2, 2, 3, 3, 6]


def test_where_no_machine_serves_nothing_is_chosen():
    for none in ([], [machine("never", 0.1, 0.0)]):
        found = cheapest(none, LOADS)
        assert set(found.chosen) == {-1}
        assert np.isinf(found.usd_per_hour).all()
        assert np.isinf(at_end(found, none, LOADS, "slow").usd_per_hour).all()


def test_ends_of_the_band_are_those_of_the_chosen_machines():
    capacities = [
        machine("small", 1.0, 1.0, slow=0.5, fast=2.0),
        machine("large", 3.0, 8.0, slow=0.0, fast=16.0),
    ]
    best = cheapest(capacities, LOADS)
    slow, fast = (at_end(best, capacities, LOADS, end) for end in ("slow", "fast"))
    assert slow.usd_per_hour.tolist()[:4] == [1, 2, 3, 4]
    assert np.isinf(slow.usd_per_hour[4:]).all()
    assert fast.usd_per_hour.tolist() == [1, 1, 1, 1, 3, 3, 3]
    assert (fast.usd_per_hour <= best.usd_per_hour).all()


def test_crossings():
    small, large = (
        cheapest([machine("s", 1.0, 1.0)], LOADS),
        cheapest([machine("l", 3.0, 8.0)], LOADS),
    )
    none = cheapest([], LOADS)
    found = crossing(small, large, LOADS)
    assert (found.first_per_s, found.last_per_s) == (4.0, 4.0)
    back = crossing(large, small, LOADS)
    assert (back.first_per_s, back.last_per_s) == (0.0, math.inf)
    alone = crossing(small, none, LOADS)
    assert (alone.first_per_s, alone.last_per_s) == (math.inf, math.inf)
    absent = crossing(none, small, LOADS)
    assert (absent.first_per_s, absent.last_per_s) == (0.0, 0.0)
    neither = crossing(none, none, LOADS)
    assert (neither.first_per_s, neither.last_per_s) == (0.0, 0.0)


def test_steps_of_the_stairs_may_cross_more_than_once():
    stairs = cheapest([machine("a", 1.0, 1.5)], LOADS)
    other = cheapest([machine("b", 1.5, 2.0)], LOADS)
    found = crossing(stairs, other, LOADS)
    # 1 up to 1.5/s, then 2 against 1.5; from 4/s on 3 against 3, 6 against 6, 11 against 12.
    assert (found.first_per_s, found.last_per_s) == (2.0, math.inf)


def test_dollars_for_a_million():
    assert usd_per_million(3.6, 10.0, 100.0) == pytest.approx(1.0)


def test_the_cheapest_full_machine():
    dear, cheap = machine("dear", 1.0, 1.0), machine("cheap", 3.0, 8.0)
    twice = machine("twice", 6.0, 16.0)
    assert saturated([dear, twice, cheap]).offer.name == "cheap"
    assert saturated([machine("never", 1.0, 0.0)]) is None
