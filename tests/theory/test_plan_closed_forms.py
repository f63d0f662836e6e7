"""Plans whose best answer is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from planned import option, problem, units
from polysilicon.planning.answer import Used
from polysilicon.planning.contracts import (
    break_even,
    crossing,
    dollars_bill,
    drawdown_bills,
    take_or_pay_bill,
    tiers_bill,
)
from polysilicon.planning.problem import (
    INF,
    DollarContract,
    Redundancy,
    Right,
    SpendContract,
    Tier,
)
from polysilicon.planning.seen import seen
from polysilicon.planning.solve import solve

NEAR = {"rel": 1e-6}
TIGHT = 1e-9


def levels(count):
    """Return demand of `count` scenarios, all of a level of their own, one month, one hour."""
    return (10.0 + np.arange(count) ** 1.5).reshape(count, 1, 1, 1)


def bought(answer):
    return sum(one.units for one in answer.bought)


@pytest.mark.parametrize("share", [0.25, 0.55, 0.83])
def test_newsvendor_buys_the_quantile_of_demand(share):
    demand = levels(29)
    monthly = units(term_months=1, monthly_usd=share * 730)
    answer = solve(problem(demand, options=(option(),), contracts=(monthly,)), gap=TIGHT)
    best = np.sort(demand.ravel())[int(np.ceil((1 - share) * 29)) - 1]
    cost = 730 * (share * best + np.maximum(demand - best, 0).mean())
    assert bought(answer) == pytest.approx(best, **NEAR)
    assert answer.cost_usd == pytest.approx(cost, **NEAR)
    assert answer.lower_bound_usd <= answer.cost_usd * (1 + 1e-12)


@pytest.mark.parametrize(("risk", "alpha"), [(0.5, 0.8), (0.3, 0.5), (1.0, 0.7)])
def test_mean_cvar_newsvendor_buys_a_higher_quantile(risk, alpha):
    demand, share = levels(31), 0.4  # so that the quantile lies in the tail
    monthly = units(term_months=1, monthly_usd=share * 730)
    fields = {"risk_weight": risk, "cvar_alpha": alpha}
    answer = solve(problem(demand, options=(option(),), contracts=(monthly,), **fields), gap=TIGHT)
    quantile = 1 - share / ((1 - risk) + risk / (1 - alpha))
    best = np.sort(demand.ravel())[int(np.ceil(quantile * 31)) - 1]
    assert bought(answer) == pytest.approx(best, **NEAR)


def test_screening_curve_gives_each_hour_the_program_that_is_cheapest_for_its_duration():
    # Load of 1..H: the h-th unit is used in H - h + 1 hours of 730 / H each.
    hours = 20
    load = np.arange(1.0, hours + 1).reshape(1, 1, hours, 1)
    base, peak = (600.0, 0.1), (200.0, 0.9)
    options = (
        option("base", price=INF, running_usd_per_h=base[1]),
        option("peak", price=INF, running_usd_per_h=peak[1]),
        option("rent", price=2.0),
    )
    contracts = (
        units("base", 0, term_months=1, monthly_usd=base[0]),
        units("peak", 1, term_months=1, monthly_usd=peak[0]),
    )
    answer = solve(problem(load, options=options, contracts=contracts), gap=TIGHT)
    lasts = (hours - np.arange(hours)) * 730 / hours
    first = crossing((base[0], peak[0]), (base[1], peak[1]))
    second = crossing((peak[0], 0.0), (peak[1], 2.0))
    expected = {
        0: int((lasts > first).sum()),
        1: int(((lasts <= first) & (lasts > second)).sum()),
    }
    assert {one.contract: round(one.units, 4) for one in answer.bought} == expected
    curve = np.minimum.reduce([base[0] + base[1] * lasts, peak[0] + peak[1] * lasts, 2.0 * lasts])
    assert answer.cost_usd == pytest.approx(curve.sum(), **NEAR)


@pytest.mark.parametrize("used", [0.59, 0.61])
def test_a_commitment_pays_from_a_utilisation_of_one_minus_the_discount(used):
    # A unit of demand in a share `used` of the hours, nothing in the others.
    demand = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    contract = units(term_months=1, monthly_usd=730 * (1 - 0.4))
    fields = {"options": (option(),), "contracts": (contract,)}
    case = problem(demand, hours=np.array([[730 * used, 730 * (1 - used)]]), **fields)
    answer = solve(case, gap=TIGHT)
    assert bought(answer) == pytest.approx(float(used > break_even(1.0, 0.6)))


def test_ski_rental():
    # Owning costs what 7 months of renting do. Knowing the season, one pays min(season, 7); who
    # rents until it is as dear as owning pays 2 - 1/7 times that at the worst.
    owning, ratios = 7, []
    contract = units("skis", term_months=20, upfront_usd=730.0 * owning, beyond="paid")
    for season in (3, 7, 12):
        demand = (np.arange(12) < season).astype(float).reshape(1, 12, 1, 1)
        answer = solve(problem(demand, options=(option(),), contracts=(contract,)), gap=TIGHT)
        assert answer.cost_usd == pytest.approx(730 * min(season, owning), **NEAR)
        online = season if season < owning else owning - 1 + owning
        ratios.append(730 * online / answer.cost_usd)
    assert max(ratios) == pytest.approx(2 - 1 / owning, **NEAR)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("by", ["region", "vendor"])
def test_redundancy_over_symmetric_places_needs_k_over_k_minus_one(count, by):
    load = 12.0
    options = tuple(option(f"o{n}", price=9.0, **{by: f"place {n}"}) for n in range(count))
    contracts = tuple(units(f"c{n}", n, term_months=1, monthly_usd=100.0) for n in range(count))
    rule = Redundancy(by=by, demand=np.full((1, 1), load))
    fields = {"options": options, "contracts": contracts, "redundancy": (rule,)}
    answer = solve(problem(np.full((1, 1, 1, 1), load), **fields), gap=TIGHT)
    assert bought(answer) == pytest.approx(count * load / (count - 1), **NEAR)


def spend(**fields):
    plain = {
        "name": "deal",
        "program": "deal",
        "vendor": "v",
        "options": (0,),
        "rate_usd_per_h": (1.0,),
        "commitment_usd": (7300.0,),
        "period_months": 1,
        "headroom": INF,
    }
    return SpendContract(**{**plain, **fields})


@pytest.mark.parametrize("use", [3.0, 10.0, 14.0])
def test_take_or_pay_bills_the_larger_of_commitment_and_use(use):
    answer = solve(
        problem(np.full((1, 1, 1, 1), use), options=(option(price=5.0),), contracts=(spend(),)),
        gap=TIGHT,
    )
    bill = take_or_pay_bill(7300.0, 730 * use)
    assert answer.cost_usd == pytest.approx(min(bill, 5.0 * 730 * use), **NEAR)


@pytest.mark.parametrize(
    "fields",
    [{}, {"excess_carried": 0.6}, {"shortfall_credit": 0.5}],
    ids=["plain", "excess carried", "shortfall credited"],
)
def test_drawdown_bills_shortfall_after_what_is_carried(fields):
    use = np.array([4.0, 16.0, 9.0, 13.0, 20.0])
    deal = spend(commitment_usd=(7300.0, 7300.0, 9000.0, 9000.0, 9000.0), **fields)
    case = problem(use.reshape(1, 5, 1, 1), options=(option(price=50.0),), contracts=(deal,))
    answer = solve(case, gap=TIGHT)
    bills = drawdown_bills(deal, (730 * use).tolist())
    assert answer.cost_usd == pytest.approx(bills.sum(), **NEAR)
    if fields.get("shortfall_credit"):
        return  # what a credit pays can as well be wasted
    (books,) = answer.spend
    assert books.spend_usd[0] == pytest.approx(730 * use, **NEAR)


def test_tiers_of_spend_and_of_units():
    use = np.array([4.0, 12.0, 30.0])
    tiers = (Tier(above=5000.0, factor=0.8), Tier(above=12000.0, factor=0.6))
    deal = spend(commitment_usd=(0.0, 0.0, 0.0), tiers=tiers)
    case = problem(use.reshape(1, 3, 1, 1), options=(option(price=50.0),), contracts=(deal,))
    expected = sum(tiers_bill(730 * one, tiers) for one in use)
    assert solve(case, gap=TIGHT).cost_usd == pytest.approx(expected, **NEAR)

    steps = (Tier(above=5.0, factor=0.8), Tier(above=8.0, factor=0.5))
    racks = units(term_months=1, monthly_usd=100.0, tiers=steps)
    case = problem(np.full((1, 1, 1, 1), 11.0), options=(option(price=9.0),), contracts=(racks,))
    assert solve(case, gap=TIGHT).cost_usd == pytest.approx(100 * tiers_bill(11.0, steps), **NEAR)


def test_dollars_are_applied_where_they_save_most_as_the_bill_does():
    # Two classes that only one option each can serve, so that the use of both is given.
    prices, rates, use = (2.0, 3.0), (1.5, 1.2), (4.0, 5.0)
    options = (
        option("a", price=prices[0], work=(1.0, 0.0)),
        option("b", price=prices[1], work=(0.0, 1.0)),
    )
    for dollars in (0.0, 4.0, 7.5, 30.0):
        plan = DollarContract(
            name="plan", program="1y", vendor="v", options=(0, 1), rate_usd_per_h=rates,
            term_months=1, most=dollars,
        )  # fmt: skip
        case = problem(np.array(use).reshape(1, 1, 1, 2), options=options, contracts=(plan,))
        answer = solve(case, gap=TIGHT)
        spent = bought(answer)
        bill = dollars_bill(spent, use, prices, rates)
        assert answer.cost_usd == pytest.approx(730 * bill, **NEAR)
        others = [dollars_bill(d, use, prices, rates) for d in np.linspace(0, dollars, 9)]
        assert bill == pytest.approx(min(bill, *others), **NEAR)


def test_capacity_without_price_and_price_without_capacity_add_up():
    # On demand there are 6 of the 10 units asked for. A reservation holds units at the on-demand
    # price, a plan of dollars discounts them; neither does alone what both do together.
    reserve = units("reserve", at_on_demand=True, term_months=1)
    plan = DollarContract(
        name="plan", program="1y", vendor="v", options=(0,), rate_usd_per_h=(0.7,), term_months=1
    )
    limited = option(on_demand_limit=6.0)
    demand, fields = np.full((1, 1, 1, 1), 10.0), {"options": (limited,), "unmet_usd_per_h": [50.0]}
    fields["unmet_usd_per_h"] = np.array([50.0])
    costs = {
        "neither": 730 * (6 + 50 * 4),
        "price": 730 * (6 * 0.7 + 50 * 4),
        "capacity": 730 * 10,
        "both": 730 * 10 * 0.7,
    }
    chosen = {"neither": (), "price": (plan,), "capacity": (reserve,), "both": (reserve, plan)}
    for name, contracts in chosen.items():
        answer = solve(problem(demand, contracts=contracts, **fields), gap=TIGHT)
        assert answer.cost_usd == pytest.approx(costs[name], **NEAR), name


def test_units_of_megawatts_are_units_of_so_many_machines():
    megawatt = units("MW", per_unit=40.0, whole=True, term_months=1, monthly_usd=20_000.0)
    case = problem(np.full((1, 1, 1, 1), 100.0), options=(option(),), contracts=(megawatt,))
    answer = solve(case, gap=TIGHT)
    # 2 MW serve 80; the last 20 are cheaper on demand (14,600) than a third MW (20,000).
    assert bought(answer) == 2
    assert answer.cost_usd == pytest.approx(2 * 20_000 + 20 * 730, **NEAR)


def turned(**rights) -> tuple[float, tuple[Used, ...]]:
    """Return cost and rights used where demand stays, or ends after the first of four months."""
    demand = np.array([[10.0, 10.0, 10.0, 10.0], [10.0, 0.0, 0.0, 0.0]]).reshape(2, 4, 1, 1)
    contract = units(**{"term_months": 4, "monthly_usd": 365.0, **rights})
    answer = solve(problem(demand, options=(option(),), contracts=(contract,)), gap=TIGHT)
    return answer.cost_usd, answer.rights


def test_rights_are_worth_what_their_scenario_saves():
    fee, exit_usd = 365.0, 200.0
    assert turned()[0] == pytest.approx(10 * 4 * fee, **NEAR)
    cost, (sold,) = turned(rights=(Right(kind="sell", months=(2,), usd=-exit_usd),))
    assert (sold.scenario, sold.month, sold.units) == (1, 2, pytest.approx(10.0, **NEAR))
    assert cost == pytest.approx(10 * (2 * fee + (2 * fee + exit_usd) / 2), **NEAR)
    longer = Right(kind="extend", term_months=2, monthly_usd=fee * 1.1)
    cost, (extended,) = turned(term_months=2, rights=(longer,))
    assert (extended.scenario, extended.month) == (0, 2)
    assert cost == pytest.approx(10 * (2 * fee + 2 * 1.1 * fee / 2), **NEAR)


def test_nobody_sells_for_what_has_not_been_seen():
    # When the second month begins both scenarios have had the same demand.
    cost, used = turned(rights=(Right(kind="sell", months=(1,), usd=-200.0),))
    assert cost == pytest.approx(turned()[0], **NEAR)
    assert not used
    demand = np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 3.0], [1.0, 1.0, 3.0]]).reshape(3, 3, 1, 1)
    price = np.array([[2.0, 2.0, 2.0], [2.0, 2.0, 2.0], [2.0, 1.0, 2.0]])
    told = seen(problem(demand, options=(option(price=price),)))
    # Prices of a month are known when it begins, its demand is not.
    assert told.tolist() == [[0, 0, 0], [0, 0, 0], [0, 2, 2]]


def test_exchange_into_a_next_generation_that_is_better_in_one_scenario():
    demand = np.full((2, 4, 1, 1), 10.0)
    better = np.array([[0.0, 0.0, 2.0, 2.0], [0.0] * 4])
    options = (option("old", price=3.0), option("new", price=INF, output=better))
    fee = 730.0
    swap = Right(kind="exchange", months=(2,), option=1, ratio=0.5, usd=0.0, monthly_usd=fee * 0.4)
    contract = units(term_months=4, monthly_usd=fee, rights=(swap,))
    answer = solve(problem(demand, options=options, contracts=(contract,)), gap=TIGHT)
    (used,) = answer.rights
    assert (used.scenario, used.month) == (0, 2)
    assert answer.cost_usd == pytest.approx(10 * fee * (4 + 2 + 2 * 0.4) / 2, **NEAR)


@pytest.mark.parametrize(
    ("beyond", "counted"), [("prorated", 60.0), ("owed", 120.0 + 3 * 50.0), ("paid", 120.0)]
)
def test_terms_beyond_the_horizon_count_as_they_say(beyond, counted):
    # 6 months of term, 3 of them in sight: 120 upfront and 50 a month, 10 of salvage.
    owned = units(
        term_months=6, upfront_usd=120.0, monthly_usd=50.0, salvage_usd=10.0, beyond=beyond
    )
    case = problem(np.ones((1, 3, 1, 1)), options=(option(price=99.0),), contracts=(owned,))
    answer = solve(case, gap=TIGHT)
    assert answer.cost_usd == pytest.approx(counted + 3 * 50.0 - 10.0, **NEAR)
