"""How a plan is searched for: warm starts, stopping, conflicts, mistakes, what is told."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import numpy as np
import pytest

from planned import mixed, option, problem, units
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.planning import machines
from polysilicon.planning.answer import ConflictError
from polysilicon.planning.clock import Clock, OutOfTime
from polysilicon.planning.conflict import refusal
from polysilicon.planning.derive import only
from polysilicon.planning.problem import INF, Cap, Held, Redundancy, Right, SpendContract
from polysilicon.planning.search import Search
from polysilicon.planning.solve import solve
from polysilicon.planning.whole import whole_units

replace = msgspec.structs.replace


def case(**fields):
    """Return a problem of two vendors, two scenarios, four months, six hours."""
    rng = np.random.default_rng(3)
    demand = rng.uniform(5, 15, (2, 4, 6, 1)) * np.array([1.0, 1.4])[:, None, None, None]
    options = (
        option("a", vendor="v", region="r"),
        option("b", vendor="w", region="s", price=1.1),
    )
    contracts = (
        units("a", 0, term_months=4, monthly_usd=730 * 0.6),
        units("b", 1, orders=(0, 1), term_months=2, monthly_usd=730 * 0.65),
    )
    return problem(demand, **{"options": options, "contracts": contracts, **fields})


def test_a_warm_start_finds_the_same_cost_in_fewer_rounds():
    first = solve(case(), gap=1e-6)
    changed = replace(case(), demand=case().demand * 1.07)
    cold, warm = solve(changed, gap=1e-6), solve(changed, gap=1e-6, warm=first.warm)
    assert warm.cost_usd == pytest.approx(cold.cost_usd, rel=3e-6)
    assert warm.lower_bound_usd <= cold.cost_usd
    assert warm.rounds < cold.rounds


def test_stop_returns_the_best_so_far_with_its_gap():
    told = []
    answer = solve(case(), gap=0.0, progress=told.append, stop=lambda: len(told) >= 3)
    assert answer.status == "stopped"
    assert len(told) == 3
    assert np.isfinite(answer.cost_usd)
    assert 0 < answer.gap < 1
    best = solve(case(), gap=1e-7).cost_usd
    assert answer.lower_bound_usd <= best * (1 + 1e-9) <= answer.cost_usd * (1 + 1e-7)


@pytest.mark.parametrize("after", [0, 1, 5, 20, 50])
def test_stop_is_heard_within_a_round(after):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > after

    answer = solve(case(), gap=0.0, stop=stop)
    assert answer.status == "stopped"
    assert answer.lower_bound_usd <= answer.cost_usd < np.inf


def test_no_time_at_all_still_gives_a_plan():
    answer = solve(mixed(4), gap=1e-9, time_s=0.0)
    assert answer.status == "time"
    racks = [one.units for one in answer.bought if one.contract == 3]
    assert all(count == round(count) for count in racks)
    assert answer.lower_bound_usd <= answer.cost_usd


def test_what_is_promised_already_is_paid_though_nothing_of_it_is_used():
    # Where no hours are averaged, the first dispatch is of nothing bought: it is no plan.
    bill = SpendContract(
        name="bill", program="bill", vendor="v", options=(0,), rate_usd_per_h=(2.0,), orders=(),
        period_months=2, commitment_usd=(100.0, 300.0), headroom=1.0,
    )  # fmt: skip
    demand = np.full((1, 4, 1, 1), 2.0)
    held = (Held(contract=0, order=0, units=1.0),)
    answer = solve(problem(demand, options=(option(),), contracts=(bill,), held=held), gap=1e-9)
    # Its 400 dollars buy 200 unit-hours, at twice the price.
    assert answer.cost_usd == pytest.approx(4 * 730 * 2 - 200 + 400)


def test_a_plan_cheaper_than_redundancy_is_no_plan():
    demand = np.full((1, 2, 1, 1), 2.0)
    rule = (Redundancy(by="vendor", demand=demand[0, :, 0]),)
    dear = tuple(units(f"c{at}", at, term_months=2, monthly_usd=2000.0) for at in (0, 1))
    options = (option("a", vendor="v"), option("b", vendor="w"))
    asked = problem(demand, options=options, contracts=dear, redundancy=rule)
    # Two units of either vendor, whatever is lost; by the hour they would cost half as much.
    assert solve(asked, gap=1e-9).cost_usd == pytest.approx(2 * 2 * 2 * 2000)


@pytest.mark.parametrize(("demand", "machines"), [(0.03, 1), (10.02, 11), (300.2, 301)])
def test_a_whole_machine_is_bought_for_little_that_must_be_served(demand, machines):
    # In one of 24 hours a little more is asked for than the machines before the last one do.
    load = np.full((2, 1, 24, 1), machines - 1.0)
    load[1, 0, 3] = demand
    racks = (units(term_months=1, whole=True, monthly_usd=500.0),)
    asked = problem(load, options=(option(price=INF),), contracts=racks)
    assert solve(asked, gap=1e-6).cost_usd == pytest.approx(500.0 * machines)


def test_searches_with_a_higher_penalty_keep_to_time_and_hear_a_stop(monkeypatch):
    load = np.full((2, 1, 24, 1), 10.0)
    load[1, 0, 3] = 10.02
    racks = (units(term_months=1, whole=True, monthly_usd=500.0),)
    asked = problem(load, options=(option(price=INF),), contracts=racks)
    heard, plain = [], Search.run

    def run(self, gap, progress):
        asked_before = len(told)
        self.clock.over()
        heard.append((np.isfinite(self.clock.left_s), len(told) > asked_before))
        return plain(self, gap, progress)

    told = []
    monkeypatch.setattr(Search, "run", run)
    solve(asked, gap=0.005, stop=lambda: bool(told.append(1)))
    assert len(heard) > 1
    assert set(heard) == {(True, True)}


def test_an_answer_in_parts_outlives_rounding_that_comes_too_late(monkeypatch):
    def late(*_args, **_options):
        raise PolysiliconError("too late")

    answer = solve(case(), gap=0.01)
    assert any(abs(one.units - round(one.units)) > 1e-3 for one in answer.bought)
    monkeypatch.setattr(machines, "attempt", late)
    assert machines.in_machines(case(), answer, gap=0.01, time_s=1.0) is answer


def test_a_stop_is_heard_while_a_conflict_is_looked_for(monkeypatch):
    monkeypatch.setattr("polysilicon.planning.search._GRACE_S", 0.1)
    cap = Cap(name="power in r", options=(0, 1), weights=(1.0, 1.0), limit=9.0)
    told = []
    error = refusal(nowhere(caps=(cap,)), lambda: bool(told.append(1)) or len(told) > 3)
    assert isinstance(error, OutOfTime)
    assert "stopped" in str(error)


def test_a_stop_is_heard_within_branch_and_bound():
    rng = np.random.default_rng(7)
    options = tuple(
        option(f"o{at}", work=tuple(rng.uniform(0.5, 2, 2)), supply=float(rng.integers(2, 9)))
        for at in range(40)
    )
    racks = tuple(
        units(
            f"c{at}", at, orders=(0, 1), term_months=6, whole=True,
            per_unit=float(rng.uniform(1, 3)), monthly_usd=float(rng.uniform(600, 700)),
        )
        for at in range(40)
    )  # fmt: skip
    asked = problem(rng.uniform(5, 150, (3, 6, 6, 2)), options=options, contracts=racks)
    search = Search(asked, None, Clock())
    for _ in range(8):
        search.evaluate(search.master.solve()[0])
    told = []
    clock = Clock(60.0, lambda: told.append(1) or len(told) > 3)
    with suppress(OutOfTime):  # it may have found nothing yet
        whole_units(search.master, 0.0, clock)
    assert clock.status == "stopped"
    assert 3 < len(told) < 10


def test_whole_units_without_a_search_are_rounded(monkeypatch):
    def no_search(master, gap, limit_s, fixed=None):
        if fixed is None:
            raise OutOfTime("no whole units were found in time")
        return whole_units(master, gap, limit_s, fixed)

    for module in ("search", "whole"):
        monkeypatch.setattr(f"polysilicon.planning.{module}.whole_units", no_search)
    asked = case(contracts=tuple(replace(one, whole=True) for one in case().contracts))
    answer = solve(asked, gap=0.0, time_s=0.0)
    assert answer.status == "time"
    assert all(one.units == round(one.units) > 0 for one in answer.bought)
    assert 0 < answer.gap <= 1


@pytest.mark.parametrize("seed", [1, 2, 3, 10, 14, 28])
def test_money_and_work_of_an_answer_add_up(seed):
    asked = mixed(seed)
    answer = solve(asked, gap=1e-5)
    money = answer.fixed_usd + sum(one.usd for one in answer.served)
    assert money @ asked.money == pytest.approx(answer.scenario_usd, rel=1e-6)
    work = sum(one.work for one in answer.served)
    needed = np.einsum("sthk,th->stk", asked.demand, asked.hours)
    assert (work >= needed * (1 - 1e-7)).all()
    for one in answer.served:
        assert (one.used <= one.capacity * (1 + 1e-6) + 1e-6).all(), one.kind


def test_the_value_of_an_option_is_what_one_unit_given_saves():
    asked = case()
    answer = solve(asked, gap=1e-8)
    small = 1e-3
    given = replace(
        asked,
        contracts=(*asked.contracts, units("gift", 0, orders=(), term_months=1)),
        held=(Held(contract=2, order=0, units=small),),
    )
    saved = (answer.cost_usd - solve(given, gap=1e-9).cost_usd) / small
    assert 0 < saved <= answer.option_value_usd[0, 0] * (1 + 1e-3)


def test_supply_and_caps_that_bind_have_prices():
    asked = case()
    tight = replace(asked, options=(replace(asked.options[0], supply=4.0), asked.options[1]))
    answer = solve(tight, gap=1e-8)
    priced = {(one.kind, one.subject) for one in answer.duals}
    assert ("supply", "a") in priced
    total = sum(one.usd for one in answer.duals if one.kind == "supply")
    more = replace(asked, options=(replace(asked.options[0], supply=4.01), asked.options[1]))
    saved = (answer.cost_usd - solve(more, gap=1e-9).cost_usd) / 0.01
    assert total == pytest.approx(saved, rel=0.02)


def nowhere(**fields):
    """Return a problem that nothing on demand can help."""
    options = tuple(replace(one, on_demand_usd_per_h=INF) for one in case().options)
    return replace(case(), options=options, **fields)


def named(asked):
    with pytest.raises(ConflictError) as caught:
        solve(asked)
    return {(rule.kind, rule.subject) for rule in caught.value.rules}, caught.value


def test_a_conflict_names_the_smallest_set_of_rules():
    cap = Cap(name="power in r", options=(0, 1), weights=(1.0, 1.0), limit=9.0)
    loose = Cap(name="power in s", options=(1,), weights=(1.0,), limit=99.0)
    found, error = named(nowhere(caps=(cap, loose)))
    assert found == {("cap", "power in r"), ("demand", "class 0")}
    (rule,) = [rule for rule in error.rules if rule.kind == "demand"]
    assert rule.lacking > 0
    assert error.exit_code == 3
    assert "power in r" in str(error)


def test_conflicts_of_shares_and_redundancy_are_named():
    long = (case().contracts[0], units("b", 1, term_months=4, monthly_usd=730 * 0.65))
    share = nowhere(vendor_share_max={"v": 0.2, "w": 0.2}, contracts=long)
    assert {("vendor", "v"), ("vendor", "w"), ("demand", "class 0")} == named(share)[0]
    scarce = tuple(replace(one, supply=3.0) for one in case().options)
    rule = Redundancy(by="vendor", demand=np.full((4, 1), 5.0))
    lost = replace(case(), options=scarce, redundancy=(rule,))
    found = named(lost)[0]
    assert ("redundancy", "vendor") in found
    assert {kind for kind, _ in found} == {"redundancy", "supply"} or len(found) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probability": np.array([0.5, 0.6])}, "sum to 1.1"),
        ({"demand": np.full((2, 4, 6, 1), np.nan)}, "demand"),
        ({"risk_weight": 2.0}, "risk_weight"),
        ({"cvar_alpha": 1.0}, "cvar_alpha"),
        ({"vendor_share_max": {"x": 0.5}}, "vendor share of x"),
        ({"contracts": (units("a"), units("a"))}, "'a'"),
        ({"contracts": (units("a", orders=(4,)),)}, "outside the horizon"),
        ({"contracts": (units("a", 7),)}, "no option 7"),
        ({"contracts": (units("a", term_months=0),)}, "term"),
        ({"contracts": (units("a", monthly_usd=np.ones(3)),)}, "shape"),
        ({"held": (Held(contract=5, order=0, units=1.0),)}, "no contract 5"),
        (
            {
                "contracts": (
                    SpendContract(
                        name="d", program="d", vendor="v", options=(0,), rate_usd_per_h=(1.0,),
                        commitment_usd=(1.0,), excess_carried=0.5, shortfall_credit=0.5,
                    ),
                )
            },
            "choose one",
        ),
        ({"contracts": (units("a", salvage_usd=99.0, term_months=9),)}, "earns more"),
        (
            {
                "contracts": (
                    units("a", term_months=4, monthly_usd=50.0, rights=(
                        Right(kind="sell", months=(2,), usd=130.0),)),
                )
            },
            "order of month 1 that is sold in month 3 earns 30 dollars a unit",
        ),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_named(change, said):
    with pytest.raises(InputError, match=said):
        solve(replace(case(), **change))


def test_scenarios_can_be_taken_apart():
    whole = case()
    one = only(whole, [1])
    assert one.scenarios == ("scenario 1",)
    assert one.probability == pytest.approx([1.0])
    assert (one.demand[0] == whole.demand[1]).all()


def test_a_small_gap_is_reached_although_old_cuts_are_forgotten():
    rng = np.random.default_rng(3)
    s, t, h, n = 8, 18, 24, 12
    rhythm = 1 + 0.5 * np.sin(np.arange(h) / h * 2 * np.pi)[:, None]
    growth = np.exp(np.cumsum(rng.normal(0.012, 0.04, (s, t)), axis=1))[:, :, None, None]
    demand = 1000 * growth * rhythm * np.exp(rng.normal(0, 0.05, (s, t, h, 2)))
    options, contracts = [], []
    for number in range(n):
        work = rng.uniform(0.5, 2, 2)
        price = float(work.max() * rng.uniform(0.8, 1.3))
        options.append(
            option(f"o{number}", work=work, price=price, supply=float(rng.uniform(50, 300)))
        )
        contracts += [
            units(
                f"{number} for {term}", number, orders=tuple(range(0, t, 3)), term_months=term,
                monthly_usd=price * 730 * share,
            )
            for term, share in ((6, 0.75), (12, 0.6))
        ]  # fmt: skip
    asked = problem(demand, options=tuple(options), contracts=tuple(contracts))
    told = []
    found = solve(asked, gap=1e-4, time_s=20, progress=told.append)
    assert found.gap <= 1e-4
    assert told[-1].round < 40


def test_a_master_that_is_not_solved_in_time_gives_no_bound(monkeypatch):
    monkeypatch.setattr("polysilicon.planning.master._MOST_ROUNDS", 0)
    search = Search(case(), None, Clock(60.0))
    with pytest.raises(OutOfTime, match="rounds"):
        search.master.solve()
