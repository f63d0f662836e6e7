"""Bounds that hold for every plan, and agreement with the program written out in full."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

import linopy_plan
import reference_plan
from planned import mixed, option, problem, units
from polysilicon.planning import hours
from polysilicon.planning.answer import ConflictError
from polysilicon.planning.clock import Clock
from polysilicon.planning.derive import mean_of
from polysilicon.planning.fix import cost, units_of
from polysilicon.planning.floor import _least, floor
from polysilicon.planning.problem import Held, SpendContract, Tier
from polysilicon.planning.search import Search
from polysilicon.planning.solve import solve
from polysilicon.planning.worth import worth

SEEDS = [
    1, 2, 3, 4, 5, 9, 10, 11, 13, 14, 15, 16, 17, 19, 20, 21, 23, 25, 28, 30, 31, 32, 33, 34, 35,
    36, 37, 39, 40, 42, 44, 45, 47, 48, 51, 52, 53, 54, 56, 57, 58, 59, 61, 62, 64, 65, 67, 68, 69,
    70, 71, 72,
]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_the_certified_cost_is_that_of_the_program_written_out(seed):
    case = mixed(seed)
    expected = reference_plan.cost_of(case)
    if expected is None:
        with pytest.raises(ConflictError):
            solve(case)
        return
    answer = solve(case, gap=1e-6)
    assert answer.cost_usd == pytest.approx(expected, rel=2e-6)
    assert answer.lower_bound_usd <= expected * (1 + 1e-7)
    assert answer.gap <= 1e-6


@pytest.fixture(scope="module")
def in_linopy() -> dict[tuple[int, int], float]:
    """Return the least costs of random cases, by group and seed, as linopy finds them."""
    return {
        (group, seed): usd
        for group in range(linopy_plan.GROUPS)
        for seed, usd in enumerate(linopy_plan.group_costs(group))
    }


@pytest.mark.parametrize("seed", range(linopy_plan.CASES))
@pytest.mark.parametrize("group", range(linopy_plan.GROUPS))
def test_the_certified_cost_is_that_of_the_extensive_form_in_linopy(group, seed, in_linopy):
    case, expected = linopy_plan.random_case(group, seed), in_linopy[group, seed]
    answer = solve(case, gap=1e-7)
    assert answer.cost_usd == pytest.approx(expected, rel=2e-7)
    assert answer.lower_bound_usd <= expected * (1 + 1e-9)
    assert reference_plan.cost_of(case) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(linopy_plan.CASES))
@pytest.mark.parametrize("group", [0, 1])
def test_hours_that_are_climbed_cost_what_they_cost_in_linopy(group, seed, in_linopy, monkeypatch):
    monkeypatch.setattr(hours, "MANY", 0)
    answer = solve(linopy_plan.random_case(group, seed), gap=1e-7)
    assert answer.cost_usd == pytest.approx(in_linopy[group, seed], rel=2e-7)


@pytest.mark.parametrize("seed", range(linopy_plan.CASES))
@pytest.mark.parametrize("group", range(linopy_plan.GROUPS))
def test_a_bound_that_needs_no_solving_is_true_and_of_use(group, seed, in_linopy):
    case, expected = linopy_plan.random_case(group, seed), in_linopy[group, seed]
    bound = floor(Search(case, None, Clock()).master)
    assert 0.2 * expected < bound <= expected * (1 + 1e-9)


def test_a_dear_order_hides_no_cheap_one_that_earns():
    master = SimpleNamespace(low=np.zeros(3), high=np.array([1.0, 1e6, np.inf]))
    usd, saved = np.array([1e12, 1.0, 3.0]), np.array([0.0, 2.0, 3.0 + 1e-15])
    assert _least(master, usd, saved) == -1e6


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 13, 20, 28, 42])
@pytest.mark.parametrize("time_s", [0.0, 0.01, 0.1])
def test_however_short_the_time_there_is_a_plan_and_a_true_bound(seed, time_s):
    case = mixed(seed)
    expected = reference_plan.cost_of(case)
    assert expected is not None
    answer = solve(case, gap=1e-9, time_s=time_s)
    assert answer.seconds < time_s + 5
    assert answer.lower_bound_usd <= expected * (1 + 1e-7)
    assert answer.cost_usd >= expected * (1 - 1e-7)


def test_no_scenario_no_contract_shape_is_missing_from_the_random_problems():
    names = {contract.name for seed in SEEDS for contract in mixed(seed).contracts}
    assert {
        "plain", "owned", "savings", "racks", "rights", "flexible", "reserved", "tiered",
        "drawdown", "take or pay",
    } == names  # fmt: skip


def growing(seed: int):
    """Return a problem with two options, four scenarios and months of growth."""
    rng = np.random.default_rng(seed)
    demand = 10 * np.exp(np.cumsum(rng.normal(0.05, 0.2, (4, 5)), axis=1))[:, :, None, None]
    demand = (
        demand * (1 + 0.6 * np.sin(np.arange(6)))[:, None] * rng.uniform(0.9, 1.1, (4, 5, 6, 2))
    )
    options = (option("a", work=(1.0, 0.6)), option("b", price=1.2, work=(0.8, 1.5)))
    contracts = (
        units("a", 0, orders=(0, 2), term_months=3, monthly_usd=730 * 0.55),
        units("b", 1, orders=(0, 1), term_months=4, monthly_usd=730 * 0.7),
    )
    return problem(demand, options=options, contracts=contracts)


@pytest.mark.parametrize("seed", range(3))
def test_wait_and_see_is_no_dearer_than_the_plan_nor_the_plan_than_that_for_the_mean(seed):
    case = growing(seed)
    answer = solve(case, gap=1e-7)
    found = worth(case, answer, gap=1e-7)
    waited = case.probability @ found.wait_and_see_usd
    assert waited < answer.cost_usd < found.mean_plan_usd
    assert found.perfect_information_usd == pytest.approx(answer.cost_usd - waited)
    mean_plan = cost(case, units_of(solve(mean_of(case), gap=1e-7)), gap=1e-7)
    assert found.stochastic_solution_usd == pytest.approx(
        mean_plan.cost_usd - answer.cost_usd, rel=1e-4
    )
    assert (found.regret_usd >= 0).all()
    assert found.regret_usd.max() > 0


@pytest.mark.parametrize("seed", range(3))
def test_averaged_hours_bound_the_plan_from_below_and_dispatch_from_above(seed):
    case = growing(seed)
    best = solve(case, gap=1e-8).cost_usd
    averaged = msgspec.structs.replace(
        case,
        hours=case.hours.sum(axis=1, keepdims=True),
        demand=np.einsum("sthk,th->stk", case.demand, case.hours / 730)[:, :, None],
    )
    coarse = solve(averaged, gap=1e-8)
    dispatched = cost(case, units_of(coarse), gap=1e-8).cost_usd
    assert coarse.lower_bound_usd < best < dispatched


def test_any_demand_prices_give_a_true_bound():
    case = growing(5)
    best = solve(case, gap=1e-8).cost_usd
    rng = np.random.default_rng(1)
    for _ in range(5):
        search = Search(case, None, Clock())
        search._cut(rng.uniform(0, 2, case.demand.shape), None)
        search._cut(rng.uniform(0, 0.9, case.demand.shape), None)
        assert search.master.solve()[1] <= best


def test_a_plan_costs_the_same_when_it_is_priced_again():
    for seed in (2, 14, 36):
        case = mixed(seed)
        answer = solve(case, gap=1e-6)
        again = cost(case, units_of(answer), gap=1e-7)
        assert again.cost_usd == pytest.approx(answer.cost_usd, rel=1e-5)


def test_orders_in_tiers_are_priced_again_one_by_one():
    # Two orders of 8, each half as dear above 4, and a contract that their fees count for.
    demand = np.array([8.0, 16.0, 16.0]).reshape(1, 3, 1, 1)
    steps = units(
        orders=(0, 1), term_months=3, monthly_usd=100.0, most=8.0,
        tiers=(Tier(above=4.0, factor=0.5),),
    )  # fmt: skip
    bill = SpendContract(
        name="bill", program="bill", vendor="v", options=(0,), rate_usd_per_h=(1.0,), orders=(),
        period_months=3, commitment_usd=(3000.0,), counting=(0,), headroom=1.0,
    )  # fmt: skip
    held = (Held(contract=1, order=0, units=1.0),)
    case = problem(demand, options=(option(),), contracts=(steps, bill), held=held)
    answer = solve(case, gap=1e-9)
    assert {one.order for one in answer.bought if not one.held} == {0, 1}
    assert cost(case, units_of(answer)).cost_usd == pytest.approx(answer.cost_usd, rel=1e-6)
