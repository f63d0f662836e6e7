"""Placements cost what brute force says, and every answer proves itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from placement_programs import brute_force, small
from polysilicon.errors import PolysiliconError
from polysilicon.placement import solve as solving
from polysilicon.placement.certify import Duals, assert_optimal, assert_whole, faults
from polysilicon.placement.program import Program, Row, bearing, covers, with_rows
from polysilicon.placement.solve import relax, solve

CASES = 240


@pytest.mark.parametrize("seed", range(8))
def test_placement_costs_what_brute_force_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = 0
    for _ in range(CASES // 8):
        program = small(rng)
        truth = brute_force(program)
        found = solve(program, gap=0.0)
        if truth is None:
            # More machines than were tried may do; fewer or equal may not.
            assert found is None or found.units.max() > 6
            continue
        assert found is not None
        assert found.cost == pytest.approx(truth, rel=1e-5)
        assert found.bound <= found.cost
        assert found.status == "optimal"
        answers += 1
    assert answers > CASES // 8 / 2


def wide(rng: np.random.Generator, classes: int = 300, pools: int = 90) -> Program:
    """Return a program of more pairs than are given to the solver whole."""
    costs = rng.lognormal(0.0, 1.0, pools)
    work = rng.lognormal(0.0, 1.0, (classes, 1)) / costs**0.9 * rng.lognormal(0, 0.2, (1, pools))
    return Program(
        classes=classes,
        pair_class=np.repeat(np.arange(classes), pools),
        pair_row=np.tile(np.arange(pools), classes),
        load=(work * rng.lognormal(0.0, 0.2, work.shape)).ravel(),
        pair_cost=np.zeros(classes * pools),
        row_pool=np.arange(pools),
        unit_cost=costs,
    )


def test_pricing_pairs_out_finds_the_optimum_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    program = wide(np.random.default_rng(1))
    best = int(np.argmax(relaxed.units)) if (relaxed := relax(program)) is not None else -1
    units = np.eye(90)[best]
    limit = float(np.floor(relaxed.units[best] / 2)) if relaxed is not None else 0.0
    slo = np.random.default_rng(2).uniform(0.0, 1.0, len(program.load))
    rows = [
        Row(name="supply", kind="supply", subject="", limit=limit, units=units),
        Row(name="slo", kind="slo", subject="", limit=60.0, pairs=slo),
    ]
    tight = with_rows(program, rows)
    few = relax(tight)
    monkeypatch.setattr(solving, "FEW_PAIRS", 10**9)
    every = relax(tight)
    assert few is not None
    assert every is not None
    assert len(few.pairs) < len(every.pairs) / 4
    assert few.cost == pytest.approx(every.cost, rel=1e-6)


def test_pricing_pairs_out_knows_when_nothing_can_be_done() -> None:
    program = wide(np.random.default_rng(3))
    none = Row(name="supply", kind="supply", subject="", limit=1.0, units=np.ones(90))
    assert relax(with_rows(program, [none])) is None


def test_large_fleets_come_within_a_thousandth_of_the_bound() -> None:
    found = solve(wide(np.random.default_rng(4), 400, 60))
    assert found is not None
    assert found.gap <= 1e-3
    assert found.status == "optimal"


def test_a_search_that_is_cut_short_ends_where_it_did_before() -> None:
    rng = np.random.default_rng(1)
    classes, pools = 30, 15
    pairs = classes * pools
    program = Program(  # dear machines for little work
        classes=classes,
        pair_class=np.repeat(np.arange(classes), pools),
        pair_row=np.tile(np.arange(pools), classes),
        load=rng.uniform(0.05, 0.9, pairs),
        pair_cost=rng.uniform(0.0, 5.0, pairs),
        row_pool=np.arange(pools),
        unit_cost=rng.integers(50, 100, pools).astype(float),
    )
    first, second = (solve(program, limit_s=0.3) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.status == "feasible"
    assert first.effort_s > 0.3
    assert (first.cost, first.bound, first.effort_s) == (second.cost, second.bound, second.effort_s)


def test_any_one_pool_may_be_lost() -> None:
    # Two pools alike that carry a load of 3: with either gone the other carries all of it.
    program = Program(
        classes=1,
        pair_class=np.array([0, 0]),
        pair_row=np.array([0, 1]),
        load=np.array([3.0, 3.0]),
        pair_cost=np.zeros(2),
        row_pool=np.arange(2),
        unit_cost=np.array([1.0, 1.0]),
    )
    lost = [np.array([True, False]), np.array([False, True])]
    found = solve(bearing(program, lost))
    assert found is not None
    assert found.units.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("regions", [2, 3, 4])
def test_like_regions_of_which_one_may_be_lost_need_a_share_more(regions: int) -> None:
    # N-1 of k regions alike: k·L / (k-1), here with machines in fractions.
    program = Program(
        classes=1,
        pair_class=np.zeros(regions, np.int64),
        pair_row=np.arange(regions),
        load=np.full(regions, 12.0),
        pair_cost=np.zeros(regions),
        row_pool=np.arange(regions),
        unit_cost=np.ones(regions),
    )
    lost = [np.arange(regions) == one for one in range(regions)]
    found = relax(bearing(program, lost))
    assert found is not None
    assert found.cost == pytest.approx(12.0 * regions / (regions - 1))


def test_what_cannot_be_has_no_answer() -> None:
    program = small(np.random.default_rng(0))
    none = Row(
        name="x", kind="supply", subject="", limit=0.0, units=np.ones(len(program.unit_cost))
    )
    assert solve(with_rows(program, [none])) is None
    assert relax(msgspec.structs.replace(program, classes=program.classes + 1)) is None


def test_wrong_answers_fail_their_check() -> None:
    program = wide(np.random.default_rng(5), 20, 5)
    good = relax(program)
    assert good is not None
    assert_optimal(program, good.units, good.share, good.duals)
    with pytest.raises(PolysiliconError, match="served"):
        assert_optimal(program, good.units, good.share * 0.9, good.duals)
    with pytest.raises(PolysiliconError, match="too few"):
        assert_optimal(program, good.units * 0.9, good.share, good.duals)
    off = Duals(demand=good.duals.demand * 1.1, capacity=good.duals.capacity, side=good.duals.side)
    with pytest.raises(PolysiliconError, match="reduced cost"):
        assert_optimal(program, good.units, good.share, off)
    dear = np.zeros(100)
    dear[np.arange(20) * 5 + 4] = 1.0
    used = np.bincount(program.pair_row, weights=program.load * dear, minlength=5)
    with pytest.raises(PolysiliconError, match="complementarity"):
        assert_optimal(program, used, dear, good.duals)
    with pytest.raises(PolysiliconError, match="not whole"):
        assert_whole(program, good.units + 0.5, good.share, good.cost)
    assert not faults(program, np.ceil(good.units), good.share)


def test_covers_cut_no_answer_off() -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        program = small(rng)
        found = solve(program, gap=0.0)
        if found is not None:
            sums = with_rows(program, covers(program)).sums(found.units, found.share)
            assert (sums[len(program.rows) :] <= -1.0 + 1e-9).all()
